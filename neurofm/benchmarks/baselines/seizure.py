"""Classical seizure detectors, and an oracle that sees the source: what a network has to beat, and what it can reach.

Features are pooled over channels by quantiles, so one detector serves people with any channels; each is taken as it is
and relative to its own running median over the windows before, so that a person's level and slow changes cancel without
looking ahead.

Shape legend: W window, T sample, C channel, F feature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError, nearest

QUANTILES = (0.5, 0.9, 1.0)
BANDS_HZ = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 60.0))
# windows of history that a level is taken from
MEMORY = 120
DETECTORS = ("line_length", "band_power")


def line_length(windows: ArrayLike) -> NDArray[np.float64]:
    """Log of the mean absolute step of each channel (Esteller et al. 2001, IEEE EMBS), (W, T, C) → (W, C)."""
    x = np.asarray(windows, dtype=np.float64)
    return np.log(np.abs(np.diff(x, axis=1)).mean(1) + 1e-12)


def band_power(windows: ArrayLike, *, rate_hz: float) -> NDArray[np.float64]:
    """Log power of each channel in the bands below half the rate, (W, T, C) → (W, C · bands)."""
    x = np.asarray(windows, dtype=np.float64)
    x = (x - x.mean(1, keepdims=True)) * np.hanning(x.shape[1])[None, :, None]
    power = np.abs(np.fft.rfft(x, axis=1)) ** 2
    hz = np.fft.rfftfreq(x.shape[1], 1 / rate_hz)
    bands = [(hz >= low) & (hz < high) for low, high in BANDS_HZ if low < rate_hz / 2]
    found = [power[:, b].mean(1) for b in bands if b.any()]
    if not found:
        raise DataError(f"band power: windows of {x.shape[1]} samples at {rate_hz:g} Hz resolve none of the bands")
    return np.log(np.stack(found, axis=-1) + 1e-12).reshape(len(x), -1)


def pooled(per_channel: NDArray[np.float64], n_channels: int) -> NDArray[np.float64]:
    """Quantiles over channels of each feature, (W, C · F) → (W, F · quantiles)."""
    x = per_channel.reshape(len(per_channel), n_channels, -1)
    return np.quantile(x, QUANTILES, axis=1).transpose(1, 0, 2).reshape(len(x), -1)


def against_history(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Features beside their distance from the median of up to `MEMORY` windows before, (W, F) → (W, 2 F).

    The first window has no history and is taken as its own.
    """
    level = np.stack([np.median(features[max(0, i - MEMORY) : max(i, 1)], axis=0) for i in range(len(features))])
    return np.concatenate([features, features - level], axis=1)


def features_of(windows: ArrayLike, *, kind: str, rate_hz: float) -> NDArray[np.float64]:
    """Features of consecutive windows of one unbroken stretch, (W, T, C) → (W, F).

    Parameters
    ----------
    windows : array_like, shape (W, T, C)
        In time order; C may differ between stretches.
    kind : str
        "line_length" or "band_power".
    rate_hz : float
        Sampling rate.
    """
    if kind not in DETECTORS:
        raise ConfigError(f"seizure baseline '{kind}' is unknown: {nearest(kind, DETECTORS)}")
    x = np.asarray(windows)
    raw = line_length(x) if kind == "line_length" else band_power(x, rate_hz=rate_hz)
    return against_history(pooled(raw, x.shape[2]))


class FeatureDetector:
    """Line length with logistic regression, or band power with shrinkage LDA; classes count equally.

    Parameters
    ----------
    kind : str
        "line_length" or "band_power".
    """

    def __init__(self, kind: str) -> None:
        if kind not in DETECTORS:
            raise ConfigError(f"seizure baseline '{kind}' is unknown: {nearest(kind, DETECTORS)}")
        self.kind = kind
        self._model: Any = None

    def fit(self, features: ArrayLike, ictal: ArrayLike) -> FeatureDetector:
        """Learn from features (W, F) and labels (W,), bool.

        Raises
        ------
        DataError
            When the windows are all of one class.
        """
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        y = np.asarray(ictal, dtype=bool)
        if y.all() or not y.any():
            raise DataError("seizure baseline: the training windows are all of one class; it needs both")
        last = (
            LogisticRegression(class_weight="balanced", max_iter=1000)
            if self.kind == "line_length"
            else LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=[0.5, 0.5])
        )
        self._model = make_pipeline(StandardScaler(), last).fit(np.asarray(features), y)
        return self

    def scores(self, features: ArrayLike) -> NDArray[np.float64]:
        """Probability of a seizure, (W,)."""
        if self._model is None:
            raise DataError("seizure baseline: scores were asked for before fit")
        return self._model.predict_proba(np.asarray(features))[:, 1]


def oracle_scores(
    source: ArrayLike, *, rate_hz: float, piece_s: float = 0.5, floor: float = 0.25
) -> NDArray[np.float64]:
    """Share of each window in which the source itself is ictal, (W, T) → (W,): a detector that knows the source.

    A piece of half a second is ictal when the root mean square of the onset zone's activity is above `floor` of the
    background. Scored against 0.5 it errs only by the ramps at onset and offset and by the length of a piece.
    """
    x = np.asarray(source, dtype=np.float64)
    n = max(1, round(piece_s * rate_hz))
    whole = x.shape[1] // n * n
    if whole == 0:
        raise DataError(f"oracle: windows of {x.shape[1]} samples are shorter than a piece of {piece_s:g} s")
    pieces = x[:, :whole].reshape(len(x), -1, n)
    return (np.sqrt((pieces**2).mean(2)) > floor).mean(1)


def best_threshold(scores: ArrayLike, ictal: ArrayLike) -> float:
    """Threshold of highest window F1 on a training part: a score at or above it is a seizure.

    Among equals the lowest; a part without seizures gives 0.5.
    """
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(ictal, dtype=bool)
    if not y.any():
        return 0.5
    order = np.argsort(-s, kind="stable")
    hits = np.cumsum(y[order])
    f1 = 2 * hits / (np.arange(1, len(s) + 1) + y.sum())
    # a threshold takes all windows of equal score or none
    last = np.append(s[order][1:] != s[order][:-1], True)
    f1 = np.where(last, f1, -1.0)
    return float(s[order][len(f1) - 1 - int(np.argmax(f1[::-1]))])
