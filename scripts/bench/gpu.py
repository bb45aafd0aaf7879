"""One CUDA device, bfloat16: the attention's roads and whole training steps at the sizes S and M, as one Markdown table.

    python scripts/bench/gpu.py                  # scripts/gpu_check.sh runs it, after the tests
    python scripts/bench/gpu.py --dry-run        # tiny sizes on the CPU: does everything run?

Attention: one layer, forward and backward. Training: MVPFormer by contrastive next-state prediction, forward, backward
and AdamW, weights in float32 under autocast. Median of ten after three; memory is the peak of one without what was there
before. Share of the peak: the operations that the equations ask for, a second ÷ those of a matrix product measured here.
What is not begun by --limit-s is left out, and says so.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from mvpa import CUDA_SIZES, LAYERS, matmul_peak, measure_cuda, needed_flops, passes

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
ROADS = ("plain", "math", "sdpa", "flex")
# batch × channels × segments of a training step; M with its optimiser fills about 30 GB before the first activation
TRAINING = {"S": (4, 64, 25), "M": (2, 64, 25)}
TINY_LAYER = dict(dim=64, n_heads=4, n_kv_heads=2)
Case = tuple[str, str, tuple[int, int, int], str, Callable[[], Callable[[], None]], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes on the CPU, figures without meaning")
    parser.add_argument(
        "--limit-s", type=float, default=300.0, help="begin no further case after so long (default: 300)"
    )
    chosen = parser.parse_args()
    if not chosen.dry_run and not torch.cuda.is_available():
        sys.exit("no CUDA device here: --dry-run shows on a CPU that everything runs")
    device = torch.device("cpu" if chosen.dry_run else "cuda")
    started = time.perf_counter()
    peak = matmul_peak(device, torch.bfloat16, 256 if chosen.dry_run else 8192)
    print(f"matmul peak {peak / 1e12:.1f} TFLOP/s (bfloat16)\n")
    print("| what | size | batch × channels × segments | road | ms | tokens/s | peak % | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    failed = 0
    for what, size, (B, C, T), road, build, flops in cases(device, tiny=chosen.dry_run):
        row = f"| {what} | {size} | {B} × {C} × {T} | {road} |"
        if time.perf_counter() - started > chosen.limit_s:
            print(f"{row} left out: time is up | | | |", flush=True)
            continue
        try:
            seconds, mb = measure_cpu(build()) if chosen.dry_run else measure_cuda(build())
        except torch.cuda.OutOfMemoryError:
            print(f"{row} out of memory | | | |", flush=True)
        except RuntimeError as error:  # a road that does not compile here must not hide the others
            failed += 1
            print(f"{row} failed: {str(error).splitlines()[0][:90]} | | | |", flush=True)
        else:
            tokens = B * C * T / seconds
            print(
                f"{row} {seconds * 1e3:.2f} | {tokens:.0f} | {100 * flops / seconds / peak:.1f} | {mb:.0f} |",
                flush=True,
            )
        gc.collect()
        if device.type == "cuda":
            torch.compiler.reset()  # each case is a shape of its own, and no more than eight are compiled of one function
            torch.cuda.empty_cache()
    return min(failed, 1)


def cases(device: torch.device, *, tiny: bool) -> Iterator[Case]:
    """Yield what is measured; flex, which takes long to compile, after the rest."""
    layers = {"tiny": TINY_LAYER} if tiny else LAYERS
    shapes = [(2, 4, 14)] if tiny else CUDA_SIZES
    for roads in (ROADS[:-1], ROADS[-1:]):
        if tiny and roads == ("flex",):
            continue  # has no kernel on a CPU
        for size, layer in layers.items():
            heads = {key: n for key, n in layer.items() if key != "dim"}
            for B, C, T in shapes:
                for road in roads:
                    yield (
                        "attention", size, (B, C, T), road,
                        _bind(passes, road, B, C, T, layer["dim"], heads, device, torch.bfloat16),
                        needed_flops(B, C, T, layer["dim"], layer["n_heads"], layer["n_kv_heads"]),
                    )  # fmt: skip
        for size in ["tiny"] if tiny else list(TRAINING):
            choices = model_choices(size)
            B, C, T = (2, 4, 3) if tiny else TRAINING[size]
            for road in ("auto", "sdpa") if roads != ("flex",) else roads:
                built = _bind(training_step, choices, B, C, T, road, device)
                yield "training", size, (B, C, T), road, built, training_flops(choices, B, C, T)


def _bind(function: Callable[..., Any], *given: Any) -> Callable[[], Any]:
    return lambda: function(*given)


def model_choices(size: str) -> dict[str, Any]:
    """Return the published sizes from conf/model/; without PyWavelets, with a linear map of the samples for tokenizer."""
    name = "mvpformer_s" if size == "tiny" else f"mvpformer_{size.lower()}"
    choices = {k: v for k, v in yaml.safe_load((CONF / f"{name}.yaml").read_text()).items() if k != "name"}
    if size == "tiny":
        choices |= dict(dim=64, n_layers=1, n_heads=4, n_kv_heads=2, ffn_dim=96)
    try:
        import pywt  # noqa: F401
    except ImportError:
        choices["tokenizer"] = "linear_patch"
    return choices


def training_step(
    choices: dict[str, Any], B: int, C: int, T: int, road: str, device: torch.device
) -> Callable[[], None]:
    """Return a function that makes one step of pretraining on random windows."""
    torch.manual_seed(0)
    rate_hz, patch_s = 512.0, choices["patch_s"]
    facts = Facts(rate_hz=rate_hz, window_s=T * patch_s, max_channels=C)
    model = MODELS.build("mvpformer", facts, **choices, backend=road).to(device)
    objective = OBJECTIVES.build("next_state", model, facts).to(device)
    parameters = [*model.parameters(), *objective.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, fused=device.type == "cuda")
    n_samples = round(T * patch_s * rate_hz)
    batch = NeuralBatch(
        signal=torch.randn(B, C, n_samples, device=device),
        channel_mask=torch.ones(B, C, dtype=torch.bool, device=device),
        time_mask=torch.ones(B, n_samples, dtype=torch.bool, device=device),
        rate_hz=rate_hz,
    )

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            total = objective(model, batch).total
        total.backward()
        optimiser.step()

    return step


def training_flops(choices: dict[str, Any], B: int, C: int, T: int) -> float:
    """Count the products of a step: attention as its bench does, feed-forward layers, tokenizer and head."""
    dim, tokens = choices["dim"], B * C * T
    layer = needed_flops(B, C, T, dim, choices["n_heads"], choices["n_kv_heads"])
    layer += 3 * 2 * tokens * 3 * dim * choices["ffn_dim"]
    n_features = round(choices["patch_s"] * 512)
    # no gradient goes to the tokenizer's input
    return choices["n_layers"] * layer + 2 * 2 * tokens * n_features * dim + 3 * 2 * tokens * dim * dim


def measure_cpu(step: Callable[[], None]) -> tuple[float, float]:
    """Return the time of one pass after another; memory is not measured."""
    step()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start, float("nan")


if __name__ == "__main__":
    sys.exit(main())
