"""What of a further stream, or of a stream of events, goes into one segment: arrays by member name."""

from __future__ import annotations

import numpy as np

from neurofm.schema.errors import DataError
from neurofm.schema.recording import EventStream, Stream
from neurofm.schema.segments import TIME, UNIT

COVARIATE_DTYPE = "<f4"
TIME_DTYPE, UNIT_DTYPE = "<f8", "<i4"


def members_of(stream: Stream | EventStream, interval: int, start_s: float, stop_s: float) -> dict[str, np.ndarray]:
    """Read the part of a stream, on its own clock, that belongs to a segment.

    Parameters
    ----------
    stream : Stream or EventStream
        What to read.
    interval : int
        Valid interval of the source.
    start_s, stop_s : float
        The segment, in seconds from that interval's start. The stop of a segment is the start of the next, to the
        bit, so that no sample and no event is lost or doubled between them.

    Raises
    ------
    DataError
        When events are not sorted, lie outside, or are of unknown units.
    """
    if isinstance(stream, EventStream):
        time_s, unit = _events_of(stream, interval, start_s, stop_s)
        time_s = (time_s - start_s).astype(TIME_DTYPE)
        return {stream.name + TIME: time_s, stream.name + UNIT: unit.astype(UNIT_DTYPE)}
    a, b = (min(round(t * stream.rate_hz), stream.n_samples[interval]) for t in (start_s, stop_s))
    return {stream.name: np.asarray(stream.read(interval, a, b)).astype(COVARIATE_DTYPE)}


def _events_of(stream: EventStream, interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
    time_s, unit = (np.asarray(x) for x in stream.read(interval, start_s, stop_s))
    where = f"stream '{stream.name}', {start_s:g} to {stop_s:g} s of interval {interval}"
    if time_s.ndim != 1 or time_s.shape != unit.shape:
        raise DataError(f"{where}: times of shape {time_s.shape} and units of shape {unit.shape} do not fit")
    if not len(time_s):
        return time_s.astype(np.float64), unit
    if not np.isfinite(time_s).all():
        raise DataError(f"{where}: a time is not a finite number")
    if (np.diff(time_s) < 0).any():
        raise DataError(f"{where}: times are not sorted")
    if time_s[0] < start_s or time_s[-1] >= stop_s:
        raise DataError(f"{where}: a time lies outside ({time_s[0]:g} to {time_s[-1]:g} s)")
    if unit.min() < 0 or unit.max() >= len(stream.channels):
        raise DataError(f"{where}: unit {unit.min()} to {unit.max()}, expected 0 to {len(stream.channels) - 1}")
    return time_s.astype(np.float64), unit
