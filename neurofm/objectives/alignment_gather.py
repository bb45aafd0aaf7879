"""Rows of every rank as one batch, with gradients back to where they came from.

Negatives then come from the global batch, so a result does not depend on how many devices shared it. Every rank
computes the same loss of all rows. The backward pass sums the ranks' gradients of each row and gives each rank its own
rows'; since every rank's loss is the same, that is world size × the row's gradient, and the mean over ranks that
data-parallel training takes is exactly the single-process gradient.

Shape legend: B rows of this rank, N = world size · B.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from neurofm.schema.errors import DataError


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _collect(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad.chunk(dist.get_world_size())[dist.get_rank()]


def _collect(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def world() -> tuple[int, int]:
    """Return rank and number of ranks; (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def check_equal_rows(n: int, device: torch.device) -> None:
    """Refuse ranks of unequal batches, which would wait for each other for ever.

    Raises
    ------
    DataError
        On every rank alike.
    """
    sizes = _collect(torch.tensor([n], device=device)).tolist()
    if len(set(sizes)) > 1:
        raise DataError(f"alignment: ranks hold batches of {sizes} windows; gathering needs equal batches per rank")


def gather(x: Tensor) -> Tensor:
    """Join the rows of all ranks, (B, …) → (N, …), rank 0's first; with gradient where `x` has one."""
    if world()[1] == 1:
        return x
    return _Gather.apply(x) if x.requires_grad else _collect(x)
