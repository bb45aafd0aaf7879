"""Counts as smooth rates: Gaussian (looks both ways) and exponential (looks back only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def gaussian(counts: ArrayLike, *, sd_bins: float) -> NDArray[np.float64]:
    """Smooth counts, shape (bin, unit), over time; at the ends by what there is, so that a constant stays constant."""
    from scipy.ndimage import gaussian_filter1d

    x = np.asarray(counts, np.float64)
    there = gaussian_filter1d(np.ones(len(x)), sd_bins, mode="constant")
    return gaussian_filter1d(x, sd_bins, axis=0, mode="constant") / there[:, None]


def exponential(counts: ArrayLike, *, tau_bins: float) -> NDArray[np.float64]:
    """Smooth counts, shape (bin, unit), by y ← a y + (1 − a) x with a = exp(−1/τ): causal."""
    from scipy.signal import lfilter

    keep = float(np.exp(-1 / tau_bins))
    return lfilter([1 - keep], [1, -keep], np.asarray(counts, np.float64), axis=0)
