"""As `protocols`, for decoders of trials: what their labels are worth, and when in the trial they come to know them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.stats.intervals import Interval, binomial_interval, bootstrap_by_class, permutation_chance
from neurofm.benchmarks.stats.metrics import accuracy, balanced_accuracy, confusion
from neurofm.schema.errors import ConfigError, DataError

FitPredict = Callable[[NDArray, NDArray, NDArray], ArrayLike]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """What a decoder's labels are worth.

    Attributes
    ----------
    predicted : array, shape (trial,)
        Labels.
    accuracy : Interval
        With the exact binomial (Clopper–Pearson) interval.
    balanced : Interval
        Balanced accuracy; bootstrap over trials within their class.
    confusion : array, shape (class, class)
        Rows true, columns predicted, in the order of `classes`.
    classes : array, shape (class,)
    """

    predicted: NDArray
    accuracy: Interval
    balanced: Interval
    confusion: NDArray[np.int64]
    classes: NDArray


def classification_scores(logits: ArrayLike, labels: ArrayLike, *, classes: ArrayLike, seed: int = 0) -> ClassScores:
    """Score logits against labels.

    Parameters
    ----------
    logits : array_like, shape (trial, class)
        Any increasing function of the class probabilities.
    labels : array_like, shape (trial,)
    classes : array_like, shape (class,)
        Label of each column.
    """
    values, y, names = np.asarray(logits, dtype=np.float64), np.asarray(labels), np.asarray(classes)
    if values.shape != (len(y), len(names)):
        raise DataError(f"logits: shape {values.shape}, expected ({len(y)} trials, {len(names)} classes)")
    # −inf is the log of a probability of 0 and is a legitimate answer; NaN and +inf are not
    if np.isnan(values).any() or np.isposinf(values).any():
        raise DataError("logits: some are NaN or +inf; the decoder diverged")
    return label_scores(names[values.argmax(1)], y, classes=names, seed=seed)


def label_scores(predicted: ArrayLike, labels: ArrayLike, *, classes: ArrayLike, seed: int = 0) -> ClassScores:
    """As `classification_scores`, from predicted labels (majority, or an ensemble's vote)."""
    said, y, names = np.asarray(predicted), np.asarray(labels), np.asarray(classes)
    counts = confusion(y, said, labels=names)
    there = counts.sum(1) > 0
    return ClassScores(
        predicted=said,
        accuracy=binomial_interval(int(counts.trace()), len(y)),
        balanced=bootstrap_by_class(counts.diagonal()[there], counts.sum(1)[there], seed=seed),
        confusion=counts,
        classes=names,
    )


@dataclass(frozen=True, kw_only=True)
class TimeResolved:
    """Accuracy of decoders that each saw one sub-window only.

    Attributes
    ----------
    start_s, stop_s : array, shape (window,)
        Span of each sub-window relative to the event.
    accuracy, balanced : array, shape (window,)
    low, high : array, shape (window,)
        Exact binomial 95 % interval of the accuracy.
    chance_mean, chance_low, chance_high : array, shape (window,)
        Accuracy when labels are permuted over trials: mean and 95 % band.
    p : array, shape (window,)
        Permutation p of the accuracy, uncorrected.
    n : int
        Test trials.
    """

    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    balanced: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    chance_mean: NDArray[np.float64]
    chance_low: NDArray[np.float64]
    chance_high: NDArray[np.float64]
    p: NDArray[np.float64]
    n: int

    def above_chance_before(self, event_s: float = 0.0, *, alpha: float = 0.05) -> bool:
        """Whether a sub-window that ends by the event beats chance (Bonferroni over such windows): a leak in time.

        Raises
        ------
        DataError
            When no sub-window ends by the event.
        """
        before = self.stop_s <= event_s + 1e-9
        if not before.any():
            raise DataError(f"time-resolved accuracy: no sub-window ends before {event_s} s; take shorter windows")
        return bool((self.p[before] < alpha / before.sum()).any())


def time_resolved(
    fit_predict: FitPredict,
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    rate_hz: float,
    start_s: float,
    window_s: float = 0.2,
    step_s: float = 0.1,
    n_draws: int = 1000,
    seed: int = 0,
) -> TimeResolved:
    """Refit a decoder on each sub-window of the training trials and score it on the same sub-window of the test trials.

    Trials are cut *before* the decoder sees them, so no filter can carry what follows the window into it. A large model
    takes part through the same callable: frozen features of the cropped trials and a new head, or a full refit.

    Parameters
    ----------
    fit_predict : callable (train (trial, channel, sample), labels (trial,), test (trial, channel, sample)) -> (trial,)
        Fits from nothing and returns labels.
    train, test : array_like, shape (trial, channel, time)
    rate_hz, start_s : float
        Samples per second, and the time of the first sample relative to the event.
    window_s, step_s : float
        Length of the sub-windows and distance between their starts.
    """
    a, b = np.asarray(train), np.asarray(test)
    ya, yb = np.asarray(train_labels), np.asarray(test_labels)
    length, step = round(window_s * rate_hz), round(step_s * rate_hz)
    if length < 1 or step < 1 or length > a.shape[-1]:
        raise ConfigError(f"window_s={window_s}, step_s={step_s}: not possible in trials of {a.shape[-1]} samples")
    rows = []
    for first in range(0, a.shape[-1] - length + 1, step):
        cut = slice(first, first + length)
        said = np.asarray(fit_predict(a[..., cut].copy(), ya, b[..., cut].copy()))
        scored = binomial_interval(int(np.count_nonzero(said == yb)), len(yb))
        chance = permutation_chance(yb, said, accuracy, n_draws=n_draws, seed=seed)
        begin = start_s + first / rate_hz
        rows.append(
            (
                begin,
                begin + length / rate_hz,
                scored.value,
                balanced_accuracy(yb, said),
                scored.low,
                scored.high,
                *chance,
            )
        )
    columns = np.array(rows, dtype=np.float64).T
    names = (
        "start_s",
        "stop_s",
        "accuracy",
        "balanced",
        "low",
        "high",
        "chance_mean",
        "chance_low",
        "chance_high",
        "p",
    )
    return TimeResolved(**dict(zip(names, columns, strict=True)), n=len(yb))
