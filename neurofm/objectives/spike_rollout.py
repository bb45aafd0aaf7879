"""Drawing spikes over a stretch longer than one window: what was drawn is the history of what is drawn next.

Source: Neuroformer (Antoniades et al. 2024, arXiv:2311.00136), which simulates whole trials so; the stimulus and the
behaviours that are inputs stay the recorded ones.

Shape legend: B batch (stretches drawn side by side).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from neurofm.models.neuroformer import Neuroformer
from neurofm.nn.ragged import row_of
from neurofm.objectives.spike_generation import Generated, generate
from neurofm.schema.batch import Events, NeuralBatch
from neurofm.schema.errors import DataError


def generate_on(
    objective: Any, model: Neuroformer, windows: Iterable[NeuralBatch], generator: torch.Generator | None = None,
    **choices: Any,
) -> Iterator[Generated]:  # fmt: skip
    """Draw the current parts of consecutive windows; yield one after the other.

    Parameters
    ----------
    objective, model, generator
        As in `spike_generation.generate`.
    windows : iterable of NeuralBatch
        The k-th begins k · `model.current_s` after the first and has the same rows. Of their events only those before the
        first window's current part are looked at.
    **choices
        Further arguments of `generate`: temperature, top_p, repeats.

    Yields
    ------
    Generated
        Of each window, with times from that window's start.

    Raises
    ------
    DataError
        When a window has other rows than the first, or does not begin where it should.
    """
    drawn: list[tuple[Tensor, Tensor, Tensor]] = []
    first: NeuralBatch | None = None
    for k, window in enumerate(windows):
        first = window if first is None else first
        shift_s = k * model.n_steps * model.step_s
        _check(first, window, shift_s)
        found = generate(
            objective, model, _with_past(window, drawn, shift_s, model.start_s(window)), generator, **choices
        )
        row = row_of(found.events.offsets)
        drawn.append((row, found.events.unit, found.events.time_s.double() + shift_s))
        yield found


def _with_past(
    window: NeuralBatch, drawn: list[tuple[Tensor, Tensor, Tensor]], shift_s: float, start_s: float
) -> NeuralBatch:
    """Replace the window's spikes since the first current part, which began `start_s` into the first window."""
    if window.events is None:
        raise DataError("batch.events is missing; neuroformer reads spikes as events")
    unit, time_s, offsets = window.events
    row = row_of(offsets)
    # by half a time of a spike's rounding: a recorded spike on the border belongs to what is drawn
    known = time_s.double() + shift_s < start_s - 1e-7
    parts = [(row[known], unit[known], time_s[known].double())]
    parts += [(r, u, t - shift_s) for r, u, t in drawn]
    row, unit, at = (torch.cat(p) for p in zip(*parts, strict=True))
    inside = at >= 0
    row, unit, at = row[inside], unit[inside], at[inside]
    order = torch.argsort(at, stable=True)
    order = order[torch.argsort(row[order], stable=True)]
    counts = torch.bincount(row, minlength=len(window))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return replace(window, events=Events(unit[order], at[order].to(time_s.dtype), offsets))


def _check(first: NeuralBatch, window: NeuralBatch, shift_s: float) -> None:
    if len(window) != len(first) or window.recording_id != first.recording_id:
        raise DataError(
            "generate_on: a window has other rows than the first; give the same stretches, one step further"
        )
    if first.start_s is None or window.start_s is None:
        return
    off = (window.start_s.double() - first.start_s.double() - shift_s).abs().max()
    if float(off) > 1e-3:
        raise DataError(
            f"generate_on: a window begins {float(off):g} s from where it should; windows follow each other by current_s"
        )
