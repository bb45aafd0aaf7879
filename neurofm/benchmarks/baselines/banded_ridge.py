"""Banded ridge: an encoding model whose feature spaces each have a penalty of their own.

Nunez-Elizalde, Huth and Gallant 2019 (doi:10.1016/j.neuroimage.2019.04.012), by random search over the bands' shares as
in Dupré la Tour et al. 2022. In kernel form: with K = Σ_b γ_b X_b X_bᵀ, γ on the simplex, ridge at penalty α equals ridge
on the features with penalty α / γ_b each. Shares and penalty are chosen per target by cross-validation on the training
rows alone; one band is plain ridge.

Shape legend: n samples, p features of a band, t targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError

Array = NDArray[np.float64]
ALPHAS = tuple(10.0**k for k in range(-3, 6))


class BandedRidge:
    """Fit with `fit`, estimate with `predict`; features and targets are centred by their training means.

    Parameters
    ----------
    alphas : sequence of float
        Penalties to choose from.
    n_draws : int
        Shares drawn from a uniform Dirichlet, besides equal shares and each band alone; without effect for one band.
    n_folds : int
        Of the cross-validation; contiguous, as neighbours in time are alike.
    seed : int
        Of the drawn shares.
    """

    def __init__(self, *, alphas: Sequence[float] = ALPHAS, n_draws: int = 20, n_folds: int = 5, seed: int = 0) -> None:
        if min(alphas, default=0) <= 0 or n_folds < 2 or n_draws < 0:
            raise ConfigError(
                f"banded ridge: alphas must be above 0, n_folds={n_folds} at least 2 and n_draws={n_draws} at least 0"
            )
        self.alphas, self.n_draws, self.n_folds, self.seed = tuple(alphas), n_draws, n_folds, seed

    def fit(
        self, features: Mapping[str, ArrayLike], targets: ArrayLike, groups: Sequence[object] | None = None
    ) -> BandedRidge:
        """Choose shares and penalty of each target, and fit on all rows.

        Parameters
        ----------
        features : mapping of str to array_like, shape (n, p)
            Band → features.
        targets : array_like, shape (n, t)
        groups : sequence, optional
            Label of each row (its stimulus, its run): rows of one label are never on both sides of a fold.

        Raises
        ------
        DataError
            When rows do not match, values are not finite or there are fewer rows (or groups) than folds.
        """
        bands = {name: np.asarray(x, dtype=np.float64) for name, x in features.items()}
        y = np.asarray(targets, dtype=np.float64)
        _check(bands, y)
        self.names = tuple(bands)
        folds = _folds(len(y), self.n_folds, groups)
        shares = self._shares(len(bands))
        best = np.full(y.shape[1], np.inf)
        self.share_, self.alpha_ = np.zeros((y.shape[1], len(bands))), np.zeros(y.shape[1])
        raw = [x @ x.T for x in bands.values()]
        for share in shares:
            kernel = np.sum([s * k for s, k in zip(share, raw, strict=True)], axis=0)
            error = np.sum([_fold_errors(kernel, y, fold, self.alphas) for fold in folds], axis=0)
            choice = error.argmin(0)
            value = error[choice, np.arange(y.shape[1])]
            better = value < best
            best[better] = value[better]
            self.share_[better] = share
            self.alpha_[better] = np.asarray(self.alphas)[choice[better]]
        self.mean_ = {name: x.mean(0) for name, x in bands.items()}
        self.target_mean_ = y.mean(0)
        self.weights_ = self._weights(bands, y)
        return self

    def predict(self, features: Mapping[str, ArrayLike]) -> Array:
        """Return estimates, shape (n, t)."""
        if set(features) != set(self.names):
            raise DataError(f"banded ridge: was fitted on the bands {', '.join(self.names)}, got {', '.join(features)}")
        total = sum((np.asarray(features[n], dtype=np.float64) - self.mean_[n]) @ self.weights_[n] for n in self.names)
        return np.asarray(total + self.target_mean_)

    def _shares(self, n_bands: int) -> Array:
        if n_bands == 1:
            return np.ones((1, 1))
        drawn = np.random.default_rng(self.seed).dirichlet(np.ones(n_bands), self.n_draws)
        return np.concatenate([np.full((1, n_bands), 1 / n_bands), np.eye(n_bands), drawn])

    def _weights(self, bands: Mapping[str, Array], y: Array) -> dict[str, Array]:
        """Primal weights (p, t) of each band, all targets of one choice in one solve."""
        centred = {name: x - self.mean_[name] for name, x in bands.items()}
        raw = {name: x @ x.T for name, x in centred.items()}
        weights = {name: np.zeros((x.shape[1], y.shape[1])) for name, x in bands.items()}
        chosen = np.concatenate([self.share_, self.alpha_[:, None]], axis=1)
        for row in np.unique(chosen, axis=0):
            which = (chosen == row).all(1)
            kernel = np.sum([s * raw[n] for s, n in zip(row[:-1], self.names, strict=True)], axis=0)
            dual = np.linalg.solve(kernel + row[-1] * np.eye(len(y)), y[:, which] - self.target_mean_[which])
            for s, name in zip(row[:-1], self.names, strict=True):
                weights[name][:, which] = s * centred[name].T @ dual
        return weights


def _folds(n: int, n_folds: int, groups: Sequence[object] | None) -> list[NDArray[np.intp]]:
    """Rows held out by each fold: contiguous, and whole groups in the order in which they first occur."""
    labels = np.arange(n)
    if groups is not None:
        if len(groups) != n:
            raise DataError(f"banded ridge: {len(groups)} groups for {n} rows")
        order = {g: i for i, g in enumerate(dict.fromkeys(groups))}
        labels = np.array([order[g] for g in groups])
    n_labels = int(labels.max()) + 1
    if n_labels < n_folds:
        raise DataError(f"banded ridge: {n_labels} rows or groups are too few for {n_folds} folds")
    fold = labels * n_folds // n_labels
    return [np.flatnonzero(fold == k) for k in range(n_folds)]


def _fold_errors(kernel: Array, y: Array, held_out: NDArray[np.intp], alphas: Sequence[float]) -> Array:
    """Squared error of one fold for each penalty and target, (alphas, t); centring uses the fold's training rows."""
    train = np.setdiff1d(np.arange(len(y)), held_out)
    k_train, k_test = kernel[np.ix_(train, train)], kernel[np.ix_(held_out, train)]
    # centred in feature space: (φ(x) − mean)·(φ(z) − mean)
    column, total = k_train.mean(0), k_train.mean()
    k_test = k_test - k_test.mean(1, keepdims=True) - column + total
    k_train = k_train - column - column[:, None] + total
    mean = y[train].mean(0)
    values, vectors = np.linalg.eigh(k_train)
    rotated, projected = vectors.T @ (y[train] - mean), k_test @ vectors
    errors = []
    for alpha in alphas:
        estimate = projected @ (rotated / (values.clip(min=0) + alpha)[:, None]) + mean
        errors.append(((y[held_out] - estimate) ** 2).sum(0))
    return np.stack(errors)


def _check(bands: Mapping[str, Array], y: Array) -> None:
    if not bands or y.ndim != 2:
        raise DataError(f"banded ridge: needs a band of features and targets (n, t), got {len(bands)} and {y.shape}")
    for name, x in bands.items():
        if x.ndim != 2 or len(x) != len(y):
            raise DataError(f"banded ridge: band '{name}' has shape {x.shape}, the targets have {len(y)} rows")
        if not np.isfinite(x).all():
            raise DataError(f"banded ridge: band '{name}' holds values that are not finite")
    if not np.isfinite(y).all():
        raise DataError("banded ridge: targets hold values that are not finite")
