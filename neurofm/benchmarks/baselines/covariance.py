"""Classical decoders of rhythms: what the covariance of band-passed channels tells about a class.

Common spatial patterns with LDA (Ramoser, Müller-Gerking & Pfurtscheller 2000) and logistic regression in the tangent
space at the mean covariance (Barachant et al. 2012). Both see the calibration alone.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.signal import butter, sosfiltfilt

from neurofm.schema.errors import ConfigError, DataError, NeurofmError

FILTER_ORDER = 4


class RhythmDecoder(Protocol):
    """What both decoders can do."""

    def fit(self, trials: ArrayLike, labels: ArrayLike) -> Any:
        """Learn from trials (trial, channel, time) and labels (trial,)."""

    def predict(self, trials: ArrayLike) -> NDArray:
        """Labels, shape (trial,)."""


def covariances(
    trials: ArrayLike, *, rate_hz: float, band_hz: tuple[float, float] = (8.0, 30.0)
) -> NDArray[np.float64]:
    """Covariance of the band-passed channels of each trial, shrunk as oracle-approximating shrinkage says, (trial, C, C).

    Parameters
    ----------
    trials : array_like, shape (trial, channel, time)
    rate_hz : float
        Samples per second.
    band_hz : pair of float
        Of a Butterworth filter of order 4, run forth and back.
    """
    from sklearn.covariance import oas

    x = np.asarray(trials, dtype=np.float64)
    if x.ndim != 3 or not np.isfinite(x).all():
        raise DataError(f"trials: expected finite values of shape (trial, channel, time), got {x.shape}")
    if not 0 < band_hz[0] < band_hz[1] < rate_hz / 2:
        raise ConfigError(f"band_hz={list(band_hz)} must lie between 0 and half the rate, {rate_hz / 2:g} Hz")
    passed = sosfiltfilt(butter(FILTER_ORDER, band_hz, "bandpass", fs=rate_hz, output="sos"), x, axis=-1)
    return np.stack([oas(trial.T)[0] for trial in passed])


class SpatialPatterns:
    """Filters that make the variance of two classes most unlike, its logarithm, shrinkage LDA.

    Parameters
    ----------
    rate_hz : float
        Samples per second.
    n_filters : int
        Half of them from each end; at most the number of channels.
    """

    def __init__(self, *, rate_hz: float, n_filters: int = 4) -> None:
        self.rate_hz, self.n_filters = rate_hz, n_filters
        self.filters: NDArray[np.float64] | None = None
        self._lda: Any = None

    def fit(self, trials: ArrayLike, labels: ArrayLike) -> SpatialPatterns:
        """Learn from trials (trial, channel, time) of two classes."""
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        y, each = _labels(labels, 2), covariances(trials, rate_hz=self.rate_hz)
        one, other = (each[y == c].mean(0) for c in np.unique(y))
        _, vectors = eigh(one, one + other)
        k = min(self.n_filters, len(one)) // 2
        self.filters = np.concatenate([vectors[:, :k], vectors[:, len(one) - k :]], axis=1)
        self._lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(self._features(each), y)
        return self

    def predict(self, trials: ArrayLike) -> NDArray:
        """Labels, shape (trial,)."""
        return self._lda.predict(self._features(covariances(trials, rate_hz=self.rate_hz)))

    def _features(self, each: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.filters is None:
            raise NeurofmError("common spatial patterns: predict was called before fit")
        variance = np.einsum("cf,ncd,df->nf", self.filters, each, self.filters)
        return np.log(variance / variance.sum(1, keepdims=True))


class TangentSpace:
    """Covariances seen from their geometric mean, logistic regression.

    Parameters
    ----------
    rate_hz : float
        Samples per second.
    """

    def __init__(self, *, rate_hz: float) -> None:
        self.rate_hz = rate_hz
        self.mean: NDArray[np.float64] | None = None
        self._regression: Any = None

    def fit(self, trials: ArrayLike, labels: ArrayLike) -> TangentSpace:
        """Learn from trials (trial, channel, time)."""
        from sklearn.linear_model import LogisticRegression

        y, each = _labels(labels), covariances(trials, rate_hz=self.rate_hz)
        self.mean = geometric_mean(each)
        self._regression = LogisticRegression(max_iter=1000).fit(tangent_vectors(each, self.mean), y)
        return self

    def predict(self, trials: ArrayLike) -> NDArray:
        """Labels, shape (trial,)."""
        if self.mean is None:
            raise NeurofmError("tangent space: predict was called before fit")
        return self._regression.predict(tangent_vectors(covariances(trials, rate_hz=self.rate_hz), self.mean))


def geometric_mean(
    matrices: NDArray[np.float64], *, tolerance: float = 1e-8, n_rounds: int = 50
) -> NDArray[np.float64]:
    """Mean of positive definite matrices (n, C, C) under the affine-invariant distance, by its fixed point."""
    mean = matrices.mean(0)
    for _ in range(n_rounds):
        root, inverse = _power(mean, 0.5), _power(mean, -0.5)
        step = _log(inverse @ matrices @ inverse).mean(0)
        values, vectors = np.linalg.eigh(step)
        mean = root @ ((vectors * np.exp(values)) @ vectors.T) @ root
        if np.linalg.norm(step) < tolerance:
            break
    return mean


def tangent_vectors(matrices: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper triangle of log(mean^-½ · matrix · mean^-½), off-diagonal times √2, shape (n, C (C + 1) / 2)."""
    inverse = _power(mean, -0.5)
    logs = _log(inverse @ matrices @ inverse)
    rows, columns = np.triu_indices(len(mean))
    return logs[:, rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))


def _log(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh((matrices + matrices.swapaxes(-1, -2)) / 2)
    return (vectors * np.log(np.maximum(values, 1e-300))[..., None, :]) @ vectors.swapaxes(-1, -2)


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def _labels(labels: ArrayLike, n_classes: int | None = None) -> NDArray:
    y = np.asarray(labels)
    n = len(np.unique(y))
    if n < 2 or (n_classes is not None and n != n_classes):
        raise DataError(
            f"a decoder of rhythms needs {n_classes or 'two or more'} classes, the training trials have {n}"
        )
    return y
