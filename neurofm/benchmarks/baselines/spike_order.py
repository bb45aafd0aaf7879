"""The next unit of a sorted list of spikes, from rates and the order alone: what a model of spikes has to beat.

Neuroformer's tokens of one time step stand in the order of their units, so a unit late in the list is rarely followed by
an early one. A model that knows nothing but rates gains from that; the entropy of the rates (unigram) does not tell.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError, NeurofmError

Ints = NDArray[np.int64]


class OrderedUnigram:
    """Units that fire in each time step independently of each other and of the past, listed in their order.

    Parameters
    ----------
    n_units, n_steps : int
        Units, and time steps of a window.
    """

    def __init__(self, *, n_units: int, n_steps: int) -> None:
        self.n_units, self.n_steps = n_units, n_steps
        self.share: NDArray[np.float64] | None = None

    def fit(self, unit: ArrayLike, step: ArrayLike, mask: ArrayLike) -> OrderedUnigram:
        """Learn how often a unit fires in a step, and again in the same, from windows (window, token)."""
        u, s, m = np.asarray(unit, np.int64), np.asarray(step, np.int64), np.asarray(mask, bool)
        if u.shape != s.shape or u.shape != m.shape or u.ndim != 2 or not m.any():
            raise DataError("OrderedUnigram: expected unit, step and mask of one shape (window, token), with a spike")
        at = np.broadcast_to(np.arange(len(u))[:, None], u.shape)
        cell = ((at * self.n_steps + s) * self.n_units + u)[m]
        _, first, count = np.unique(cell, return_index=True, return_counts=True)
        who = u[m][first]
        there = np.bincount(who, minlength=self.n_units)
        # half a spike, so that a silent unit is not impossible
        self.share = (there + 0.5) / (len(u) * self.n_steps + 1)
        spikes = np.bincount(who, weights=count, minlength=self.n_units)
        self.again = (spikes - there + 0.5) / (spikes + 1)
        self.rate = spikes + 0.5
        return self

    def nats(self, unit: ArrayLike, step: ArrayLike, mask: ArrayLike) -> tuple[float, float]:
        """Mean surprise of every spike's unit, given that there is one: by rates and order, and by rates alone."""
        if self.share is None:
            raise NeurofmError("OrderedUnigram: nats was called before fit")
        u, s, m = np.asarray(unit, np.int64), np.asarray(step, np.int64), np.asarray(mask, bool)
        before = np.concatenate([np.full((len(u), 1), -1), u[:, :-1]], axis=1)[m]
        now = np.concatenate([np.zeros((len(u), 1), np.int64), s[:, :-1]], axis=1)[m]
        truth = u[m]
        p = self.predict(before, now)
        by_rate = np.log(self.rate / self.rate.sum())
        return float(-np.log(p[np.arange(len(truth)), truth]).mean()), float(-by_rate[truth].mean())

    def predict(self, before: Ints, now: Ints) -> NDArray[np.float64]:
        """Chances of the next unit, (token, unit), after unit `before` (−1: none yet) in step `now`."""
        assert self.share is not None
        # log of the chance that units 0 … j − 1 are silent
        silent = np.concatenate([[0.0], np.cumsum(np.log1p(-self.share))])
        first = np.exp(silent[:-1]) * self.share
        whole = np.exp(silent[-1])
        again = np.where(before >= 0, self.again[np.maximum(before, 0)], 0.0)[:, None]
        later = np.arange(self.n_units) > before[:, None]
        same = np.where(later, (1 - again) * first * np.exp(-silent[before + 1])[:, None], 0.0)
        same += np.where(np.arange(self.n_units) == before[:, None], again, 0.0)
        nobody = (1 - again) * np.exp(silent[-1] - silent[before + 1])[:, None]
        left = self.n_steps - 1 - now[:, None]
        chance = same + nobody * first * (1 - whole**left) / (1 - whole)
        return chance / chance.sum(1, keepdims=True)
