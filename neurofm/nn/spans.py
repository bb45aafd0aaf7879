"""Random spans along a line: which positions belong to which span.

Shape legend: R row, N position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError


def draw_spans(start: Tensor, length: Tensor, *, probability: float, longest: int) -> Tensor:
    """Walk each row from left to right and begin a span with some probability wherever none touches.

    Parameters
    ----------
    start, length : Tensor, shape (R, N)
        Uniform numbers in [0, 1): whether a span begins at a position, and how long it would be.
    probability : float
        Of beginning a span at a position that neither belongs to a span nor follows one directly.
    longest : int
        Lengths are uniform from 1 to this; a span ends with the row.

    Returns
    -------
    Tensor, shape (R, N), long
        Position at which the span of this position began, −1 outside spans.
    """
    if not 0 <= probability <= 1 or longest < 1:
        raise ConfigError(f"spans: probability={probability} must be 0 to 1 and longest={longest} at least 1")
    n_rows, n = start.shape
    begins = start < probability
    lengths = 1 + (length * longest).long()
    span = torch.full((n_rows, n), -1, device=start.device)
    began = torch.full((n_rows,), -1, device=start.device)
    stop = torch.full((n_rows,), -1, device=start.device)
    for i in range(n):
        new = begins[:, i] & (i > stop)
        began = torch.where(new, torch.full_like(began, i), began)
        stop = torch.where(new, i + lengths[:, i], stop)
        span[:, i] = torch.where(i < stop, began, -1)
    return span
