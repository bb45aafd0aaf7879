"""What a prediction is worth: R², correlation, accuracy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import confusion_matrix

from neurofm.schema.errors import DataError


def _paired(true: ArrayLike, predicted: ArrayLike, kind: str) -> tuple[NDArray, NDArray]:
    a, b = np.asarray(true), np.asarray(predicted)
    if a.shape != b.shape:
        raise DataError(f"{kind}: true values have shape {a.shape} and predictions {b.shape}; they must be equal")
    if a.size == 0:
        raise DataError(f"{kind}: there is nothing to score; widen the test span")
    return a, b


def _traces(true: ArrayLike, predicted: ArrayLike, kind: str) -> tuple[NDArray, NDArray]:
    a, b = _paired(true, predicted, kind)
    a, b = a.astype(np.float64), b.astype(np.float64)
    for name, values in (("true values", a), ("predictions", b)):
        if not np.isfinite(values).all():
            raise DataError(f"{kind}: {np.count_nonzero(~np.isfinite(values))} of the {name} are not finite")
    return a, b


def r2_per_region(true: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """R² of each region: 1 − SSE / SST, with SST around the scored span's own mean.

    The mean is that of the scored span, not of the training data, so a constant prediction scores at most 0 and a
    drift of the mean between calibration and test is not counted as explained. The scale of the values cancels.

    Parameters
    ----------
    true, predicted : array_like, shape (time, region) or (time,)

    Returns
    -------
    array, shape (region,), float64
        NaN for a region that does not vary over the scored span.
    """
    a, b = _traces(true, predicted, "R²")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    residual = ((a - b) ** 2).sum(0)
    total = ((a - a.mean(0)) ** 2).sum(0)
    # Rounding leaves a constant trace with a total of about (n · eps · value)², not 0
    varies = total > len(a) * (np.finfo(np.float64).eps * len(a) * np.abs(a).max(0)) ** 2
    return np.where(varies, 1 - residual / np.where(varies, total, 1.0), np.nan)


def r2(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over regions of `r2_per_region`; regions that do not vary are left out."""
    values = r2_per_region(true, predicted)
    if np.isnan(values).all():
        raise DataError("R²: no region varies over the scored span; check the recording and the span")
    return float(np.nanmean(values))


def pearson_per_region(true: ArrayLike, predicted: ArrayLike) -> NDArray[np.float64]:
    """Pearson correlation over time of each region, shape (region,); NaN where either side does not vary."""
    a, b = _traces(true, predicted, "Pearson r")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return np.where(scale > 0, (a * b).sum(0) / np.where(scale > 0, scale, 1.0), np.nan)


def accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Share of trials whose label is right."""
    a, b = _paired(true, predicted, "accuracy")
    return float(np.mean(a == b))


def balanced_accuracy(true: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the classes that occur in `true` of the share of their trials whose label is right.

    A predicted label that never occurs in `true` counts as a mistake; it adds no class of its own.
    """
    a, b = _paired(true, predicted, "balanced accuracy")
    # counted here: a permutation test asks some hundred times, and scikit-learn checks its input anew each time
    _, group = np.unique(a, return_inverse=True)
    return float(np.mean(np.bincount(group, weights=a == b) / np.bincount(group)))


def confusion(true: ArrayLike, predicted: ArrayLike, *, labels: ArrayLike | None = None) -> NDArray[np.int64]:
    """Count trials, shape (class, class): rows are the true class, columns the predicted one, in order of `labels`.

    Raises
    ------
    DataError
        When a value is not among `labels`: dropping it silently would flatter the score.
    """
    a, b = _paired(true, predicted, "confusion")
    names = np.unique(np.concatenate([a, b])) if labels is None else np.asarray(labels)
    strange = np.setdiff1d(np.concatenate([a, b]), names)
    if len(strange):
        raise DataError(f"confusion: label '{strange[0]}' is not among the labels {list(names)}")
    return confusion_matrix(a, b, labels=names)
