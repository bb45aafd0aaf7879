"""Published counts, shape (cell, bin), as events at the beginning of their bins, or as a regular signal."""

from __future__ import annotations

import numpy as np

from neurofm.schema.errors import DataError

READ_BINS = 1 << 16


def check_counts(x: np.ndarray, what: str) -> None:
    """Refuse what is no count; `what` names the array and how to read it all the same."""
    for a in range(0, x.shape[1], READ_BINS):
        block = np.asarray(x[:, a : a + READ_BINS])
        if not np.isfinite(block).all() or (block < 0).any() or (block != np.rint(block)).any():
            raise DataError(f"{what} holds values that are no counts; read them with source.signal=rates")


def events_between(x: np.ndarray, dt_s: float, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (time_s, cell) of the counts of bins that begin in start_s <= time < stop_s; a count of two is two."""
    a = max(0, int(np.floor(start_s / dt_s)) - 1)
    b = min(x.shape[1], int(np.ceil(stop_s / dt_s)) + 1)
    counts = np.asarray(x[:, a:b]).T.astype(np.int64)
    at, unit = np.nonzero(counts)
    n = counts[at, unit]
    time_s = np.repeat((a + at) * dt_s, n)
    inside = (time_s >= start_s) & (time_s < stop_s)
    return time_s[inside], np.repeat(unit, n)[inside].astype(np.int32)


def values_between(x: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Return the values of bins, shape (bin, cell), float64."""
    return np.asarray(x[:, start:stop], np.float64).T
