"""Poisson regression: of held-out units on smoothed others, and of every unit on the past of all (a coupled GLM)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError, NeurofmError

# scikit-learn's own 1e-4 stops after six steps where spikes are sparse, long before the couplings have settled
TOLERANCE = 1e-6


class PoissonGlm:
    """Log-linear Poisson regression of counts on features, one unit at a time (scikit-learn, L-BFGS).

    Features are centred and scaled on the training bins.

    Parameters
    ----------
    alpha : float
        Ridge penalty on the weights of scaled features, in mean deviance (scikit-learn's alpha).
    max_iter : int
        Of L-BFGS.
    """

    def __init__(self, *, alpha: float = 0.01, max_iter: int = 300) -> None:
        if alpha < 0:
            raise DataError(f"PoissonGlm: alpha is {alpha}; expected 0 or more")
        self.alpha, self.max_iter = float(alpha), int(max_iter)
        self.weights: NDArray[np.float64] | None = None

    def fit(self, features: ArrayLike, counts: ArrayLike) -> PoissonGlm:
        """Learn from features (bin, feature) and counts (bin, unit)."""
        from sklearn.linear_model import PoissonRegressor

        x, y = np.asarray(features, np.float64), np.asarray(counts, np.float64)
        self._mean, self._scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
        z = (x - self._mean) / self._scale
        weights, bias = np.zeros((x.shape[1], y.shape[1])), np.full(y.shape[1], -20.0)
        for k in range(y.shape[1]):
            # a unit that never fires has no maximum; its rate stays at exp(−20)
            if y[:, k].any():
                fitted = PoissonRegressor(alpha=self.alpha, max_iter=self.max_iter, tol=TOLERANCE).fit(z, y[:, k])
                weights[:, k], bias[k] = fitted.coef_, fitted.intercept_
        # in the features' own unit
        self.weights = weights / self._scale[:, None]
        self.bias = bias - self._mean @ self.weights
        return self

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Expected counts (bin, unit) of features (bin, feature)."""
        if self.weights is None:
            raise NeurofmError("PoissonGlm: predict was called before fit")
        # no training rate is near e^10 spikes per bin; beyond it a test outlier would weigh more than all else
        return np.exp(np.minimum(np.asarray(features, np.float64) @ self.weights + self.bias, 10.0))


def past_features(counts: ArrayLike, *, taus_bins: tuple[float, ...], delay_bins: int = 1) -> NDArray[np.float64]:
    """Causal exponential averages of every unit's past, shape (bin, filter · unit), filter-major.

    Parameters
    ----------
    counts : array_like, shape (bin, unit)
    taus_bins : tuple of float
        Time constants.
    delay_bins : int
        The newest bin that is seen lies so many back; at least 1.
    """
    from neurofm.benchmarks.baselines.smoothing import exponential

    x = np.asarray(counts, np.float64)
    if delay_bins < 1:
        raise DataError(f"past_features: delay_bins is {delay_bins}; a bin must not see itself, expected 1 or more")
    seen = np.concatenate([np.zeros((min(delay_bins, len(x)), x.shape[1])), x])[: len(x)]
    return np.concatenate([exponential(seen, tau_bins=tau) for tau in taus_bins], axis=1)


class CoupledGlm:
    """Every unit's counts from all units' past (Pillow et al. 2008), for prediction and for directed couplings.

    Parameters
    ----------
    taus_bins : tuple of float
        Time constants of the filters.
    delay_bins : int
        As in `past_features`.
    alpha : float
        As in `PoissonGlm`.
    """

    def __init__(self, *, taus_bins: tuple[float, ...] = (1.0, 4.0), delay_bins: int = 1, alpha: float = 1e-4) -> None:
        self.taus_bins, self.delay_bins = tuple(taus_bins), int(delay_bins)
        self.glm = PoissonGlm(alpha=alpha)

    def fit(self, counts: list[ArrayLike]) -> CoupledGlm:
        """Learn from trials of counts (bin, unit)."""
        trials = [np.asarray(c, np.float64) for c in counts]
        self.glm.fit(np.concatenate([self._seen(c) for c in trials]), np.concatenate(trials))
        return self

    def predict(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Expected counts of each bin given the bins before, (bin, unit)."""
        return self.glm.predict(self._seen(counts))

    def couplings(self, which: int | None = None) -> NDArray[np.float64]:
        """Weights of one filter, or summed over filters, (presynaptic, postsynaptic); the diagonal (own past) is 0."""
        if self.glm.weights is None:
            raise NeurofmError("CoupledGlm: couplings was called before fit")
        n = self.glm.weights.shape[1]
        # an exponential average has unit sum, so its weight is the filter's integral
        each = self.glm.weights.reshape(len(self.taus_bins), n, n)
        total = each.sum(0) if which is None else each[which].copy()
        np.fill_diagonal(total, 0.0)
        return total

    def _seen(self, counts: ArrayLike) -> NDArray[np.float64]:
        return past_features(counts, taus_bins=self.taus_bins, delay_bins=self.delay_bins)
