"""Time series of an NWB file as streams: read from the file span by span, in physical units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.readers.timeline import Timeline, on_grid, regular, survey
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Stream, slug

if TYPE_CHECKING:
    from pynwb import TimeSeries

# a unit as it may stand in a table; longer text may be anything
UNIT = re.compile(r"[\w/^·%µ.\- ]{1,16}")
COLUMNS = re.compile(r"columns=\[([^\]]*)\]")


def rows(file: str, name: str, start: int, stop: int) -> np.ndarray:
    """Read rows of a dataset of an HDF5 file, which is opened for that alone."""
    import h5py

    with h5py.File(file, "r") as f:
        return f[name][start:stop]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A time series, known by where it lies; physical value = stored · scale + offset.

    Attributes
    ----------
    name, unit : str
        Of the series in the file.
    columns : tuple of str
        Names of its columns.
    timeline : Timeline
        When its samples were taken.
    file, place : str
        The HDF5 file and the dataset in it.
    scale, offset : arrays, shape (column,)
        To the physical unit.
    """

    name: str
    unit: str
    columns: tuple[str, ...]
    timeline: Timeline
    file: str
    place: str
    scale: np.ndarray = field(repr=False)
    offset: np.ndarray = field(repr=False)

    def stored(self, start: int, stop: int) -> np.ndarray:
        """Read samples as stored, shape (time, column)."""
        x = rows(self.file, self.place, start, stop)
        return x.reshape(len(x), len(self.columns))

    def values(self, start: int, stop: int) -> np.ndarray:
        """Read samples in physical units, shape (time, column), float64."""
        return self.stored(start, stop) * self.scale + self.offset

    def at(self, wanted_s: np.ndarray) -> np.ndarray:
        """Read on a grid of times, NaN where there is no sample, shape (time, column), float64."""
        if not len(wanted_s):
            return np.empty((0, len(self.columns)))
        first, time_s = self.timeline.around(float(wanted_s[0]), float(wanted_s[-1]))
        x = self.stored(first, first + len(time_s))
        return on_grid(wanted_s, time_s, x, rate_hz=self.timeline.rate_hz) * self.scale + self.offset


def series_of(ts: TimeSeries, *, rate_hz: float | None = None, start_s: float | None = None) -> Series:
    """Describe a pynwb time series; nothing but its time stamps is read.

    Parameters
    ----------
    ts : TimeSeries
        One or two dimensions, time first.
    rate_hz, start_s : float, optional
        Instead of what the file says, for files that say it wrong.

    Raises
    ------
    DataError
        When it holds no numbers over time.
    """
    data = ts.data
    what = f"series '{ts.name}'"
    shape = getattr(data, "shape", None)
    if shape is None or not hasattr(data, "file") or len(shape) not in (1, 2) or data.dtype.kind not in "biuf":
        raise DataError(f"{what}: holds data of shape {shape}, expected numbers (time,) or (time, column)")
    n, n_columns = int(shape[0]), int(shape[1]) if len(shape) == 2 else 1
    if n == 0 or n_columns == 0:
        raise DataError(f"{what}: has no samples (length zero)")
    if rate_hz is not None or ts.rate is not None:
        rate = float(ts.rate if rate_hz is None else rate_hz)
        begin = float((ts.starting_time or 0.0) if start_s is None else start_s)
        if not rate > 0:
            raise DataError(f"{what}: its rate is {rate} Hz; expected a number above 0")
        timeline = regular(begin, rate, n)
    else:
        stamps = ts.timestamps
        if stamps is None or len(stamps) != n:
            have = "no" if stamps is None else str(len(stamps))
            raise DataError(f"{what}: has {have} time stamps for {n} samples")
        timeline = survey(partial(rows, stamps.file.filename, stamps.name), n, what)
    gain = np.full(n_columns, float(ts.conversion))
    per_channel = getattr(ts, "channel_conversion", None)
    if per_channel is not None:
        per_channel = np.asarray(per_channel[:], np.float64)
        if len(per_channel) != n_columns:
            raise DataError(f"{what}: {len(per_channel)} channel conversions for {n_columns} columns")
        gain = gain * per_channel
    unit = str(ts.unit or "").strip()
    return Series(
        name=str(ts.name),
        unit=unit if UNIT.fullmatch(unit) else "au",
        columns=column_names(ts, n_columns),
        timeline=timeline,
        file=data.file.filename,
        place=data.name,
        scale=gain,
        offset=np.full(n_columns, float(ts.offset or 0.0)),
    )


def column_names(ts: Any, n: int) -> tuple[str, ...]:
    """Names of columns: stated in the comments as ``columns=[x,y]`` (Neural Latents Benchmark), else numbered."""
    found = COLUMNS.search(str(ts.comments or ""))
    if found:
        names = [c.strip().strip("'\"") for c in found.group(1).split(",")]
        if len(names) == n and len(set(names)) == n and all(UNIT.fullmatch(c) for c in names):
            return tuple(names)
    if n == 1:
        return (str(ts.name),)
    if type(ts).__name__ == "SpatialSeries" and n <= 3:
        return tuple("xyz"[:n])
    return tuple(f"{ts.name}{i}" for i in range(n))


def beside(
    series: Series | Sequence[Series], starts_s: Sequence[float], lengths_s: Sequence[float], *, name: str, role: str
) -> Stream:
    """Return one or more series of one clock as a stream beside a signal, on the grid of each valid interval.

    Sample i of an interval lies at ``start + i / rate``, with the rate of the (first) series.
    """
    members = [series] if isinstance(series, Series) else list(series)
    rate = members[0].timeline.rate_hz

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        wanted_s = starts_s[interval] + np.arange(start, stop) / rate
        return np.concatenate([s.at(wanted_s) for s in members], axis=1)

    return Stream(
        name=slug(name),
        role=role,
        unit=members[0].unit,
        rate_hz=rate,
        channels=tuple(Channel(name=c, kind="misc", unit=s.unit) for s in members for c in s.columns),
        n_samples=tuple(round(d * rate) for d in lengths_s),
        begins_s=members[0].timeline.start_s - min(starts_s),
        read=read,
    )
