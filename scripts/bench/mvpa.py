"""Multivariate parallel attention against its plain form: time, memory, share of the matmul peak, growth.

    python scripts/bench/mvpa.py                  # a CPU: about five minutes on two quiet cores, 8 GB of memory
    python scripts/bench/mvpa.py --device cuda    # one CUDA device: bfloat16, layers of the sizes S and M

One forward and backward pass of one layer, float32, 2 threads, width 256, 8 heads, one sample. Every CPU case runs in
a process of its own: peak memory less what is resident once the inputs are allocated, from the first pass; then times.
Plain and ours take turns and the least of all passes counts, because other work on the machine can only add. On a busy
machine even the least is an upper bound, and two threads wait for each other: see the load that is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from plain_mvpa import PlainMVPA
from torch import nn

from neurofm.nn.mvpa import MultivariateParallelAttention

DIM, N_HEADS, WINDOW = 256, 8, 10
SIZES = [(16, 16), (64, 32), (128, 64)]  # channels × segments
BARS = {(16, 16): (0.95, 0.95), (64, 32): (4, 2), (128, 64): (8, 6)}  # plain ÷ ours: time, memory
GROWTH = [(16, 16), (32, 32), (64, 32), (64, 64), (128, 64), (128, 100), (250, 100)]
LAYERS = {"S": dict(dim=768, n_heads=12, n_kv_heads=4), "M": dict(dim=2048, n_heads=16, n_kv_heads=8)}
CUDA_SIZES = [(1, 64, 25), (8, 64, 25), (1, 128, 64)]  # batch × channels × segments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="turns that plain and ours take (default: 3)")
    parser.add_argument("--threads", type=int, default=2, help="threads of a CPU case (default: 2)")
    parser.add_argument("--quick", action="store_true", help="leave out 128 × 64 and the growth beyond 64 × 64")
    parser.add_argument("--case", nargs=3, metavar=("FORM", "C", "T"), help="what one process measures (internal)")
    chosen = parser.parse_args()
    if chosen.case:
        form, n_channels, n_segments = chosen.case
        print(json.dumps(measure_case(form, int(n_channels), int(n_segments), chosen.threads)))
    elif chosen.device == "cuda":
        report_cuda()
    else:
        report_cpu(rounds=chosen.rounds, threads=chosen.threads, quick=chosen.quick)


def report_cpu(*, rounds: int, threads: int, quick: bool) -> None:
    """Print both tables."""
    torch.set_num_threads(threads)
    peak = matmul_peak(torch.device("cpu"), torch.float32, 2048)
    load = os.getloadavg()[0]
    print(f"torch {torch.__version__}, {threads} threads of {os.cpu_count()} cores, load {load:.1f} at the start")
    print(f"matmul peak {peak / 1e9:.0f} GFLOP/s (float32, 2048³, least of 10)")
    if load > 0.5:
        print("the machine is busy with other work: times are upper bounds, and ratios uncertain")
    heads = (
        "channels × segments",
        "plain s",
        "ours s",
        "ratio",
        "bar",
        "plain MB",
        "ours MB",
        "ratio",
        "bar",
        "peak %",
    )
    print("\n" + " | ".join(heads))
    sizes = SIZES[:2] if quick else SIZES
    for size in sizes:
        turns: dict[str, list[dict[str, float]]] = {"plain": [], "auto": []}
        for _ in range(rounds):
            for form, results in turns.items():
                results.append(run_case(form, size, threads))
        best = {form: least(results) for form, results in turns.items()}
        plain, ours = best["plain"], best["auto"]
        share = 100 * needed_flops(1, *size, DIM, N_HEADS, N_HEADS) / ours["seconds"] / peak
        row = (f"{size[0]} × {size[1]}", f"{plain['seconds']:.4f}", f"{ours['seconds']:.4f}")
        row += (f"{plain['seconds'] / ours['seconds']:.2f}", f"≥ {BARS[size][0]}")
        row += (f"{plain['mb']:.0f}", f"{ours['mb']:.0f}", f"{plain['mb'] / ours['mb']:.2f}", f"≥ {BARS[size][1]}")
        print(" | ".join((*row, f"{share:.0f}")), flush=True)
    print("\nchannels × segments | tokens | s | MB | µs per token | kB per token")
    for size in GROWTH[:4] if quick else GROWTH:
        ours, tokens = run_case("auto", size, threads), size[0] * size[1]
        per_token = f"{ours['seconds'] / tokens * 1e6:.1f} | {ours['mb'] / tokens * 1e3:.1f}"
        print(f"{size[0]} × {size[1]} | {tokens} | {ours['seconds']:.4f} | {ours['mb']:.0f} | {per_token}", flush=True)


def run_case(form: str, size: tuple[int, int], threads: int) -> dict[str, float]:
    """Measure one case in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads), "--case", form, *map(str, size)]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        sys.exit(f"{form} {size[0]} × {size[1]} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def least(results: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of every figure."""
    return {key: min(result[key] for result in results) for key in results[0]}


def measure_case(form: str, n_channels: int, n_segments: int, threads: int) -> dict[str, float]:
    """Return the peak memory of the first pass, in MB, and the least time of several, in seconds."""
    torch.set_num_threads(threads)
    step = passes(form, 1, n_channels, n_segments, DIM, dict(n_heads=N_HEADS), torch.device("cpu"), torch.float32)
    before_mb = start_memory()
    step()
    peak_mb = peak_memory()
    best, spent, n_done = float("inf"), 0.0, 0
    while n_done < 2 or (spent < 2 and n_done < 200):
        start = time.perf_counter()
        step()
        seconds = time.perf_counter() - start
        best, spent, n_done = min(best, seconds), spent + seconds, n_done + 1
    return {"seconds": best, "mb": peak_mb - before_mb}


def passes(
    form: str, B: int, C: int, T: int, dim: int, heads: dict[str, int], device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """Return a function that makes one forward and one backward pass, gradients of all inputs and parameters included.

    `form` is ``plain`` or a backend of ours.
    """
    torch.manual_seed(0)
    layer: nn.Module
    if form == "plain":
        layer = PlainMVPA(dim, **heads, content_window=WINDOW)
    else:
        layer = MultivariateParallelAttention(dim, **heads, content_window=WINDOW, backend=form)
    layer.to(device, dtype)
    tokens, weight = (torch.randn(B, T, C, dim, device=device, dtype=dtype) for _ in range(2))
    tables = [torch.randn(rows, dim, device=device, dtype=dtype) for rows in (T, C)]
    leaves = [x.requires_grad_() for x in (tokens, *tables)]

    def step() -> None:
        for leaf in (*leaves, *layer.parameters()):
            leaf.grad = None
        layer(*leaves).backward(weight)

    return step


def start_memory() -> float:
    """Forget the peak so far, where the system can, and return the resident size in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status_mb("VmRSS")
    except OSError:
        return peak_memory()


def peak_memory() -> float:
    """Return the peak of the resident size in MB."""
    try:
        return _status_mb("VmHWM")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kB, but bytes on macOS
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _status_mb(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return int(found[1]) / 2**10


def matmul_peak(device: torch.device, dtype: torch.dtype, n: int) -> float:
    """Return the floating-point operations per second of an n × n product, the best of ten."""
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(11):
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def needed_flops(B: int, C: int, T: int, dim: int, n_heads: int, n_kv_heads: int) -> float:
    """Count the operations of all products that the equations ask for, forward and twice that backward.

    Content of the pairs inside the window (all, for the last segment), values of all causal pairs, time and channel
    terms, projections. What a form computes beyond that, or again, does not count.
    """
    near = sum(min(t, WINDOW) + 1 for t in range(T - 1)) + T
    causal = T * (T + 1) // 2
    pairs = (near + causal) * C * C * dim
    terms = T * C * dim * (T + C)
    projections = T * C * dim * dim * (2 + 2 * n_kv_heads / n_heads)
    return 3 * 2 * B * (pairs + terms + projections)


def report_cuda() -> None:
    """Print the table of a CUDA device."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device: run without --device cuda for the CPU table")
    device = torch.device("cuda")
    peak = matmul_peak(device, torch.bfloat16, 8192)
    print(f"matmul peak {peak / 1e12:.0f} TFLOP/s (bfloat16, 8192³, best of 10)")
    print("\nsize | batch × channels × segments | form | ms | tokens/s | peak % | MB")
    for name, layer in LAYERS.items():
        heads = {key: n for key, n in layer.items() if key != "dim"}
        for B, C, T in CUDA_SIZES:
            flops = needed_flops(B, C, T, layer["dim"], layer["n_heads"], layer["n_kv_heads"])
            for form in ("plain", "math", "sdpa", "flex"):
                row = f"{name} | {B} × {C} × {T} | {form}"
                try:
                    seconds, mb = measure_cuda(passes(form, B, C, T, layer["dim"], heads, device, torch.bfloat16))
                except torch.cuda.OutOfMemoryError:
                    print(f"{row} | out of memory", flush=True)
                    continue
                share = 100 * flops / seconds / peak
                print(f"{row} | {seconds * 1e3:.2f} | {B * C * T / seconds:.0f} | {share:.1f} | {mb:.0f}", flush=True)


def measure_cuda(step: Callable[[], None]) -> tuple[float, float]:
    """Return the median time of ten passes, in seconds, and the peak memory of one in MB, without what was there."""
    for _ in range(3):  # compilation, choice of kernels, clocks
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    times_ms = []
    for _ in range(10):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        torch.cuda.synchronize()
        times_ms.append(start.elapsed_time(end))
    return sorted(times_ms)[5] / 1e3, (torch.cuda.max_memory_allocated() - before) / 2**20


if __name__ == "__main__":
    main()
