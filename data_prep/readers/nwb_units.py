"""The unit table of an NWB file as a stream of events: checked once, then read a minute at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, EventStream

if TYPE_CHECKING:
    from pynwb.misc import Units

# spikes are found again by the number of those before each of these spans
PIECE_S = 60.0
CHUNK = 1 << 20

Spans = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class SpikeTable:
    """Where the spikes of each unit lie in a flat dataset of an HDF5 file.

    Attributes
    ----------
    file, place : str
        The file and the dataset.
    before : ndarray, shape (unit, piece + 1), int64
        Index of the first spike of each unit at or after k · PIECE_S.
    last_s : float
        Time of the last spike of all.
    """

    file: str
    place: str
    before: np.ndarray = field(repr=False)
    last_s: float

    def between(self, start_s: float, stop_s: float, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Read the spikes of some units with start_s <= time < stop_s, sorted by time and then by unit."""
        import h5py

        n_pieces = self.before.shape[1] - 1
        a = int(np.clip(np.floor(start_s / PIECE_S), 0, n_pieces))
        b = int(np.clip(np.floor(stop_s / PIECE_S) + 1, 0, n_pieces))
        times, units = [np.empty(0)], [np.empty(0, np.int32)]
        with h5py.File(self.file, "r") as f:
            data = f[self.place]
            for number, u in enumerate(chosen):
                low, high = self.before[u, a], self.before[u, b]
                if high > low:
                    t = data[low:high].astype(np.float64)
                    t = t[(t >= start_s) & (t < stop_s)]
                    times.append(t)
                    units.append(np.full(len(t), number, np.int32))
        time_s, unit = np.concatenate(times), np.concatenate(units)
        order = np.argsort(time_s, kind="stable")
        return time_s[order], unit[order]


def spike_table(units: Units) -> SpikeTable:
    """Go once through the spike times, in chunks.

    Raises
    ------
    DataError
        When there is no unit or no spike, or times are negative, unsorted or not finite.
    """
    if units is None or len(units.id) == 0:
        raise DataError("its unit table is empty; expected units with spike_times")
    if "spike_times" not in units.colnames:
        raise DataError(f"its unit table has no column 'spike_times' (columns: {', '.join(units.colnames)})")
    data = units.spike_times.data
    # the index is stored in the smallest unsigned type, in which differences wrap around
    ends = np.asarray(units.spike_times_index.data[:], np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    counts = [_pieces(data, int(a), int(b), str(i)) for i, a, b in zip(units.id[:], starts, ends, strict=True)]
    n_pieces = max(len(c) for c, _ in counts)
    last_s = max(t for _, t in counts)
    if not np.isfinite(last_s):
        raise DataError(f"its {len(ends)} units have no spike")
    before = np.zeros((len(ends), n_pieces + 1), np.int64)
    for u, (c, _) in enumerate(counts):
        before[u, 1 : len(c) + 1] = np.cumsum(c)
        before[u, len(c) + 1 :] = ends[u] - starts[u]
    return SpikeTable(file=data.file.filename, place=data.name, before=before + starts[:, None], last_s=last_s)


def _pieces(data: Any, start: int, stop: int, unit: str) -> tuple[np.ndarray, float]:
    """Count one unit's spikes in each piece of time; return the time of its last one too."""
    counts, last = np.zeros(0, np.int64), -np.inf
    for a in range(start, stop, CHUNK):
        t = np.asarray(data[a : min(a + CHUNK, stop)], np.float64)
        if not np.isfinite(t).all():
            raise DataError(f"spike times of unit {unit} hold a value that is not a finite number")
        if (np.diff(t, prepend=last) < 0).any():
            raise DataError(f"spike times of unit {unit} are not sorted; sort them in the file")
        if t[0] < 0:
            raise DataError(f"spike times of unit {unit} are negative ({t[0]:g} s); expected seconds from the start")
        found = np.bincount((t // PIECE_S).astype(np.int64))
        n = max(len(found), len(counts))
        counts = np.pad(counts, (0, n - len(counts))) + np.pad(found, (0, n - len(found)))
        last = float(t[-1])
    return counts, last


def observed_each(units: Units) -> list[Spans] | None:
    """Return the intervals in which each unit was observed; None = all the time (the file does not say)."""
    if "obs_intervals" not in units.colnames:
        return None
    each = [
        tuple(sorted((float(a), float(b)) for a, b in units.get_unit_obs_intervals(i))) for i in range(len(units.id))
    ]
    return each if any(each) else None


def common_spans(each: list[Spans]) -> Spans:
    """Return the intervals that most units share."""
    return Counter(s for s in each if s).most_common(1)[0][0]


def partly_observed(each: list[Spans] | None, spans: Spans) -> dict[int, str]:
    """Say which units do not belong: one that was not observed throughout has zeros that are no silence."""
    if each is None:
        return {}
    seen = {own: covered(spans, own) for own in set(each)}
    return {
        i: f"observed in {100 * seen[own]:.0f} % of the valid time"
        for i, own in enumerate(each)
        if seen[own] < 1 - 1e-6
    }


def covered(spans: Spans, by: Spans) -> float:
    """Return the part of `spans` that lies in `by`; both disjoint."""
    if not by:
        return 0.0
    # the length of `by` before t is piecewise linear in t
    edges = np.array(sorted(by)).ravel()
    passed = np.concatenate([[0], np.cumsum(np.diff(edges) * (np.arange(len(edges) - 1) % 2 == 0))])
    a, b = np.array(spans).T
    return float((np.interp(b, edges, passed) - np.interp(a, edges, passed)).sum() / (b - a).sum())


def spike_stream(
    table: SpikeTable, channels: Sequence[Channel], spans: Spans, *, chosen: Sequence[int] | None = None
) -> EventStream:
    """Return spikes as a stream of events over valid intervals (start_s, stop_s) of the file's clock."""
    rows = range(len(channels)) if chosen is None else list(chosen)

    def read(interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
        origin = spans[interval][0]
        # a hair more, then exactly: adding the interval's start rounds
        time_s, unit = table.between(origin + start_s - 1e-6, origin + stop_s + 1e-6, rows)
        time_s = time_s - origin
        inside = (time_s >= start_s) & (time_s < stop_s)
        return time_s[inside], unit[inside]

    return EventStream(name="spikes", channels=tuple(channels), duration_s=tuple(b - a for a, b in spans), read=read)
