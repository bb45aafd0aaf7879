"""Shrinkage LDA on the slow part of a trial: the bar for movement direction from MEG."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import butter, resample_poly, sosfiltfilt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from neurofm.schema.errors import ConfigError, DataError, NeurofmError


def slow_features(
    trials: ArrayLike, *, rate_hz: float, low_pass_hz: float = 8.0, out_rate_hz: float = 25.0
) -> NDArray[np.float64]:
    """Low-pass each trial (4th-order Butterworth, zero phase), resample, flatten.

    Everything happens inside the trial, so nothing outside the samples given has a part in the features.

    Parameters
    ----------
    trials : array_like, shape (trial, channel, time)
    rate_hz, low_pass_hz, out_rate_hz : float
        `low_pass_hz` must lie below half of both rates.

    Returns
    -------
    array, shape (trial, channel · time), float64
    """
    x = np.asarray(trials, dtype=np.float64)
    if x.ndim != 3 or not np.isfinite(x).all():
        raise DataError(f"LDA: expected finite trials of shape (trial, channel, time), got {x.shape}")
    if not 0 < low_pass_hz < rate_hz / 2:
        raise ConfigError(f"LDA: low_pass_hz={low_pass_hz} must lie below half the rate, {rate_hz / 2} Hz")
    sos = butter(4, low_pass_hz, fs=rate_hz, output="sos")
    # scipy's own default padding, shortened for windows that are shorter than it
    padding = min(3 * (2 * len(sos) + 1), x.shape[-1] - 1)
    x = sosfiltfilt(sos, x, axis=-1, padlen=padding)
    ratio = Fraction(out_rate_hz / rate_hz).limit_denominator(1000)
    if ratio != 1:
        x = resample_poly(x, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
    return x.reshape(len(x), -1)


class ShrinkageLDA:
    """Linear discriminant analysis with Ledoit–Wolf shrinkage on `slow_features` (scikit-learn, solver lsqr).

    Parameters
    ----------
    rate_hz : float
        Of the trials given to `fit` and `predict`; 100 and 400 Hz give the same features up to the resampler.
    low_pass_hz, out_rate_hz : float
        As in `slow_features`.
    """

    def __init__(self, *, rate_hz: float, low_pass_hz: float = 8.0, out_rate_hz: float = 25.0) -> None:
        self.choices = {"rate_hz": rate_hz, "low_pass_hz": low_pass_hz, "out_rate_hz": out_rate_hz}
        self._lda: Any = None

    def fit(self, trials: ArrayLike, labels: ArrayLike) -> ShrinkageLDA:
        """Learn from trials of shape (trial, channel, time) and labels of shape (trial,)."""
        y = np.asarray(labels)
        if len(np.unique(y)) < 2:
            raise DataError("LDA: the training trials have a single class; it needs at least two")
        self._lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        self._lda.fit(slow_features(trials, **self.choices), y)
        return self

    @property
    def classes(self) -> NDArray:
        """Labels in the order of the columns of `logits`."""
        if self._lda is None:
            raise NeurofmError("LDA: it has no classes before fit")
        return self._lda.classes_

    def logits(self, trials: ArrayLike) -> NDArray[np.float64]:
        """Log posterior, shape (trial, class)."""
        if self._lda is None:
            raise NeurofmError("LDA: predict was called before fit")
        return self._lda.predict_log_proba(slow_features(trials, **self.choices))

    def predict(self, trials: ArrayLike) -> NDArray:
        """Labels, shape (trial,)."""
        return self.classes[np.argmax(self.logits(trials), axis=1)]
