"""Causal smoothing of slow signals such as calcium: each value becomes a mean of itself and the past."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError, nearest

METHODS = ("moving", "gaussian", "exponential")


class Smooth(Stage):
    """Average over the past; at the start of an interval over what there is of it.

    Parameters
    ----------
    method : str
        "moving": the mean of the last `samples`. "gaussian": weights exp(−k² / 2σ²) for the sample k steps back,
        σ = `sigma` samples, cut at 4σ. "exponential": y ← α x + (1 − α) y, from the first sample on.
    samples : int
        Of "moving". The homogenised C. elegans collection (arXiv 2411.12091) averages 8, which it calls a window of 15.
    sigma : float
        Of "gaussian".
    alpha : float
        Of "exponential", 0 < α <= 1.
    """

    def __init__(self, *, method: str = "moving", samples: int = 8, sigma: float = 5.0, alpha: float = 0.5) -> None:
        if method not in METHODS:
            raise ConfigError(f"stage 'smooth': method '{method}' is unknown: {nearest(str(method), METHODS)}")
        if samples < 1 or not sigma > 0 or not 0 < alpha <= 1:
            raise ConfigError(
                f"stage 'smooth': samples is {samples}, sigma {sigma}, alpha {alpha}; expected 1 or more, above 0, and "
                "above 0 up to 1"
            )
        self.method, self.alpha = method, float(alpha)
        if method == "moving":
            self._weights = np.ones(samples)
        else:
            self._weights = np.exp(-0.5 * (np.arange(int(np.ceil(4 * sigma)) + 1) / sigma) ** 2)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        self._past: np.ndarray | None = None
        self._n = 0
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Return the smoothed block."""
        if not len(block):
            return block
        from scipy.signal import lfilter

        x = np.asarray(block, np.float64)
        if self.method == "exponential":
            # the first sample is its own past
            past = (1 - self.alpha) * x[:1] if self._past is None else self._past
            y, self._past = lfilter([self.alpha], [1.0, self.alpha - 1], x, axis=0, zi=past)
            return y
        past = np.zeros((len(self._weights) - 1, x.shape[1])) if self._past is None else self._past
        y, self._past = lfilter(self._weights, [1.0], x, axis=0, zi=past)
        there = np.cumsum(self._weights)
        weight = there[np.minimum(self._n + np.arange(len(x)), len(there) - 1)]
        self._n += len(x)
        return y / weight[:, None]
