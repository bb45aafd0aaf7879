"""Choosing and joining windows of batches in memory: a new subject's calibration fits there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.errors import DataError


def select(batch: NeuralBatch, index: Tensor) -> NeuralBatch:
    """Return the windows `index` (long, or bool of length B) of `batch`."""
    if index.dtype == torch.bool:
        index = index.nonzero().flatten()

    def pick(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[index.to(value.device)]
        if isinstance(value, Events):
            return _pick_events(value, index)
        if isinstance(value, StreamValues):
            return StreamValues(*map(pick, value))
        if isinstance(value, dict):
            return {k: pick(v) for k, v in value.items()}
        if isinstance(value, list):
            return [value[i] for i in index.tolist()]
        return value

    return replace(batch, **{f.name: pick(getattr(batch, f.name)) for f in fields(batch)})


def join(batches: Iterable[NeuralBatch]) -> NeuralBatch:
    """Return one batch with the windows of all, which must have equal length and rate.

    Windows of fewer channels are padded to the most, at the end.

    Raises
    ------
    DataError
        When there are none, or they differ.
    """
    batches = list(batches)
    if not batches:
        raise DataError("the calibration holds no window: choose a longer calibration or a shorter window")
    first = batches[0]
    for other in batches[1:]:
        if other.signal.shape[2] != first.signal.shape[2] or other.rate_hz != first.rate_hz:
            raise DataError(
                f"calibration windows differ: {tuple(first.signal.shape[1:])} at {first.rate_hz:g} Hz "
                f"and {tuple(other.signal.shape[1:])} at {other.rate_hz:g} Hz; adapt to one setup at a time"
            )

    n_channels = max(b.signal.shape[1] for b in batches)
    batches = [_padded(b, n_channels) for b in batches]
    first = batches[0]

    def cat(values: list[Any]) -> Any:
        head = values[0]
        if isinstance(head, Tensor):
            return torch.cat(values)
        if isinstance(head, Events):
            return _cat_events(values)
        if isinstance(head, StreamValues):
            return StreamValues(*map(cat, map(list, zip(*map(_longest(values), values), strict=True))))
        if isinstance(head, dict):
            return {k: cat([v[k] for v in values]) for k in head}
        if isinstance(head, list):
            return [x for v in values for x in v]
        return head

    return replace(first, **{f.name: cat([getattr(b, f.name) for b in batches]) for f in fields(first)})


def _pick_events(events: Events, index: Tensor) -> Events:
    """Events of chosen windows, in their order."""
    index = index.to(events.offsets.device)
    counts = events.offsets.diff()[index]
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    shift = (events.offsets[index] - offsets[:-1]).repeat_interleave(counts)
    at = torch.arange(int(counts.sum()), device=shift.device) + shift
    return Events(events.unit[at], events.time_s[at], offsets)


def _cat_events(parts: list[Events]) -> Events:
    counts = torch.cat([p.offsets.diff() for p in parts])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Events(torch.cat([p.unit for p in parts]), torch.cat([p.time_s for p in parts]), offsets)


def _longest(parts: list[StreamValues]) -> Callable[[StreamValues], StreamValues]:
    """Padding to the longest: windows of one length may hold a sample of a stream more or less."""
    n = max(p.mask.shape[1] for p in parts)

    def pad(part: StreamValues) -> StreamValues:
        extra = n - part.mask.shape[1]
        values = torch.nn.functional.pad(part.values, (0, 0, 0, extra))
        return StreamValues(values, *(torch.nn.functional.pad(t, (0, extra)) for t in part[1:]))

    return pad


def _padded(batch: NeuralBatch, n_channels: int) -> NeuralBatch:
    """Add channels that are not there, as collating does: zeros, no position, unknown name."""
    missing = n_channels - batch.signal.shape[1]
    if missing == 0:
        return batch

    def pad(values: Tensor, value: float) -> Tensor:
        filling = values.new_full((values.shape[0], missing, *values.shape[2:]), value)
        return torch.cat([values, filling], dim=1)

    return replace(
        batch,
        signal=pad(batch.signal, 0.0),
        channel_mask=pad(batch.channel_mask, False),
        positions=None if batch.positions is None else pad(batch.positions, float("nan")),
        channel_ids=None if batch.channel_ids is None else pad(batch.channel_ids, 0),
    )


def tail_in_time(batch: NeuralBatch, *, fraction: float, gap_s: float = 0.0) -> tuple[Tensor, Tensor]:
    """Split windows into an early part and the tail of each recording, which share no sample.

    Parameters
    ----------
    batch : NeuralBatch
        Without `start_s`, its windows are taken to follow each other without overlap.
    fraction : float
        Share of each recording's windows in the tail.
    gap_s : float
        Least time between the end of the last early window and the start of the tail.

    Returns
    -------
    early, tail : Tensor, long
        Windows between the two are in neither. The tail is empty when too few windows would be left.
    """
    n = len(batch)
    window_s = batch.signal.shape[-1] / batch.rate_hz
    start_s = torch.arange(n).double() * window_s if batch.start_s is None else batch.start_s.double().cpu()
    recording = batch.recording_id or [""] * n
    early = torch.zeros(n, dtype=torch.bool)
    tail = torch.zeros(n, dtype=torch.bool)
    for name in dict.fromkeys(recording):
        rows = torch.tensor([r == name for r in recording])
        times = start_s[rows].sort().values
        n_tail = round(fraction * len(times))
        if n_tail == 0:
            early |= rows
            continue
        from_s = times[-n_tail]
        tail |= rows & (start_s >= from_s)
        early |= rows & (start_s + window_s + gap_s <= from_s + 1e-9)
    if not early.any() or not tail.any():
        return torch.arange(n), torch.empty(0, dtype=torch.long)
    return early.nonzero().flatten(), tail.nonzero().flatten()


def stratified_tail(target: Tensor, *, fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split trials at random with equal shares of every class; both parts long, sorted."""
    tail = torch.zeros(len(target), dtype=torch.bool)
    for label in target.unique():
        members = (target.cpu() == label.cpu()).nonzero().flatten()
        n_tail = round(fraction * len(members))
        tail[members[torch.randperm(len(members), generator=generator)[:n_tail]]] = True
    return (~tail).nonzero().flatten(), tail.nonzero().flatten()
