"""Quantiles of a stream in one pass: a histogram whose bins hold equal mass wherever the values turn out to lie."""

from __future__ import annotations

import numpy as np

BINS = 8192


class Quantiles:
    """Quantiles of every channel of a stream, in memory that grows with the logarithm of its length.

    Bins of equal width would have to be known before the data are: an offset, an artefact in the first second or a
    gain that changes would leave all that matters in one bin. Here `n_bins` samples in order are a histogram of
    bins of equal mass; two such histograms of equal weight are merged into one by joining neighbours in pairs, so
    that log₂(samples / n_bins) of them stand at any time (the binary counter of Munro and Paterson 1980). A join
    moves no rank by more than 1 / (2 · n_bins); for the middle of a distribution with a density that is an error
    far under a thousandth of the interquartile range. Where a distribution has a hole, its quantile there is
    right in rank (to 1e-4) but may lie anywhere in the hole.

    Parameters
    ----------
    n_channels : int
        Columns of what is added.
    n_bins : int
        Bins per histogram.
    """

    def __init__(self, n_channels: int, n_bins: int = BINS) -> None:
        self.n_channels, self.n_bins = n_channels, n_bins
        self.n = 0
        self._filling = np.empty((n_channels, n_bins))
        self._fill = 0
        self._levels: list[np.ndarray | None] = []

    def add(self, block: np.ndarray) -> None:
        """Take finite values of shape (time, channel)."""
        self.n += len(block)
        at = 0
        while at < len(block):
            take = min(self.n_bins - self._fill, len(block) - at)
            self._filling[:, self._fill : self._fill + take] = block[at : at + take].T
            self._fill += take
            at += take
            if self._fill == self.n_bins:
                self._carry(np.sort(self._filling, axis=1))
                self._fill = 0

    def _carry(self, values: np.ndarray) -> None:
        level = 0
        while level < len(self._levels) and (standing := self._levels[level]) is not None:
            both = np.sort(np.concatenate([standing, values], axis=1), axis=1, kind="stable")
            values = (both[:, 0::2] + both[:, 1::2]) / 2
            self._levels[level] = None
            level += 1
        if level == len(self._levels):
            self._levels.append(None)
        self._levels[level] = values

    def at(self, q: float | list[float]) -> np.ndarray:
        """Return quantiles as ``numpy.quantile`` does.

        Parameters
        ----------
        q : float or list of float
            Between 0 and 1.

        Returns
        -------
        array, shape (n_q, channel)
            NaN when nothing was added.
        """
        wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not self.n:
            return np.full((len(wanted), self.n_channels), np.nan)
        parts = [(self._filling[:, : self._fill], 1)]
        parts += [(values, 2**level) for level, values in enumerate(self._levels) if values is not None]
        values = np.concatenate([v for v, _ in parts], axis=1)
        weight = np.concatenate([np.full(v.shape[1], float(w)) for v, w in parts])
        order = np.argsort(values, axis=1, kind="stable")
        out = np.empty((len(wanted), self.n_channels))
        for c in range(self.n_channels):
            mass = weight[order[c]]
            # rank of a bin's middle, on the scale where the smallest value has 0 and the largest n − 1
            rank = np.cumsum(mass) - mass / 2 - 0.5
            out[:, c] = np.interp(wanted * (self.n - 1), rank, values[c, order[c]])
        return out
