"""Window by window: precision, recall, F1 and Cohen's kappa of a binary detector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

from neurofm.schema.errors import DataError


@dataclass(frozen=True, kw_only=True)
class WindowScores:
    """Window-level scores.

    Attributes
    ----------
    f1 : float
        Of the positive class; NaN when it never occurs in truth.
    kappa : float
        Cohen's kappa; 0 is agreement by chance, NaN when truth and detections are all of one and the same class.
    true_positive, false_positive, false_negative, true_negative : int
    """

    f1: float
    kappa: float
    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def n(self) -> int:
        """Windows scored."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative


def window_scores(true: ArrayLike, predicted: ArrayLike) -> WindowScores:
    """Score boolean labels of windows, shape (W,) each."""
    a, b = np.asarray(true, dtype=bool), np.asarray(predicted, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise DataError(f"window scores: {a.shape} labels and {b.shape} predictions; expected equal numbers, above 0")
    tn, fp, fn, tp = confusion_matrix(a, b, labels=[False, True]).ravel().tolist()
    return WindowScores(
        f1=float(f1_score(a, b, zero_division=0.0)) if a.any() else float("nan"),
        # scikit-learn divides zero by zero there
        kappa=float("nan") if a.all() == b.all() and a.any() == b.any() and (a.all() or not a.any()) else float(
            cohen_kappa_score(a, b)
        ),
        true_positive=tp, false_positive=fp, false_negative=fn, true_negative=tn,
    )  # fmt: skip
