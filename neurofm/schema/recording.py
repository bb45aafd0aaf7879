"""What data preparation and training both call a recording: streams over channels, events, valid intervals.

A recording is read lazily: a `Stream` knows its length and how to read a span of it, so a day of sEEG and a
one-second clip are the same kind of thing. An `EventStream` is the same for what has no rate: spikes of units.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError

KEY = re.compile(r"[a-z0-9_-]+")


def slug(text: str) -> str:
    """Lower-case `text` with every run of other characters than ``a-z0-9_-`` replaced by one ``-``.

    Text beyond ASCII is followed by a short hash of itself, so that Müller and Möller stay two people.
    """
    plain = re.sub(r"[^a-z0-9_-]+", "-", unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower())
    parts = [plain.strip("-")] + ([] if text.isascii() else [hashlib.sha256(text.encode()).hexdigest()[:6]])
    return "-".join(filter(None, parts))


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One row of the channel table.

    Attributes
    ----------
    name, canonical : str
        Name in the source file, and the name shared across recordings ("" when there is none).
    kind : str
        "eeg", "ecog", "seeg", "lfp", "mag", "grad", "bold", "unit", "calcium", "misc" …
    unit : str
        Physical unit of the stored values ("uV", "fT", "au").
    x, y, z : float
        Position in metres in `frame`; NaN where unknown.
    frame, region, reference : str
        Coordinate frame ("head", "mni"), anatomical region, reference.
    depth_um : float
        Depth as the source states it, from the probe's tip or from the surface; NaN where unknown.
    quality : str
        The sorter's or the lab's label of a unit ("good", "mua", "noise"); "" where unknown.
    bad, reason : bool, str
        Whether the channel is left out when reading, and why.
    """

    name: str
    canonical: str = ""
    kind: str = "misc"
    unit: str = "au"
    x: float = float("nan")
    y: float = float("nan")
    z: float = float("nan")
    frame: str = ""
    region: str = ""
    reference: str = ""
    bad: bool = False
    reason: str = ""
    depth_um: float = float("nan")
    quality: str = ""


