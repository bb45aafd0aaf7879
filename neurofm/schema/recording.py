"""What data preparation and training both call a recording: streams over channels, events, valid intervals.

A recording is read lazily: a `Stream` knows its length and how to read a span of it, so a day of sEEG and a
one-second clip are the same kind of thing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from neurofm.schema.errors import DataError

KEY = re.compile(r"[a-z0-9_-]+")


def slug(text: str) -> str:
    """Lower-case `text` with every run of other characters than ``a-z0-9_-`` replaced by one ``-``."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")


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
    read : callable (interval, start, stop) -> array, shape (stop - start, channel), float
        Values of one valid interval in physical units.
    """

    name: str = "signal"
    role: str = "signal"
    unit: str = "au"
    rate_hz: float
    channels: tuple[Channel, ...]
    n_samples: tuple[int, ...]
    read: Callable[[int, int, int], np.ndarray] = field(repr=False)

    @classmethod
    def from_arrays(
        cls, arrays: list[np.ndarray], *, rate_hz: float, channels: tuple[Channel, ...], **rest: str
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
    streams: tuple[Stream, ...]
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
    def signal(self) -> Stream:
        """The stream that models read."""
        return self.streams[0]

    @property
    def valid(self) -> tuple[tuple[float, float], ...]:
        """Valid intervals as (start_s, stop_s) on the recording's clock."""
        s = self.signal
        return tuple((t, t + n / s.rate_hz) for t, n in zip(self.interval_start_s, s.n_samples, strict=True))

    def with_signal(self, signal: Stream) -> Recording:
        """Return a copy whose first stream is `signal`."""
        return replace(self, streams=(signal, *self.streams[1:]))
