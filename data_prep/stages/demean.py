"""Removes each channel's mean over a valid interval, or over its beginning."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError


class Demean(Stage):
    """Subtract each channel's mean.

    With `baseline_s` the mean is that of the interval's first seconds, as for trials with a baseline. Without,
    it is that of the whole interval, which looks at all of it: such data are transductive for within-recording
    tests, so no preset uses it.

    Parameters
    ----------
    baseline_s : float, optional
        Seconds from the interval's start; None = the whole interval.
    """

    causal = False

    def __init__(self, *, baseline_s: float | None = None) -> None:
        if baseline_s is not None and not baseline_s > 0:
            raise ConfigError(f"stage 'demean': baseline_s is {baseline_s}; expected seconds above 0, or null")
        self.baseline_s = baseline_s
        self.surveys = baseline_s is None
        self._sums: dict[int, tuple[np.ndarray, int]] = {}

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Add a block to its interval's mean."""
        total, n = self._sums.get(info.interval, (np.zeros(block.shape[1]), 0))
        self._sums[info.interval] = (total + block.sum(axis=0, dtype=np.float64), n + len(block))

    def conclude(self, info: SignalInfo) -> Verdict:
        """End the survey."""
        return Verdict()

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        self._held: list[np.ndarray] | None = None
        if self.baseline_s is None:
            total, n = self._sums.get(info.interval, (np.zeros(len(info.channels)), 1))
            self._mean = total / max(n, 1)
        else:
            self._held = []
            self._wanted = max(1, round(self.baseline_s * info.rate_hz))
            self.delay_s = self.baseline_s
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Subtract the mean; with `baseline_s`, hold back until the baseline is complete."""
        if self._held is None:
            return block - self._mean
        self._held.append(block)
        if sum(map(len, self._held)) < self._wanted:
            return block[:0]
        return self._release()

    def flush(self) -> np.ndarray | None:
        """Return what was held back when the interval is shorter than its baseline."""
        return self._release() if self._held else None

    def _release(self) -> np.ndarray:
        assert self._held is not None
        x = np.concatenate(self._held).astype(np.float64)
        self._held = None
        self._mean = x[: self._wanted].mean(axis=0)
        return x - self._mean
