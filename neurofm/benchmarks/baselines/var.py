"""The bar for the next volume: persistence, and ridge vector autoregression of order p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.lagged_ridge import Gram, add_up, gram, solve
from neurofm.schema.errors import DataError, NeurofmError


def predict_persistence(history: ArrayLike) -> NDArray[np.float64]:
    """Say that the next volume equals the last one; `history` (window, context, region) → (window, region)."""
    return np.asarray(history, dtype=np.float64)[:, -1, :]


class VAR:
    """Ridge VAR(p): the next volume as a linear function of the last p volumes of all regions.

    Population, own and population-shrunk fits as in `MaskedRegionRidge`: `fit` on other people, `adapt` on the new
    one (towards the population if there is one, else towards zero). Values are expected normalised.

    Parameters
    ----------
    order : int
        p, in volumes.
    penalty, penalty_own : float
        Ridge penalties of the population and of the new person.
    """

    def __init__(self, *, order: int = 1, penalty: float = 1000.0, penalty_own: float = 1000.0) -> None:
        if order < 1:
            raise DataError(f"VAR: order is {order}; it must be at least 1 volume")
        self.order, self.penalty, self.penalty_own = int(order), float(penalty), float(penalty_own)
        self.lags = tuple(range(-order, 0))
        self.weights: NDArray[np.float64] | None = None

    def _with(self, weights: NDArray[np.float64]) -> VAR:
        other = VAR(order=self.order, penalty=self.penalty, penalty_own=self.penalty_own)
        other.weights = weights
        return other

    def fit(self, runs: Sequence[ArrayLike]) -> VAR:
        """Learn the population's weights from normalised runs of other people, each of shape (time, region)."""
        return self.fit_gram(add_up(gram(run, self.lags) for run in runs))

    def fit_gram(self, population: Gram) -> VAR:
        """As `fit`, from the sum of people's Gram matrices."""
        return self._with(solve(population, self.penalty))

    def adapt(self, calibration: ArrayLike) -> VAR:
        """Shrink towards the population on normalised volumes of shape (n, region); n = 0 keeps the population."""
        values = np.asarray(calibration)
        if len(values) == 0:
            if self.weights is None:
                raise NeurofmError("VAR: no population and no calibration volumes; call fit first")
            return self
        return self._with(solve(gram(values, self.lags), self.penalty_own, self.weights))

    def predict_next(self, history: ArrayLike) -> NDArray[np.float64]:
        """Predict the volume after each history; (window, context, region) → (window, region)."""
        x = np.asarray(history, dtype=np.float64)
        if self.weights is None:
            raise NeurofmError("VAR: predict was called before fit or adapt")
        if x.shape[1] < self.order:
            raise DataError(f"VAR: {x.shape[1]} volumes of history are fewer than the order {self.order}")
        # Time-major rows are lag-major features: lag −p first, −1 last, as in `lagged`
        return x[:, -self.order :, :].reshape(len(x), -1) @ self.weights
