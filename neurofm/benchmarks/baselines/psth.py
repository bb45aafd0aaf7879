"""The trial average: what is known of a trial from its condition alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.smoothing import gaussian
from neurofm.schema.errors import DataError, NeurofmError


def psth(values: Sequence[ArrayLike], conditions: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Mean over the trials of each condition, shape (bin, unit); trials are cut to the shortest of their condition."""
    if len(values) != len(conditions) or not len(values):
        raise DataError(
            f"PSTH: {len(values)} trials have {len(conditions)} conditions; expected one each, at least one"
        )
    out = {}
    for c in sorted(set(conditions)):
        mine = [np.asarray(v, np.float64) for v, k in zip(values, conditions, strict=True) if k == c]
        shortest = min(map(len, mine))
        out[c] = np.mean([v[:shortest] for v in mine], axis=0)
    return out


class Psth:
    """Smoothed mean counts of the training trials of each condition.

    Parameters
    ----------
    sd_bins : float
        Standard deviation of the Gaussian; 0 = none.
    floor : float
        Lowest expected count per bin: a bin in which no training trial has a spike is no proof that none comes.
    """

    def __init__(self, *, sd_bins: float = 2.0, floor: float = 1e-3) -> None:
        self.sd_bins, self.floor = float(sd_bins), float(floor)
        self.mean: dict[str, NDArray[np.float64]] = {}

    def fit(self, counts: Sequence[ArrayLike], conditions: Sequence[str]) -> Psth:
        """Learn from trials of counts (bin, unit) and their conditions."""
        found = psth(counts, conditions)
        self.mean = {
            c: np.maximum(gaussian(m, sd_bins=self.sd_bins) if self.sd_bins else m, self.floor)
            for c, m in found.items()
        }
        return self

    def predict(self, condition: str, n_bins: int) -> NDArray[np.float64]:
        """Expected counts (bin, unit) of the first bins of a trial."""
        if not self.mean:
            raise NeurofmError("PSTH: predict was called before fit")
        if condition not in self.mean:
            raise DataError(f"PSTH: no training trial has the condition '{condition}'; it cannot be averaged")
        mean = self.mean[condition]
        if n_bins > len(mean):
            # the last bin holds where no training trial was as long
            mean = np.concatenate([mean, np.repeat(mean[-1:], n_bins - len(mean), axis=0)])
        return mean[:n_bins]
