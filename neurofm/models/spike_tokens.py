"""Spikes of a stretch of a window → tokens (unit, time step), in order of step and then of unit.

Source: Neuroformer (Antoniades et al. 2024, arXiv:2311.00136).

Shape legend: B batch, S tokens of the longest row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neurofm.nn.ragged import pad_rows, row_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import DataError

EDGE = 1e-6
"""Tolerance in steps: a time on a border but for rounding belongs to the step that begins there."""


class SpikeTokens(NamedTuple):
    """Tokens, all (B, S): channel (column of the batch), step (number from the stretch's start), mask; cut (B,), bool."""

    channel: Tensor
    step: Tensor
    mask: Tensor
    cut: Tensor


def spike_tokens(
    batch: NeuralBatch, *, start_s: float, n_steps: int, step_s: float, max_tokens: int, keep: str = "first"
) -> SpikeTokens:
    """Turn the events of [start_s, start_s + n_steps · step_s) into tokens.

    Parameters
    ----------
    batch : NeuralBatch
        With events; those of masked channels are left out.
    start_s, step_s, n_steps : float, float, int
        The stretch, from the window's start.
    max_tokens : int
        A row with more is cut (`SpikeTokens.cut` says so).
    keep : str
        What stays of a row that is cut: its "first" or its "last" tokens.
    """
    if batch.events is None:
        raise DataError("batch.events is missing; neuroformer reads spikes as events")
    unit, time_s, offsets = batch.events
    row = row_of(offsets)
    # in float64: a float32 time near the end of a window is coarser than the tolerance
    step = torch.floor((time_s.double() - start_s) / step_s + max(EDGE, 1e-7 / step_s)).long()
    kept = (step >= 0) & (step < n_steps) & batch.channel_mask[row, unit]
    row, unit, step = row[kept], unit[kept], step[kept]
    n_channels = batch.channel_mask.shape[1]
    order = ((row * n_steps + step) * n_channels + unit).argsort(stable=True)
    row, unit, step = row[order], unit[order], step[order]
    counts = torch.bincount(row, minlength=len(batch))
    place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    inside = place < max_tokens if keep == "first" else place >= (counts - max_tokens)[row]
    padded, mask = pad_rows(torch.stack([unit, step], 1)[inside], row[inside], len(batch))
    return SpikeTokens(padded[..., 0], padded[..., 1], mask, counts > max_tokens)
