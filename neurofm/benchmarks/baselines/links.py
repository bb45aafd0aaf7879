"""Classical maps of directed influence between channels; each takes recordings (time, channel) and gives (from, to)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.lagged_ridge import Gram, add_up, gram, solve
from neurofm.schema.errors import DataError


def cross_correlation(runs: Sequence[ArrayLike], *, max_lag: int) -> NDArray[np.float64]:
    """Return the largest |correlation| of a channel's past with another's present, over lags 1 to `max_lag`."""
    best: NDArray[np.float64] | None = None
    for lag in range(1, max_lag + 1):
        total = np.zeros(())
        for run in _normalised(runs):
            total = total + run[:-lag].T @ run[lag:] / (len(run) - lag) / len(runs)
        best = np.abs(total) if best is None else np.maximum(best, np.abs(total))
    assert best is not None
    return best


def var_coefficients(runs: Sequence[ArrayLike], *, order: int, penalty: float = 10.0) -> NDArray[np.float64]:
    """Return the root of the summed squares, over lags, of a ridge vector autoregression's weights."""
    data = _gram(runs, order)
    weights = solve(data, penalty)
    return np.sqrt((weights.reshape(order, -1, weights.shape[1]) ** 2).sum(0))


def granger(runs: Sequence[ArrayLike], *, order: int) -> NDArray[np.float64]:
    """Return Granger's measure of each pair given all other channels (Geweke 1984).

    It is the logarithm of the residual variance without the channel's past ÷ with it. One inverse serves all pairs: leaving a block S of features out of a least-squares fit raises the residual sum of
    squares of target y by w_Sᵀ (P_SS)⁻¹ w_S, where P is the inverse of the Gram matrix and w the full fit's weights.
    """
    data = _gram(runs, order)
    inverse = np.linalg.inv(data.G + 1e-9 * np.trace(data.G) / len(data.G) * np.eye(len(data.G)))
    weights = inverse @ data.B
    C = data.B.shape[1]
    targets = np.concatenate([run[order:] for run in _normalised(runs)])
    full = (targets**2).sum(0) - (weights * data.B).sum(0)
    out = np.zeros((C, C))
    for i in range(C):
        block = np.arange(order) * C + i
        own = weights[block]
        out[i] = np.log1p((own * np.linalg.solve(inverse[np.ix_(block, block)], own)).sum(0) / full)
    return out


def lasso(runs: Sequence[ArrayLike], *, order: int) -> NDArray[np.float64]:
    """Return, as `var_coefficients`, the weights of scikit-learn's lasso with the penalty by the Bayesian criterion."""
    from sklearn.linear_model import LassoLarsIC

    features, targets = _rows(runs, order)
    C = targets.shape[1]
    out = np.zeros((C, C))
    for j in range(C):
        weights = LassoLarsIC(criterion="bic").fit(features, targets[:, j]).coef_
        out[:, j] = np.sqrt((weights.reshape(order, C) ** 2).sum(0))
    return out


def _normalised(runs: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
    arrays = [np.asarray(run, dtype=np.float64) for run in runs]
    if not arrays or any(a.ndim != 2 for a in arrays):
        raise DataError("links: expected at least one recording of shape (time, channel)")
    return [(a - a.mean(0)) / a.std(0) for a in arrays]


def _gram(runs: Sequence[ArrayLike], order: int) -> Gram:
    return add_up(gram(run, tuple(range(-order, 0))) for run in _normalised(runs))


def _rows(runs: Sequence[ArrayLike], order: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features (sample, lag · channel), and what they are to predict (sample, channel)."""
    runs = _normalised(runs)
    past = [np.concatenate([r[k : len(r) - order + k] for k in range(order)], axis=1) for r in runs]
    return np.concatenate(past), np.concatenate([r[order:] for r in runs])
