"""Traces with uneven time stamps at a common rate."""

from __future__ import annotations

import numpy as np

from data_prep.readers.timeline import JITTER
from neurofm.schema.errors import DataError

# points per output sample that are averaged when the rate is lowered (Homogenized C. elegans, arXiv 2411.12091)
FINE = 6


def at_rate(time_s: np.ndarray, values: np.ndarray, *, rate_hz: float) -> np.ndarray:
    """Bring traces to a regular clock that begins with their first sample.

    What is on that clock already stays as it is. To a higher rate than their own (by the median step) they are interpolated linearly. To a lower one they are
    interpolated at six points around each output sample, whose mean is taken, so that noise is averaged and not
    sampled; the points lie symmetrically, so nothing is shifted.

    Parameters
    ----------
    time_s : ndarray, shape (n,), float
        Increasing.
    values : ndarray, shape (n, channel), float
        NaN stays NaN, and so do points between it and its neighbours.
    rate_hz : float
        Of the result.

    Returns
    -------
    ndarray, shape (m, channel), float64
        Sample j at ``time_s[0] + j / rate_hz``, up to the last stamp.

    Raises
    ------
    DataError
        When stamps are missing or do not increase.
    """
    t = np.asarray(time_s, np.float64)
    if len(t) < 2 or len(t) != len(values) or not np.isfinite(t).all() or (np.diff(t) <= 0).any():
        raise DataError(f"{len(t)} time stamps for {len(values)} samples; expected as many, two or more, increasing")
    t = t - t[0]
    if (np.abs(t * rate_hz - np.arange(len(t))) < JITTER).all():
        return np.asarray(values, np.float64)
    m = int(np.floor(t[-1] * rate_hz + 1e-6)) + 1
    wanted = np.arange(m) / rate_hz
    if 1 / rate_hz < np.median(np.diff(t)):
        return _interpolated(wanted, t, values)
    offsets = (np.arange(FINE) - (FINE - 1) / 2) / (FINE * rate_hz)
    fine = _interpolated((wanted[:, None] + offsets).ravel(), t, values)
    return fine.reshape(m, FINE, -1).mean(axis=1)


def _interpolated(wanted: np.ndarray, t: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(wanted, t, column) for column in np.asarray(values, np.float64).T], axis=1)