@dataclass(frozen=True, kw_only=True)
class Event:
    """One row of the event table; times in seconds from the recording's start."""

    onset_s: float
    duration_s: float = 0.0
    kind: str = "event"
    label: str = ""
    value: float = float("nan")
    stimulus_id: str = ""
    trial: int = -1
    block: int = -1


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A regular signal on its own clock, read lazily.

    Attributes
    ----------
    name, role, unit : str
        "signal", …; one of signal | covariate | stimulus; physical unit.
    rate_hz : float
        Samples per second; need not be an integer.
    channels : tuple of Channel
        Columns of what `read` returns.
    n_samples : tuple of int
        Length of each valid interval in samples; intervals share no sample grid.
    begins_s : float
        Of a stream beside the signal that has times of its own: when it begins in the source, in seconds from the
        signal's start (below 0: before it); NaN = with its first sample here.
    read : callable (interval, start, stop) -> array, shape (stop - start, channel), float
        Values of one valid interval in physical units.
    """

    name: str = "signal"
    role: str = "signal"
    unit: str = "au"
    rate_hz: float
    channels: tuple[Channel, ...]
    n_samples: tuple[int, ...]
    begins_s: float = float("nan")
    read: Callable[[int, int, int], np.ndarray] = field(repr=False)

    @classmethod
    def from_arrays(
        cls, arrays: list[np.ndarray], *, rate_hz: float, channels: tuple[Channel, ...], **rest: Any
    ) -> Stream:
        """Wrap arrays already in memory, one per valid interval, each of shape (time, channel)."""
        for a in arrays:
            if a.ndim != 2 or a.shape[1] != len(channels):
                raise DataError(f"an array of shape {a.shape} does not fit {len(channels)} channels (time × channel)")
        return cls(
            rate_hz=float(rate_hz),
            channels=channels,
            n_samples=tuple(len(a) for a in arrays),
            read=lambda i, start, stop: arrays[i][start:stop],
            **rest,
        )

    @property
    def duration_s(self) -> tuple[float, ...]:
        """Length of each valid interval."""
        return tuple(n / self.rate_hz for n in self.n_samples)


@dataclass(frozen=True, kw_only=True)
class EventStream:
    """Times of events over units (spikes), read lazily; events stay events, bins are a view made when reading.

    Attributes
    ----------
    name, role, unit : str
        As in `Stream`.
    channels : tuple of Channel
        The units; what `read` returns counts in them.
    duration_s : tuple of float
        Length of each valid interval; an event at t counts when 0 <= t < duration.
    read : callable (interval, start_s, stop_s) -> (time_s float64 [n], unit int32 [n])
        The events with start_s <= time_s < stop_s, sorted by time, in seconds from the interval's start.
    """

    name: str = "spikes"
    role: str = "signal"
    unit: str = "au"
    channels: tuple[Channel, ...]
    duration_s: tuple[float, ...]
    read: Callable[[int, float, float], tuple[np.ndarray, np.ndarray]] = field(repr=False)

    @classmethod
    def from_arrays(
        cls,
        events: Sequence[tuple[np.ndarray, np.ndarray]],
        *,
        duration_s: Sequence[float],
        channels: tuple[Channel, ...],
        **rest: str,
    ) -> EventStream:
        """Wrap (time_s, unit) arrays already in memory, one pair per valid interval, sorted by time."""
        if len(events) != len(duration_s):
            raise DataError(f"{len(events)} intervals have events, {len(duration_s)} have a duration")
        pairs = [(np.asarray(t, np.float64), np.asarray(u, np.int32)) for t, u in events]
        for t, u in pairs:
            if t.ndim != 1 or t.shape != u.shape:
                raise DataError(f"times of shape {t.shape} and units of shape {u.shape} do not fit; expected one each")

        def read(interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
            t, u = pairs[interval]
            a, b = np.searchsorted(t, [start_s, stop_s])
            return t[a:b], u[a:b]

        return cls(channels=channels, duration_s=tuple(float(d) for d in duration_s), read=read, **rest)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording: who, what, its streams, events and valid intervals.

    Attributes
    ----------
    dataset, subject, session, task, run : str
        BIDS entities without their prefix where the source has them; "" where it has none.
    modality : str
        "eeg", "ieeg", "meg", "fmri", "spikes", "calcium".
    streams : tuple of Stream
        The first is the signal.
    interval_start_s : tuple of float
        Start of each valid interval on the recording's clock. Epoched data: one interval per trial.
    events : tuple of Event
        Onsets on the recording's clock.
    part : str
        The dataset's official part ("train", "test"), "" where it has none.
    source_file, source_sha256 : str
        Path relative to the dataset's root, and the hash of its bytes.
    """

    dataset: str
    subject: str
    session: str = ""
    task: str = ""
    run: str = ""
    modality: str
    streams: tuple[Stream | EventStream, ...]
    interval_start_s: tuple[float, ...] = (0.0,)
    events: tuple[Event, ...] = ()
    part: str = ""
    source_file: str = ""
    source_sha256: str = ""

    @property
    def recording_id(self) -> str:
        """Unique key over all datasets, ``[a-z0-9_-]+``."""
        entities = [("sub", self.subject), ("ses", self.session), ("task", self.task), ("run", self.run)]
        return "_".join([slug(self.dataset)] + [f"{k}-{slug(v)}" for k, v in entities if v])

    @property
    def first(self) -> Stream | EventStream:
        """The stream that models read: a regular signal, or a list of events."""
        return self.streams[0]

    @property
    def signal(self) -> Stream:
        """The regular signal that models read.

        Raises
        ------
        DataError
            When they read a list of events.
        """
        first = self.streams[0]
        if isinstance(first, EventStream):
            raise DataError("holds events (spikes), not a regular signal; prepare it as a dataset and read it in bins")
        return first

    @property
    def valid(self) -> tuple[tuple[float, float], ...]:
        """Valid intervals as (start_s, stop_s) on the recording's clock."""
        return tuple((t, t + d) for t, d in zip(self.interval_start_s, self.first.duration_s, strict=True))

    def with_signal(self, signal: Stream) -> Recording:
        """Return a copy whose first stream is `signal`."""
        return replace(self, streams=(signal, *self.streams[1:]))
