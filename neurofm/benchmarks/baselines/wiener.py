"""Linear decoding of behaviour from spikes: ridge over the last bins (a Wiener filter), its penalty by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError, NeurofmError

PENALTIES = tuple(float(p) for p in np.logspace(-2, 5, 15))


def causal_taps(features: ArrayLike, n_taps: int) -> NDArray[np.float64]:
    """Stack each bin with the n_taps − 1 before it, shape (bin, tap · unit); before the first bin there are zeros."""
    x = np.asarray(features, np.float64)
    padded = np.concatenate([np.zeros((n_taps - 1, x.shape[1])), x])
    return np.concatenate([padded[k : k + len(x)] for k in range(n_taps)], axis=1)


class WienerFilter:
    """Ridge from the causal taps of every unit to each behavioural dimension.

    Features are centred and scaled on the training trials. The penalty is the one of highest R² over contiguous folds of
    the training trials; where there is one trial, it is cut into as many stretches as folds.

    Parameters
    ----------
    n_taps : int
        Bins of history, the present one included.
    penalties : sequence of float
        Candidates, per training sample of unit variance.
    n_folds : int
        Of the choice among them.
    """

    def __init__(self, *, n_taps: int = 15, penalties: Sequence[float] = PENALTIES, n_folds: int = 5) -> None:
        if n_taps < 1 or n_folds < 2 or not len(penalties):
            raise DataError("WienerFilter: expected n_taps of 1 or more, n_folds of 2 or more, and some penalties")
        self.n_taps, self.penalties, self.n_folds = int(n_taps), tuple(penalties), int(n_folds)
        self.penalty = float("nan")
        self._weights: NDArray[np.float64] | None = None

    def fit(self, features: Sequence[ArrayLike], behaviour: Sequence[ArrayLike]) -> WienerFilter:
        """Learn from trials, (bin, unit) and (bin, dimension) each; bins whose behaviour is not finite are left out."""
        x = [causal_taps(f, self.n_taps) for f in features]
        y = [np.asarray(b, np.float64) for b in behaviour]
        if not x or any(len(a) != len(b) for a, b in zip(x, y, strict=True)):
            raise DataError("WienerFilter: features and behaviour differ in length; give both on the same bins")
        if len(x) < self.n_folds:
            x, y = ([piece for a in part for piece in np.array_split(a, self.n_folds)] for part in (x, y))
        kept = [np.isfinite(b).all(1) for b in y]
        x, y = ([a[k] for a, k in zip(part, kept, strict=True)] for part in (x, y))
        every = np.concatenate(x)
        self._mean, self._scale = every.mean(0), np.where(every.std(0) > 0, every.std(0), 1.0)
        x = [(a - self._mean) / self._scale for a in x]
        self._centre = np.concatenate(y).mean(0)
        # sums per fold: leaving one out is a subtraction
        folds = [np.arange(k, len(x), self.n_folds) for k in range(self.n_folds)]
        sums = [_sums([x[i] for i in f], [y[i] - self._centre for i in f]) for f in folds]
        total = (np.sum([g for g, _ in sums], axis=0), np.sum([b for _, b in sums], axis=0))
        errors = np.zeros(len(self.penalties))
        for f, (g, b) in zip(folds, sums, strict=True):
            values, vectors = np.linalg.eigh(total[0] - g)
            turned = vectors.T @ (total[1] - b)
            held_x = np.concatenate([x[i] for i in f]) @ vectors
            held_y = np.concatenate([y[i] for i in f]) - self._centre
            for k, p in enumerate(self.penalties):
                errors[k] += ((held_y - held_x @ (turned / (np.maximum(values, 0) + p)[:, None])) ** 2).sum()
        self.penalty = self.penalties[int(np.argmin(errors))]
        self._weights = np.asarray(
            np.linalg.solve(total[0] + self.penalty * np.eye(len(total[0])), total[1]), np.float64
        )
        return self

    def predict(self, features: ArrayLike) -> NDArray[np.float64]:
        """Behaviour of one trial, (bin, dimension), from its features (bin, unit)."""
        if self._weights is None:
            raise NeurofmError("WienerFilter: predict was called before fit")
        x = (causal_taps(features, self.n_taps) - self._mean) / self._scale
        return x @ self._weights + self._centre


def _sums(
    x: list[NDArray[np.float64]], y: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.concatenate(x), np.concatenate(y)
    return a.T @ a, a.T @ b
