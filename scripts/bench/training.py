"""What a training costs beside its arithmetic: two measurements, each printed beside what it must reach.

    python scripts/bench/training.py            # both, a few minutes on two cores
    python scripts/bench/training.py --steps 10 --rounds 1 --no-start   # quick

1. Step time of `fit` over shards (Lightning, loader, guard, meter, metrics) against a bare loop on one batch in memory
   that does the same arithmetic: forward, backward, clipping, AdamW, schedule. At a step of 50 ms or more: at most 8 %.
2. From the command `neurofm train` to its first step, imports included: under 10 s. On a corpus of your own with
   --start, e.g. --start "experiment=hcp7_masked held_out=101309".
"""

from __future__ import annotations

import argparse
import copy
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
MOST_OVERHEAD, LEAST_STEP_S, MOST_START_S = 1.08, 0.05, 10.0
SOURCE = dict(n_subjects=3, n_channels=32, n_sources=4, duration_s=120, rate_hz=100, noise=0.3, n_trials=0)
MODEL = dict(
    patch_samples=20, dim=96, n_layers=3, n_heads=4, n_kv_heads=4, ffn_dim=192, dropout=0.0, causal=False,
    mask_token=True, n_channels=40,
)  # fmt: skip
TASK = dict(window_s=1.0, windows="sliding")


class Clocked:
    """A loader that notes when each batch is asked for."""

    def __init__(self, loader: Any, clock: Callable[[], float]) -> None:
        self.loader, self.clock, self.asked = loader, clock, []

    def __len__(self) -> int:
        return len(self.loader)

    def state_dict(self) -> dict:
        """Return the loader's own."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Hand it to the loader."""
        self.loader.load_state_dict(state)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            self.asked.append(self.clock())
            batch = next(batches, None)
            if batch is None:
                self.asked.pop()
                return
            yield batch


def prepare(folder: Path) -> Path:
    """Write a simulated corpus."""
    source = [f"dataset.source.{k}={v}" for k, v in SOURCE.items()]
    words = ["prep", "dataset=simulated", "dask=none", f"out={folder}/shards", *source]
    subprocess.run(
        [sys.executable, "-m", "neurofm.cli.main", *words], check=True, stdout=subprocess.DEVNULL, cwd=folder
    )
    return folder / "shards"


def assembled(shards: Path, batch_size: int, steps: int) -> Any:
    from neurofm.training.assemble import assemble

    split = dict(rule="new_subject", subject="03", budgets_s={"20": 20}, test_s=40, gap_s=1, validation_fraction=0.0)
    return assemble(
        data=dict(path=str(shards), split=split, transforms=[{"name": "standardize"}], preload=True), task=TASK,
        model_name="mvpformer", model_choices=MODEL, objective_name="masked_region",
        objective_choices={"hide_fraction": [0.1, 0.3]}, optim={"warmup_steps": 2}, trainer={"max_steps": steps}, seed=0,
        batch_size=batch_size,
    )  # fmt: skip


def bare(parts: Any, steps: int, clock: Callable[[], float]) -> list[float]:
    """Seconds of each step of a plain loop on one batch."""
    import torch

    from neurofm.training.seeds import torch_generator

    module = copy.deepcopy(parts.module).train()
    batch = next(
        iter(parts.corpus.loader("pretrain", parts.facts, batch_size=parts.batch_size, seed=0, training=False))
    )
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    times = []
    for step in range(steps):
        started = clock()
        loss = module.loss(batch, torch_generator(0, "mask", step))
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        times.append(clock() - started)
    return times


def ours(parts: Any, steps: int, folder: Path, clock: Callable[[], float]) -> list[float]:
    """Seconds of each step of `fit`, from one batch being asked for to the next."""
    from neurofm.training.fit import fit
    from neurofm.training.run import RunFolder

    loader = Clocked(
        parts.corpus.loader("pretrain", parts.facts, batch_size=parts.batch_size, seed=0, training=True), clock
    )
    fit(module=copy.deepcopy(parts.module), loader=loader, run=RunFolder(folder), max_steps=steps, progress=False,
        checkpoint_every=10 * steps)  # fmt: skip
    return [b - a for a, b in zip(loader.asked, loader.asked[1:], strict=False)]


def overhead(shards: Path, *, batch_size: int, steps: int, rounds: int, clock: Callable[[], float]) -> float:
    parts = assembled(shards, batch_size, steps)
    ratios = []
    for i in range(rounds):
        skip = min(3, steps // 3)  # buffers are made in the first steps
        with tempfile.TemporaryDirectory() as folder:
            plain = bare(parts, steps, clock)[skip:]
            full = ours(parts, steps, Path(folder) / "run", clock)[skip:]
            # once more, so that a machine that grows slower meanwhile counts for neither
            plain += bare(parts, steps, clock)[skip:]
        ratios.append(statistics.mean(full) / statistics.mean(plain))
        print(
            f"  round {i + 1}: bare {1e3 * statistics.mean(plain):.1f} ms, fit {1e3 * statistics.mean(full):.1f} ms, "
            f"ratio {ratios[-1]:.3f} (of medians {statistics.median(full) / statistics.median(plain):.3f})"
        )
        if statistics.mean(plain) < LEAST_STEP_S:
            print(f"  a step is under {1e3 * LEAST_STEP_S:.0f} ms: raise --batch-size")
    return statistics.median(ratios)


def start(folder: Path, words: list[str]) -> float:
    """Seconds from the command to the first row of metrics."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    words = ["train", *words, f"run_dir={run}", "trainer.max_steps=2", "trainer.log_every=1", "trainer.progress=false"]
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "neurofm.cli.main", *words], stdout=subprocess.DEVNULL)
    try:
        while not (run / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.005)
        return time.perf_counter() - started
    finally:
        if process.wait():
            raise SystemExit(f"the training failed: neurofm {shlex.join(words)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16, help="windows per step")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: this process's own time, where others work too"
    )
    parser.add_argument("--start", help="arguments of neurofm train whose start is timed; default a simulated corpus")
    parser.add_argument("--no-start", action="store_true", help="leave out the second measurement")
    choice = parser.parse_args()
    os.environ["PYTHONPATH"] = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    sys.path.insert(0, str(ROOT))
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = prepare(folder)
        ratio = overhead(
            shards, batch_size=choice.batch_size, steps=choice.steps, rounds=choice.rounds, clock=CLOCKS[choice.clock]
        )
        missed += ratio > MOST_OVERHEAD
        print(f"step time, fit / bare loop: {ratio:.3f} (at most {MOST_OVERHEAD})")
        if not choice.no_start:
            own = [
                "data=simulated", f"data.path={shards}", "held_out=03", "task=windows_1s", "objective=masked_region",
                "model.causal=false", "+model.mask_token=true", "model.patch_samples=20",
            ]  # fmt: skip
            words = shlex.split(choice.start) if choice.start else own
            seconds = [start(folder, words) for _ in range(3)]
            missed += min(seconds) > MOST_START_S
            shown = ", ".join(f"{s:.1f}" for s in seconds)
            print(f"command to first step: {min(seconds):.1f} s of {shown} (under {MOST_START_S:.0f} s)")
    return missed


if __name__ == "__main__":
    sys.exit(main())
