"""Quantizers and code heads against the fastest plain form known; prints ratios measured in one run.

python scripts/bench/codebooks.py                      # 8 levels × 8192 codes × 128 dims: some minutes on a core
python scripts/bench/codebooks.py --codes 1024 --vectors 2048
python scripts/bench/codebooks.py --device cuda
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from neurofm.nn.code_heads import CodeHeads
from neurofm.nn.quantize import ResidualQuantizer


def median_s(step: Callable[[], object], *, repeats: int, device: str) -> float:
    """Median time of a step after one to warm up."""
    taken = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return sorted(taken[1:])[repeats // 2]


def quantizers(o: argparse.Namespace) -> None:
    """Encode and update, no gradient: ours and vector-quantize-pytorch with the same start, decay and commitment."""
    from vector_quantize_pytorch import ResidualVQ

    torch.manual_seed(0)
    x = torch.randn(o.vectors, o.dim, device=o.device)
    # neither restarts codes, starts by k-means, or drops levels: the work is nearest codes, means, losses
    theirs = ResidualVQ(
        dim=o.dim, num_quantizers=o.levels, codebook_size=o.codes, decay=0.99, kmeans_init=False,
        threshold_ema_dead_code=0,
    ).to(o.device)  # fmt: skip
    ours = ResidualQuantizer(o.dim, n_codes=o.codes, n_levels=o.levels, restart_below=0.0).to(o.device)
    for level, layer in zip(ours.levels, theirs.layers, strict=True):
        level.codes.copy_(layer._codebook.embed[0])
        level.total.copy_(torch.cat([level.codes, torch.ones_like(level.codes[:, :1])], 1))
    same = (ours.eval()(x).code == theirs.eval()(x[None])[1][0]).all(1).float().mean()
    ours.train(), theirs.train()
    print(f"{o.vectors} vectors × {o.dim}, {o.levels} levels of {o.codes} codes on {o.device}; same codes: {same:.2%}")
    seconds = {
        "vector-quantize-pytorch": median_s(lambda: theirs(x[None]), repeats=o.repeats, device=o.device),
        "neurofm": median_s(lambda: ours(x), repeats=o.repeats, device=o.device),
    }
    for name, s in seconds.items():
        print(f"  {name:<24} {1e3 * s:9.1f} ms   {o.vectors / s:10.0f} vectors/s")
    print(f"  ratio {seconds['vector-quantize-pytorch'] / seconds['neurofm']:.2f} (above 1: ours is faster)")


def status_bytes(field: str) -> int:
    """A line of /proc/self/status in bytes."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(field))
    return int(line.split()[1]) * 1024


def heads_peak(levels: int, o: argparse.Namespace, plain: bool) -> float:
    """Megabytes that one step of the heads takes beyond its weights, their gradients and the codes."""
    torch.manual_seed(0)
    heads = CodeHeads(200, sizes=(o.codes,) * levels).to(o.device)
    tokens = torch.randn(o.vectors, 200, device=o.device, requires_grad=True)
    code = torch.randint(o.codes, (o.vectors, levels), device=o.device)
    if o.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        # Linux: the peak counts from here
        Path("/proc/self/clear_refs").write_text("5")
        before = status_bytes("VmRSS")
    if plain:
        loss = sum(torch.nn.functional.cross_entropy(heads.logits(tokens, k), code[:, k]) for k in range(levels))
        loss.backward()
    else:
        heads(tokens, code)[0].sum().backward()
    after = torch.cuda.max_memory_allocated() if o.device == "cuda" else status_bytes("VmHWM")
    # the gradient of the weights is as large as they are, whatever the method
    return max(0.0, after - before - heads.weight.nbytes) / 2**20


def memory(o: argparse.Namespace) -> None:
    """Peak of a step by number of codebooks, each in a process of its own."""
    print(f"memory of a step, {o.vectors} tokens, beyond weights and their gradients (MB)")
    for levels in (1, 4, 8, 32) if o.device == "cuda" else (1, 4, 8):
        shown = []
        for way in ("chunked", "plain"):
            words = [sys.executable, __file__, "--one", f"{levels}", way, "--device", o.device]
            words += ["--codes", f"{o.codes}", "--vectors", f"{o.vectors}"]
            shown.append(
                f"{way} {float(subprocess.run(words, capture_output=True, text=True, check=True).stdout):8.1f}"
            )
        print(f"  {levels:3d} codebooks: {'   '.join(shown)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=4096)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--codes", type=int, default=8192)
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.one:
        print(heads_peak(int(o.one[0]), o, o.one[1] == "plain"))
        return
    quantizers(o)
    memory(o)


if __name__ == "__main__":
    main()
