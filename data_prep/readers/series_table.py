"""Time series in a text table (.csv, .tsv): one row per sample, one column per channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.readers.tables import MISSING, read_lines
from neurofm.schema.errors import DataError

SUFFIXES = (".csv", ".tsv")
TIMES = ("time", "time_s", "t", "t_s", "seconds")


@dataclass(frozen=True, kw_only=True)
class Series:
    """What a table holds.

    Attributes
    ----------
    values : array, shape (time, channel), float64
        NaN where a cell is empty or says n/a.
    names : list of str or None
        Of the channels; None without a header.
    rate_hz : float or None
        By the column of times in seconds; None without one.
    """

    values: np.ndarray
    names: list[str] | None
    rate_hz: float | None


def read_series(path: Path) -> Series:
    """Read a table of time series.

    A first line that is not numbers names the channels. A column named time (time_s, t …) holds seconds and gives
    the rate; a first column without a name that counts the rows, as pandas writes, is left out.

    Raises
    ------
    DataError
        When a row is cut short, a cell is no number, or times are not evenly spaced.
    """
    first, *rest = read_lines(path)
    header = None if all(_is_number(c) for c in first) else first
    rows = rest if header else [first, *rest]
    for i, row in enumerate(rows):
        if len(row) != len(first):
            raise DataError(f"{path.name}: row {i + 1} has {len(row)} cells, the first {len(first)}; is it cut short?")
    for i, row in enumerate(rows):
        odd = next((k for k, c in enumerate(row) if c and not _is_number(c)), None)
        if odd is not None:  # not quoted: it may be a note or a name
            raise DataError(f"{path.name}: row {i + 1} holds no number in column {odd + 1}; expected numbers in all")
    values = np.array([[np.nan if c.lower() in MISSING else float(c) for c in row] for row in rows], np.float64)
    values = values.reshape(len(rows), len(first))
    if header is None:
        return Series(values=values, names=None, rate_hz=None)
    if header[0] == "" and np.array_equal(values[:, 0], np.arange(len(values))):
        header, values = header[1:], values[:, 1:]
    clock = next((i for i, n in enumerate(header) if n.lower() in TIMES), None)
    if clock is None:
        return Series(values=values, names=header, rate_hz=None)
    rate = rate_of(values[:, clock], path.name)
    return Series(values=np.delete(values, clock, axis=1), names=header[:clock] + header[clock + 1 :], rate_hz=rate)


def rate_of(times_s: np.ndarray, name: str) -> float:
    """Return the samples per second of evenly spaced times.

    Raises
    ------
    DataError
        When they are not: a step differs from their mean by over 1 %.
    """
    steps = np.diff(times_s)
    if not len(steps) or not (steps > 0).all() or np.abs(steps / steps.mean() - 1).max() > 0.01:
        raise DataError(f"{name}: its column of times is not evenly spaced; resample it, or leave the column out")
    return float(f"{1 / steps.mean():.9g}")


def _is_number(cell: str) -> bool:
    if cell.lower() in MISSING:
        return cell != ""
    try:
        float(cell)
    except ValueError:
        return False
    return True
