"""The bar for masked regions: ridge from all other regions, population weights shrunk towards on a new person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.lagged_ridge import Gram, add_up, gram, lagged, solve_without_target
from neurofm.schema.errors import DataError, NeurofmError

LAGS = (-1, 0, 1)
PENALTY = 1000.0


class MaskedRegionRidge:
    """Predict a hidden region from all the others at volumes −1, 0 and +1.

    Population: ``min ‖Y − F W‖² + λ ‖W‖²`` over other people. New person: ``min ‖Y − F V‖² + λ ‖V − W‖²`` over its own
    calibration volumes. `adapt` returns a new object, so one population serves every budget. All values are expected
    normalised (other people by their whole run, the new one by its calibration volumes: `adapted.normalise`), so
    there is no intercept.

    Parameters
    ----------
    targets : sequence of int
        Regions that will be hidden, one at a time.
    lags : sequence of int
        Volumes seen, relative to the predicted one.
    penalty, penalty_own : float
        λ of the population and of the new person; 1000 is the bar as published with the data set.
    """

    def __init__(
        self,
        *,
        targets: Sequence[int],
        lags: Sequence[int] = LAGS,
        penalty: float = PENALTY,
        penalty_own: float = PENALTY,
    ) -> None:
        self.targets = [int(t) for t in targets]
        self.lags = tuple(lags)
        self.penalty, self.penalty_own = float(penalty), float(penalty_own)
        self.weights: NDArray[np.float64] | None = None

    def _with(self, weights: NDArray[np.float64]) -> MaskedRegionRidge:
        other = MaskedRegionRidge(
            targets=self.targets, lags=self.lags, penalty=self.penalty, penalty_own=self.penalty_own
        )
        other.weights = weights
        return other

    def fit(self, runs: Sequence[ArrayLike]) -> MaskedRegionRidge:
        """Learn the population's weights from normalised runs of other people, each of shape (time, region)."""
        return self.fit_gram(add_up(gram(run, self.lags) for run in runs))

    def fit_gram(self, population: Gram) -> MaskedRegionRidge:
        """As `fit`, from the sum of people's Gram matrices (made once, shared by all folds)."""
        return self._with(solve_without_target(population, self.penalty, self.targets))

    def adapt(self, calibration: ArrayLike) -> MaskedRegionRidge:
        """Shrink towards the population (towards zero when `fit` was not called: own data only).

        Parameters
        ----------
        calibration : array_like, shape (n, region)
            Normalised; with n = 0 the population's weights are kept.
        """
        values = np.asarray(calibration)
        if len(values) == 0:
            if self.weights is None:
                raise NeurofmError("masked-region ridge: no population and no calibration volumes; call fit first")
            return self
        own = gram(values, self.lags)
        return self._with(solve_without_target(own, self.penalty_own, self.targets, self.weights))

    def predict_masked(self, values: ArrayLike, hidden: int) -> NDArray[np.float64]:
        """Predict the hidden region in windows; see `protocols.masked_region_scores`.

        Parameters
        ----------
        values : array_like, shape (window, time, region)
            Normalised; whatever stands in the hidden region is not used.
        hidden : int
            One of `targets`.

        Returns
        -------
        array, shape (window, time)
            NaN where a lag falls outside the window.
        """
        if self.weights is None:
            raise NeurofmError("masked-region ridge: predict was called before fit or adapt")
        if hidden not in self.targets:
            raise DataError(f"masked-region ridge: region {hidden} is not among the targets it was fitted for")
        x = np.array(values, dtype=np.float64)
        x[..., hidden] = 0.0
        features, start, stop = lagged(x, self.lags)
        predicted = np.full(x.shape[:-1], np.nan)
        predicted[..., start:stop] = features @ self.weights[:, self.targets.index(hidden)]
        return predicted
