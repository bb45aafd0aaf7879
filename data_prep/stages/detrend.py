"""Takes a straight line or a parabola, fitted to a whole valid interval, out of every channel."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError


class Detrend(Stage):
    """Subtract each channel's least-squares polynomial over an interval; its mean stays.

    The trend of the whole is not that of a piece, so a surveying pass sums what the fit needs (Σ tᵏ and Σ tᵏ·x),
    and memory does not grow with the interval. The fit looks at all of it: such data are transductive for tests
    within a recording.

    Parameters
    ----------
    order : int
        1 = linear, 2 = quadratic.
    """

    causal = False
    surveys = True

    def __init__(self, *, order: int = 1) -> None:
        if order not in (1, 2):
            raise ConfigError(f"stage 'detrend': order is {order}; expected 1 (linear) or 2 (quadratic)")
        self.order = order
        self._sums: dict[int, tuple[np.ndarray, int]] = {}

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Add a block to its interval's sums Σ tᵏ·x, t in samples."""
        total, n = self._sums.get(info.interval, (np.zeros((self.order + 1, block.shape[1])), 0))
        powers = np.vander(np.arange(n, n + len(block), dtype=np.float64), self.order + 1, increasing=True)
        self._sums[info.interval] = (total + powers.T @ np.asarray(block, np.float64), n + len(block))

    def conclude(self, info: SignalInfo) -> Verdict:
        """End the survey."""
        return Verdict()

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; solve for its trend.

        Raises
        ------
        ConfigError
            When nothing was surveyed, as in live use.
        """
        if not self._sums:
            raise ConfigError("stage 'detrend' needs the whole recording before its first sample; leave it out live")
        nothing = (np.zeros((self.order + 1, len(info.channels))), 0)
        total, self._length = self._sums.get(info.interval, nothing)
        self._at = 0
        # In u = t / n the normal equations are well conditioned (a Hilbert matrix of three rows).
        degrees = np.arange(self.order + 1)
        basis = self._basis(np.arange(self._length))
        self._weights = np.linalg.lstsq(
            basis.T @ basis, total / float(max(self._length, 1)) ** degrees[:, None], rcond=None
        )[0]
        self._centre = basis.mean(axis=0) if self._length else np.zeros(len(degrees))
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Subtract the trend."""
        basis = self._basis(np.arange(self._at, self._at + len(block))) - self._centre
        self._at += len(block)
        return block - basis[:, 1:] @ self._weights[1:]

    def _basis(self, t: np.ndarray) -> np.ndarray:
        return np.vander(t / max(self._length, 1), self.order + 1, increasing=True)
