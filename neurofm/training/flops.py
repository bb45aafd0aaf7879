"""Operations of a training step, and what this machine can do at best."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from neurofm.schema.batch import NeuralBatch


class _Counter(TorchDispatchMode):
    """Adds up what torch's own table says of each operation; without torch's tracker of modules, which needs gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def step_flops(module: nn.Module, batch: NeuralBatch) -> float:
    """Count the floating-point operations of a training step on `batch`: those of the forward pass, three times.

    The backward pass does twice the forward's (Chowdhery et al. 2022, "PaLM", appendix B); what activation
    checkpointing does again is not counted. The pass is one of its own, in evaluation mode and without gradient:
    torch takes other roads while it is being watched, so watching a step of the training would change its bits.

    Parameters
    ----------
    module : nn.Module
        A `NeuroModule`; left as it was.
    batch : NeuralBatch
    """
    training = [m for m in module.modules() if m.training]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _Counter() as counter:
            module.forward_only(batch)  # type: ignore[operator]
    finally:
        for m in training:
            m.training = True
    return 3 * counter.total


def dtype_of(precision: str) -> torch.dtype:
    """Return the number format in which products are made under one of Lightning's precisions."""
    if precision.startswith("bf16"):
        return torch.bfloat16
    return torch.float64 if precision.startswith("64") else torch.float32


def matmul_peak(device: torch.device | str, dtype: torch.dtype = torch.float32, *, n: int | None = None) -> float:
    """Measure the FLOP/s of a plain square matrix product: the best of a few, the first not counted.

    Parameters
    ----------
    device, dtype
        Where, and in which numbers.
    n : int, optional
        Rows; default 4096 on a GPU, 768 on a CPU (some tens of milliseconds on one core).
    """
    device = torch.device(device)
    n = n or (4096 if device.type == "cuda" else 768)
    # numbers that are not all alike (a GPU is faster on those that are), without touching any random stream
    a = torch.linspace(-1, 1, n * n, device=device).to(dtype).view(n, n)
    best = float("inf")
    with torch.no_grad(), _no_autocast(device):
        for attempt in range(4):
            _wait(device)
            started = time.perf_counter()
            a @ a
            _wait(device)
            if attempt:
                best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def _no_autocast(device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, enabled=False)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
