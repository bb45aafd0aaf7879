"""Events (spikes) out of shards: those of a span, to the bit as they were stored, and counted in bins on the fly.

Binning never drifts: the bin of a time is one division of a difference, not a running sum, and a time that lies on a
border but for rounding belongs to the bin that begins there. (Times on a 1 ms grid divided and floored without that
tolerance land in the wrong bin for up to one per cent of the grid points.)
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np

from neurofm.data.storage.segments import CorruptError, SegmentReader
from neurofm.data.storage.shards import Shards
from neurofm.schema.segments import TIME, UNIT, StreamSpan

# tolerance in bins: far above rounding (1e-7 of a 1 ms bin after eleven days), far below any clock's jitter
EDGE = 1e-6


@dataclass(slots=True)
class EventPieces:
    """The segments of one stream of events in one valid interval: where each begins in it, and its members."""

    start_s: list[float] = field(default_factory=list)
    file: list[str] = field(default_factory=list)
    time: list[StreamSpan] = field(default_factory=list)
    unit: list[StreamSpan] = field(default_factory=list)


def event_pieces(
    shards: Shards, recording_id: str, stream: str, files: list[str], starts_s: list[float]
) -> list[EventPieces]:
    """Find the segments of a stream of events for each valid interval, of which `starts_s` are the starts."""
    pieces = [EventPieces() for _ in starts_s]
    for entry, file in shards.entries(recording_id, files, n_intervals=len(starts_s)):
        p = pieces[entry.interval]
        time, unit = entry.streams[stream + TIME], entry.streams[stream + UNIT]
        if time.n_valid != unit.n_valid:
            raise CorruptError(f"{file}: '{entry.key}' has {time.n_valid} times and {unit.n_valid} units")
        # the same subtraction that the writer did, so the same bits
        p.start_s.append(entry.start_s - starts_s[entry.interval])
        p.file.append(file)
        p.time.append(time)
        p.unit.append(unit)
    return pieces


def read_between(
    reader: SegmentReader, pieces: EventPieces, start_s: float, stop_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return (time_s float64 [n], unit int32 [n]) with start_s <= time_s < stop_s, seconds from the interval's start."""
    times, units = [], []
    first = max(0, bisect.bisect_right(pieces.start_s, start_s) - 1)
    for i in range(first, len(pieces.start_s)):
        if pieces.start_s[i] >= stop_s:
            break
        n = pieces.time[i].n_valid
        time_s = reader.rows(pieces.file[i], pieces.time[i], 0, n) + pieces.start_s[i]
        a, b = np.searchsorted(time_s, [start_s, stop_s])
        times.append(time_s[a:b])
        units.append(reader.rows(pieces.file[i], pieces.unit[i], int(a), int(b)))
    if not times:
        return np.empty(0), np.empty(0, np.int32)
    return np.concatenate(times), np.concatenate(units).astype(np.int32)


def bin_counts(
    time_s: np.ndarray, unit: np.ndarray, *, start_s: float, n_bins: int, bin_s: float, n_units: int
) -> np.ndarray:
    """Count events; one at exactly ``start_s + k * bin_s`` is in bin k.

    Parameters
    ----------
    time_s, unit : ndarray, shape (n,)
        Events; those outside of the bins are left out.
    start_s, bin_s : float
        Start of bin 0 on the clock of `time_s`, width of a bin.
    n_bins, n_units : int
        Shape of the result.

    Returns
    -------
    ndarray, shape (n_bins, n_units), float32
    """
    at = np.floor((time_s - start_s) / bin_s + EDGE).astype(np.int64)
    inside = (at >= 0) & (at < n_bins)
    flat = np.bincount(at[inside] * n_units + unit[inside], minlength=n_bins * n_units)
    return flat.reshape(n_bins, n_units).astype(np.float32)
