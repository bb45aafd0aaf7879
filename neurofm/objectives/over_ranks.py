"""Rows of every rank as one batch, with gradients back to where they came from.

Negatives then come from the global batch, so a result does not depend on how many devices shared it. Every rank
computes the same loss of all rows. The backward pass sums the ranks' gradients of each row and gives each rank its own
rows'; since every rank's loss is the same, that is world size × the row's gradient, and the mean over ranks that
data-parallel training takes is exactly the single-process gradient.

Shape legend: B rows of this rank, N = world size · B.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def gather_uneven(x: Tensor) -> list[Tensor]:
    """Return the rows of every rank, which may be of different number, rank 0's first; without gradient."""
    x = x.detach()
    sizes = _collect(torch.tensor([len(x)], device=x.device)).tolist()
    padded = torch.cat([x, x.new_zeros(max(sizes) - len(x), *x.shape[1:])])
    return [part[:n] for part, n in zip(_collect(padded).chunk(len(sizes)), sizes, strict=True)]


def in_turn(parts: Sequence[Tensor], counts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Join the rows of all ranks window by window, in the order of the global batch that the ranks took turns in.

    Parameters
    ----------
    parts : sequence of Tensor, shape (rows of a rank, …)
        What `gather_uneven` gave.
    counts : sequence of Tensor, shape (windows of a rank,), long
        Rows of each window.

    Returns
    -------
    rows : Tensor, shape (all rows, …)
    rank : Tensor, shape (all rows,), long
        Whose each row is.
    """
    windows = [part.split(n.tolist()) for part, n in zip(parts, counts, strict=True)]
    order = sorted((i, r) for r, mine in enumerate(windows) for i in range(len(mine)))
    rank = torch.cat([torch.full((len(windows[r][i]),), r) for i, r in order])
    return torch.cat([windows[r][i] for i, r in order]), rank.to(parts[0].device)
