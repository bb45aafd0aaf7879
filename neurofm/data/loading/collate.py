"""Windows of different recordings → one `NeuralBatch`, channels and time padded at the end.

Shape legend: B batch, C channel, T time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from neurofm.data.dataset import Dataset
from neurofm.data.stimuli import Shown
from neurofm.data.storage.catalogue import channel_name, session_name
from neurofm.data.windows import Window
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts

# 1-based in `NeuralBatch.modality`; the order is saved in models, so new ones go at the end
MODALITIES = ("eeg", "ieeg", "meg", "fmri", "spikes", "calcium")


@dataclass(frozen=True, slots=True)
class About:
    """What every window of a recording shares."""

    rate_hz: float
    positions: np.ndarray
    channel_ids: np.ndarray
    subject: int
    modality: int
    session: int = 0


@dataclass(slots=True)
class Sample:
    """A window with its values, shape (T, C), after the transforms.

    `events` (time_s, unit) of a window that is a list of events, and `streams` (values, time_s) by name; times count
    from the window's start. `counted` is False where `values` stands in for counts that nobody asked for. `shown` is
    what was shown or heard, where the corpus asks for it.
    """

    window: Window
    sample_id: int
    start_s: float
    values: np.ndarray
    about: About
    events: tuple[np.ndarray, np.ndarray] | None = None
    streams: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    counted: bool = True
    shown: Shown | None = None


def channel_vocabulary(dataset: Dataset, recording_ids: Iterable[str] | None = None) -> tuple[str, ...]:
    """Names of all good channels in order of first appearance; `channel_ids` count from 1 in it."""
    names: dict[str, None] = {}
    for r in dataset.recordings if recording_ids is None else recording_ids:
        names.update(dict.fromkeys(channel_name(c) for c in dataset.channels(r)))
    return tuple(names)


def describe(dataset: Dataset, recording_id: str, facts: Facts | None) -> About:
    """Look up what collating needs to know of a recording; channels, subjects and sessions unknown to `facts` are 0.

    A subject is found as ``dataset/subject`` or, failing that, as ``subject``.
    """
    rows = dataset.channels(recording_id)
    row = dataset.recordings[recording_id]
    subject = row["subject"]
    channel_numbers, subject_numbers, session_numbers = (
        (facts.channel_numbers, facts.subject_numbers, facts.session_numbers) if facts else ({}, {}, {})
    )
    return About(
        rate_hz=dataset.rate_hz(recording_id),
        positions=np.array([[c["x"], c["y"], c["z"]] for c in rows], np.float32).reshape(-1, 3),
        channel_ids=np.array([channel_numbers.get(channel_name(c), 0) for c in rows], np.int64),
        subject=subject_numbers.get(f"{row['dataset']}/{subject}", subject_numbers.get(subject, 0)),
        modality=MODALITIES.index(row["modality"]) + 1 if row["modality"] in MODALITIES else 0,
        session=session_numbers.get(session_name(row), 0),
    )


def collate(samples: Sequence[Sample], signal: torch.Tensor | None = None) -> NeuralBatch:
    """Put samples of one rate into a batch.

    Parameters
    ----------
    samples : sequence of Sample
        In the batch's order.
    signal : Tensor, shape (B, C, T), float32, optional
        Memory that holds their values already, with zeros behind them.

    Raises
    ------
    DataError
        When rates differ, or only some of the windows have a target.
    """
    rates = {s.about.rate_hz for s in samples}
    if len(rates) != 1:
        raise DataError(f"a batch holds rates of {sorted(rates)} Hz; group windows by rate or resample when preparing")
    sizes = [s.values.shape for s in samples]
    n, n_times, n_channels = len(samples), max(t for t, _ in sizes), max(c for _, c in sizes)
    # a signal that was not asked for is one zero, seen from everywhere
    counted = any(s.counted for s in samples)
    if not counted:
        signal = torch.zeros(())
    elif signal is None or signal.shape != (n, n_channels, n_times):
        signal = torch.zeros((n, n_channels, n_times))
        for s, place, (t, c) in zip(samples, signal.numpy(), sizes, strict=True):
            place[:c, :t] = s.values.T
    times, counts = (np.array([size[k] for size in sizes])[:, None] for k in (0, 1))
    channel_mask, time_mask = np.arange(n_channels) < counts, np.arange(n_times) < times
    if counts.min() == n_channels:
        positions = np.stack([s.about.positions for s in samples])
        channel_ids = np.stack([s.about.channel_ids for s in samples])
    else:
        positions = np.full((n, n_channels, 3), np.nan, np.float32)
        channel_ids = np.zeros((n, n_channels), np.int64)
        for i, (s, (_, c)) in enumerate(zip(samples, sizes, strict=True)):
            positions[i, :c] = s.about.positions
            channel_ids[i, :c] = s.about.channel_ids
    shown = [s.shown for s in samples if s.shown is not None]
    return NeuralBatch(
        signal=signal.expand(n, n_channels, n_times),
        channel_mask=torch.from_numpy(channel_mask),
        time_mask=torch.from_numpy(time_mask),
        rate_hz=rates.pop(),
        positions=torch.from_numpy(positions),
        channel_ids=torch.from_numpy(channel_ids),
        events=_events([s.events for s in samples]),
        streams={name: _stream([s.streams[name] for s in samples], name) for name in samples[0].streams},
        subject=torch.tensor([s.about.subject for s in samples]),
        session=torch.tensor([s.about.session for s in samples]),
        modality=torch.tensor([s.about.modality for s in samples]),
        trial=torch.tensor([s.window.trial for s in samples]),
        stimulus=torch.tensor([s.stimulus for s in shown]) if shown else None,
        concept=torch.tensor([s.concept for s in shown]) if shown else None,
        stimulus_embedding={
            name: torch.from_numpy(np.stack([s.embeddings[name] for s in shown]))
            for name in (shown[0].embeddings if shown else ())
        },
        target=_targets([s.window.target for s in samples]),
        recording_id=[s.window.recording_id for s in samples],
        start_s=torch.tensor([s.start_s for s in samples], dtype=torch.float64),
        sample_id=torch.tensor([s.sample_id for s in samples]),
    )


def _events(found: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> Events | None:
    """Join ragged events; `unit` counts in the channels of its own window."""
    there = [e for e in found if e is not None]
    if len(there) < len(found):
        return None
    offsets = np.cumsum([0, *(len(t) for t, _ in there)])
    return Events(
        unit=torch.from_numpy(np.concatenate([u for _, u in there]).astype(np.int64)),
        time_s=torch.from_numpy(np.concatenate([t for t, _ in there]).astype(np.float32)),
        offsets=torch.from_numpy(offsets.astype(np.int64)),
    )


def _stream(found: Sequence[tuple[np.ndarray, np.ndarray]], name: str) -> StreamValues:
    """Pad a further stream over time; a sample with a missing value is masked and zero."""
    widths = {v.shape[1] for v, _ in found}
    if len(widths) != 1:
        raise DataError(f"stream '{name}' has {sorted(widths)} channels in one batch; read recordings that agree")
    n, n_times = len(found), max(len(v) for v, _ in found)
    values = np.zeros((n, n_times, widths.pop()), np.float32)
    time_s, mask = np.zeros((n, n_times), np.float32), np.zeros((n, n_times), bool)
    for i, (v, t) in enumerate(found):
        there = np.isfinite(v)
        values[i, : len(v)] = np.where(there, v, 0)
        time_s[i, : len(v)] = t
        mask[i, : len(v)] = there.all(axis=1)
    return StreamValues(torch.from_numpy(values), torch.from_numpy(time_s), torch.from_numpy(mask))


def _targets(targets: Sequence[int | float | None]) -> torch.Tensor | None:
    if all(t is None for t in targets):
        return None
    if any(t is None for t in targets):
        raise DataError("some windows of a batch have a target and some have none; cut them by one task")
    return torch.tensor(targets, dtype=torch.long if all(isinstance(t, int) for t in targets) else torch.float32)
