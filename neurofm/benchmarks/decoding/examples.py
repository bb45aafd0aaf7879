"""Windows as arrays with all that a guard asks of them: when, who, what was shown, in which block.

Shape legend: N examples, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.data.dataset import Dataset
from neurofm.data.storage.catalogue import channel_name
from neurofm.data.transforms.base import Compose
from neurofm.data.windows import Window
from neurofm.schema.errors import ConfigError, DataError, nearest

# what records the eyes, muscles and the heart is no brain signal, and never in by default
NOT_BRAIN = ("eog", "ecg", "emg", "misc", "stim", "resp", "trigger")
ALIGN = ("common", "region")


@dataclass(frozen=True, kw_only=True)
class Examples:
    """One part of a fold, in memory.

    Attributes
    ----------
    x : array, shape (N, C, T), float32
        After the fold's transforms.
    y : array, shape (N,), str or float
        Class or value.
    recording_id, subject, session, stimulus : array, shape (N,), str
    start_s, stop_s : array, shape (N,)
        On the recording's clock.
    block : array, shape (N,), int
        −1 where the recording names none.
    position : array, shape (N,)
        Start within the recording, 0 to 1.
    rate_hz : float
    amplitude : dict of unit to float
        Robust amplitude of the channels of each unit before any transform: median over windows and channels of
        1.4826 times the median absolute deviation.
    kinds : tuple of str
        Of the channels, such as "eeg".
    digest : array, shape (N,), str
        Of each window's values as stored.
    """

    x: NDArray[np.float32]
    y: NDArray
    recording_id: NDArray
    subject: NDArray
    session: NDArray
    stimulus: NDArray
    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    block: NDArray[np.int64]
    position: NDArray[np.float64]
    rate_hz: float
    amplitude: Mapping[str, float] = field(default_factory=dict)
    kinds: tuple[str, ...] = ()
    digest: NDArray = field(default_factory=lambda: np.empty(0, dtype=str))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.y)

    def spans(self) -> list[dict[str, Any]]:
        """Rows as `audit` takes them."""
        return [
            {"recording_id": str(r), "start_s": float(a), "stop_s": float(b), "stimulus_id": str(s)}
            for r, a, b, s in zip(self.recording_id, self.start_s, self.stop_s, self.stimulus, strict=True)
        ]

    def with_signal(self, x: NDArray) -> Examples:
        """Return the same examples with another signal."""
        return replace(self, x=np.asarray(x, dtype=np.float32))


def picked_channels(
    dataset: Dataset, recording_ids: Sequence[str], *, align: str = "common", kinds: Sequence[str] | None = None
) -> list[str]:
    """Names (or regions) that all recordings have, in the order of the first.

    Parameters
    ----------
    dataset : Dataset
    recording_ids : sequence of str
    align : str
        "common": channels of one canonical name; "region": regions, whose channels are averaged.
    kinds : sequence of str, optional
        Only channels of these kinds, of whichever stream holds them (prep puts what is no brain signal into one of its
        own); default all of the signal that record the brain.

    Raises
    ------
    DataError
        When nothing is common to all.
    """
    if align not in ALIGN:
        raise ConfigError(f"align is '{align}': {nearest(align, ALIGN)}")
    ids = sorted(set(recording_ids))
    names = [_names(dataset, r, align, kinds) for r in ids]
    common = [n for n in dict.fromkeys(names[0]) if n and all(n in other for other in names[1:])]
    if not common:
        asked = f" of kind {', '.join(kinds)}" if kinds else ""
        raise DataError(
            f"{dataset.path}: no channel{asked} is common to {len(ids)} recordings by {align}; prepare them with equal "
            "montages, or choose align=region where regions are known"
        )
    return common


def read_examples(
    dataset: Dataset,
    windows: Sequence[Window],
    labels: Sequence[Any],
    *,
    channels: Sequence[str],
    align: str = "common",
    kinds: Sequence[str] | None = None,
    transform: Compose | None = None,
) -> Examples:
    """Read windows of equal length and rate.

    Parameters
    ----------
    dataset : Dataset
    windows : sequence of Window
    labels : sequence
        Class or value of each.
    channels : sequence of str
        As `picked_channels` gave them.
    align, kinds
        As there.
    transform : Compose, optional
        Fitted on the training part before.
    """
    from hashlib import blake2b

    if not windows:
        raise DataError(f"{dataset.path}: there are no windows to score; check task, split and relabel")
    lengths, rates = {w.n_samples for w in windows}, {dataset.rate_hz(w.recording_id) for w in windows}
    if len(lengths) > 1 or max(rates) - min(rates) > 1e-6 * max(rates):
        raise DataError(
            f"{dataset.path}: windows differ in length ({sorted(lengths)[:3]} samples) or rate ({sorted(rates)[:3]} Hz)"
        )
    n, n_samples, rate = len(windows), lengths.pop(), max(rates)
    stream = {r: stream_of(dataset, r, kinds) for r in sorted({w.recording_id for w in windows})}
    if any(stream.values()):
        # a stream of its own clock; what the transforms learned is about the signal
        n_samples, rate, transform = _resized(dataset, stream, n_samples, rate), _rate_of(dataset, stream), None
    x = np.empty((n, len(channels), n_samples), np.float32)
    mixing = {r: _mixing(dataset, r, channels, align, kinds) for r in sorted({w.recording_id for w in windows})}
    digest = []
    units: dict[str, list[float]] = {}
    for i, w in enumerate(windows):
        values = dataset.read(w.recording_id, w.start_s, n_samples, stream=stream[w.recording_id])
        digest.append(blake2b(np.ascontiguousarray(values).tobytes(), digest_size=8).hexdigest())
        if i % max(1, n // 200) == 0:
            spread = 1.4826 * np.median(np.abs(values - np.median(values, 0)), 0)
            for c, s in zip(dataset.channels(w.recording_id, stream=stream[w.recording_id]), spread, strict=True):
                if c["kind"] not in NOT_BRAIN:
                    units.setdefault(c["unit"], []).append(float(s))
        if transform is not None:
            values = transform.apply(values, w.recording_id)
        if values.shape[1] != mixing[w.recording_id].shape[1]:
            raise DataError(f"transforms made {values.shape[1]} channels of {mixing[w.recording_id].shape[1]}")
        x[i] = mixing[w.recording_id] @ values.T
    rows = [dataset.recordings[w.recording_id] for w in windows]
    ends = {r: dataset.valid(r) for r in mixing}
    start = np.array([w.start_s for w in windows])
    stop = start + n_samples / rate
    telling = {r: _telling(dataset, r) for r in mixing}
    events = [_event_at(telling[w.recording_id], a, b) for w, a, b in zip(windows, start, stop, strict=True)]
    first = np.array([ends[w.recording_id][0][0] for w in windows])
    last = np.array([ends[w.recording_id][-1][1] for w in windows])
    return Examples(
        x=x,
        y=np.asarray(labels),
        recording_id=np.array([w.recording_id for w in windows]),
        subject=np.array([str(r["subject"]) for r in rows]),
        session=np.array([str(r["session"]) for r in rows]),
        stimulus=np.array([e["stimulus_id"] if e else "" for e in events]),
        block=np.array([e["block"] if e else -1 for e in events]),
        start_s=start,
        stop_s=stop,
        position=(start - first) / np.maximum(last - first, 1e-9),
        rate_hz=rate,
        amplitude={u: float(np.median(v)) for u, v in units.items()},
        kinds=tuple(sorted({c["kind"] for r in mixing for c in dataset.channels(r)})),
        digest=np.array(digest),
    )


def _usable(channel: Mapping[str, Any], kinds: Sequence[str] | None) -> bool:
    return channel["kind"] in kinds if kinds else channel["kind"] not in NOT_BRAIN


def _name(channel: Mapping[str, Any], align: str) -> str:
    return str(channel["region"]) if align == "region" else channel_name(dict(channel))


def _names(dataset: Dataset, recording_id: str, align: str, kinds: Sequence[str] | None) -> list[str]:
    rows = dataset.channels(recording_id, stream=stream_of(dataset, recording_id, kinds))
    return [_name(c, align) for c in rows if _usable(c, kinds)]


def stream_of(dataset: Dataset, recording_id: str, kinds: Sequence[str] | None) -> str | None:
    """Which stream holds channels of these kinds: None, the signal, where it does or none does."""
    if not kinds or any(c["kind"] in kinds for c in dataset.channels(recording_id)):
        return None
    for stream in dataset.streams(recording_id):
        if dataset.is_events(recording_id, stream):
            continue
        if any(c["kind"] in kinds for c in dataset.channels(recording_id, stream=stream)):
            return stream
    return None


def _rate_of(dataset: Dataset, stream: Mapping[str, str | None]) -> float:
    rates = {dataset.rate_hz(r, s) for r, s in stream.items()}
    if max(rates) - min(rates) > 1e-6 * max(rates):
        raise DataError(
            f"{dataset.path}: the channels asked for have rates {sorted(rates)[:3]} Hz; prepare them to one"
        )
    return max(rates)


def _resized(dataset: Dataset, stream: Mapping[str, str | None], n_samples: int, rate_hz: float) -> int:
    return round(n_samples / rate_hz * _rate_of(dataset, stream))


def _mixing(
    dataset: Dataset, recording_id: str, wanted: Sequence[str], align: str, kinds: Sequence[str] | None
) -> NDArray[np.float32]:
    """Matrix that picks, or averages over a region, shape (C wanted, C stored)."""
    rows = dataset.channels(recording_id, stream=stream_of(dataset, recording_id, kinds))
    m = np.array([[_usable(c, kinds) and _name(c, align) == w for c in rows] for w in wanted], np.float32)
    return m / m.sum(1, keepdims=True)


def _telling(dataset: Dataset, recording_id: str) -> tuple[NDArray[np.float64], list[Mapping[str, Any]]]:
    """Events that name a stimulus or a block: (onset, stop) of each, shape (E, 2), and their rows."""
    rows = [e for e in dataset.events(recording_id) if e["stimulus_id"] or e["block"] >= 0]
    spans = [(e["onset_s"], e["onset_s"] + max(e["duration_s"], 1e-6)) for e in rows]
    return np.array(spans, dtype=np.float64).reshape(-1, 2), list(rows)


def _event_at(
    telling: tuple[NDArray[np.float64], list[Mapping[str, Any]]], start_s: float, stop_s: float
) -> Mapping[str, Any] | None:
    """Return the event that a window overlaps most."""
    spans, rows = telling
    shared = np.minimum(spans[:, 1], stop_s) - np.maximum(spans[:, 0], start_s)
    return rows[int(shared.argmax())] if len(rows) and shared.max() > 0 else None
