"""What a decoder that knows only the labels of the training trials can do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError


def majority(train_labels: ArrayLike, n_test: int) -> NDArray:
    """Predict the most frequent training label (the first in sort order at a tie) for every test trial."""
    labels = np.asarray(train_labels)
    if not len(labels):
        raise DataError("majority: there are no training labels")
    values, counts = np.unique(labels, return_counts=True)
    return np.full(n_test, values[np.argmax(counts)])
