"""What a decoder that knows only the labels of the training trials can do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.statistics import Interval
from neurofm.schema.errors import DataError


def majority(train_labels: ArrayLike, n_test: int) -> NDArray:
    """Predict the most frequent training label (the first in sort order at a tie) for every test trial."""
    labels = np.asarray(train_labels)
    if not len(labels):
        raise DataError("majority: there are no training labels")
    values, counts = np.unique(labels, return_counts=True)
    return np.full(n_test, values[np.argmax(counts)])


def majority_of_test(test_labels: ArrayLike) -> float:
    """Accuracy of always naming the most frequent *test* label: unattainable honestly, the stricter reference."""
    labels = np.asarray(test_labels)
    if not len(labels):
        raise DataError("majority: there are no test labels")
    return float(np.unique(labels, return_counts=True)[1].max() / len(labels))


def uniform_chance(n_classes: int, n_test: int, *, level: float = 0.95) -> Interval:
    """Accuracy of guessing each class equally often, with the exact binomial band of `n_test` such guesses."""
    from scipy.stats import binom

    if n_classes < 2 or n_test < 1:
        raise DataError(f"chance: {n_classes} classes and {n_test} trials; expected at least 2 and 1")
    low, high = binom.ppf([(1 - level) / 2, (1 + level) / 2], n_test, 1 / n_classes) / n_test
    return Interval(1 / n_classes, float(low), float(high), n_test)
