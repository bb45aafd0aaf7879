"""Lists of different length in one batch → rows of a matrix, padded at the end.

Shape legend: B batch, n items in all, N items of the longest row.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_of(offsets: Tensor) -> Tensor:
    """Return the batch row of every item, shape (n,), from offsets, shape (B + 1,)."""
    return torch.repeat_interleave(torch.arange(len(offsets) - 1, device=offsets.device), offsets.diff())


def pad_rows(values: Tensor, row: Tensor, n_rows: int) -> tuple[Tensor, Tensor]:
    """Lay out items row by row.

    Parameters
    ----------
    values : Tensor, shape (n, …)
        Items, sorted by row.
    row : Tensor, shape (n,), long
        Row of each.
    n_rows : int
        B.

    Returns
    -------
    padded : Tensor, shape (B, N, …)
        Zeros behind each row's items; N is at least 1.
    mask : Tensor, shape (B, N), bool
        True where there is an item.
    """
    counts = torch.bincount(row, minlength=n_rows)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(row), device=row.device) - starts[row]
    width = max(int(counts.max()) if n_rows else 0, 1)
    padded = values.new_zeros(n_rows, width, *values.shape[1:])
    padded[row, place] = values
    return padded, torch.arange(width, device=row.device) < counts[:, None]
