"""Metrics by the names that benchmarks call them; classes from probabilities, values from predictions.

What scikit-learn has is taken from there; each is checked against a plain count in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from neurofm.benchmarks.stats.metrics import accuracy, balanced_accuracy, pearson_per_region, r2_per_region
from neurofm.schema.errors import ConfigError, DataError, nearest


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a model answered to one test part.

    Attributes
    ----------
    true : array, shape (N,), str or float
    predicted : array, shape (N,), str or float
    scores : array, shape (N, K), optional
        Any increasing function of each class's probability, columns in the order of `classes`.
    classes : tuple of str
        Empty for values.
    """

    true: NDArray
    predicted: NDArray
    scores: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = ()

    def take(self, index: NDArray) -> Said:
        """Return the answers to some of the examples."""
        scores = None if self.scores is None else self.scores[index]
        return Said(true=self.true[index], predicted=self.predicted[index], scores=scores, classes=self.classes)


def kappa(s: Said) -> float:
    """Cohen's kappa; NaN when truth and answers are all of one and the same class."""
    return float("nan") if len({*s.true, *s.predicted}) < 2 else float(cohen_kappa_score(s.true, s.predicted))


def _f1(s: Said, average: str) -> float:
    return float(f1_score(s.true, s.predicted, labels=np.unique(s.true), average=average, zero_division=0))


def auroc(s: Said) -> float:
    """Area under the ROC curve; of several classes the mean of each against the rest over those that occur.

    With two classes the positive one is the second of `classes`. NaN when only one class occurs.
    """
    return _over_classes(s, roc_auc_score)


def auprc(s: Said) -> float:
    """Average precision, of several classes as in `auroc`; its chance level is the share of the positive class."""
    return _over_classes(s, average_precision_score)


def _over_classes(s: Said, area: Callable[[NDArray, NDArray], float]) -> float:
    if s.scores is None:
        return float("nan")
    present = [k for k, c in enumerate(s.classes) if 0 < np.count_nonzero(s.true == c) < len(s.true)]
    if len(s.classes) == 2:
        present = present[-1:]
    if not present:
        return float("nan")
    return float(np.mean([area(s.true == s.classes[k], s.scores[:, k]) for k in present]))


METRICS: dict[str, Callable[[Said], float]] = {
    "accuracy": lambda s: accuracy(s.true, s.predicted),
    "balanced_accuracy": lambda s: balanced_accuracy(s.true, s.predicted),
    "kappa": kappa,
    "weighted_f1": lambda s: _f1(s, "weighted"),
    "macro_f1": lambda s: _f1(s, "macro"),
    "auroc": auroc,
    "auprc": auprc,
    "r2": lambda s: float(r2_per_region(s.true, s.predicted)[0]),
    "pearson": lambda s: float(pearson_per_region(s.true, s.predicted)[0]),
}
FOR_VALUES = ("r2", "pearson")
# what a score can be at least and at most, by all names that results give it; others are unbounded
BOUNDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "balanced_accuracy", "weighted_f1", "macro_f1", "auroc", "auprc", "f1", "event_f1"), (0.0, 1.0)),
    **dict.fromkeys(("event_sensitivity", "top1", "top5", "top10", "mrr", "two_way"), (0.0, 1.0)),
    **dict.fromkeys(("kappa", "pearson", "r", "mean_r", "psth_r"), (-1.0, 1.0)),
    **dict.fromkeys(("r2", "mean_r2", "r2_uniform", "psth_r2"), (-np.inf, 1.0)),
    "false_alarms_per_hour": (0.0, np.inf),
}  # fmt: skip


def bounds_of(metric: str) -> tuple[float, float]:
    """Least and most that a metric can be."""
    return BOUNDS.get(metric, (-np.inf, np.inf))


def _kappa_of(n: NDArray) -> float:
    total, both = n.sum(), n.sum(0) @ n.sum(1)
    return float("nan") if both == total**2 else float((total * n.trace() - both) / (total**2 - both))


def _f1_of(n: NDArray) -> tuple[NDArray, NDArray]:
    """F1 of every class that occurs, and how often it does."""
    there = n.sum(1) > 0
    return (2 * n.diagonal() / np.maximum(n.sum(0) + n.sum(1), 1))[there], n.sum(1)[there]


# those that follow from a confusion matrix, rows true, columns predicted: for bootstraps over people
FROM_COUNTS: dict[str, Callable[[NDArray], float]] = {
    "accuracy": lambda n: float(n.trace() / n.sum()),
    "balanced_accuracy": lambda n: float(np.mean((n.diagonal() / np.maximum(n.sum(1), 1))[n.sum(1) > 0])),
    "kappa": _kappa_of,
    "macro_f1": lambda n: float(_f1_of(n)[0].mean()),
    "weighted_f1": lambda n: float(np.average(_f1_of(n)[0], weights=_f1_of(n)[1])),
}


def default_metrics(n_classes: int) -> list[str]:
    """Metrics that hide no class: of values R² and r; of two classes also the areas; of more kappa and weighted F1."""
    if n_classes == 0:
        return list(FOR_VALUES)
    return ["balanced_accuracy", "auroc", "auprc"] if n_classes == 2 else ["balanced_accuracy", "kappa", "weighted_f1"]


def check_metrics(names: Sequence[str], *, values: bool) -> list[str]:
    """Return the names when they are known and fit what is predicted.

    Raises
    ------
    ConfigError
        Naming the nearest metric, or why one does not fit.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(f"metric '{name}' is unknown: {nearest(name, METRICS)}")
        if (name in FOR_VALUES) != values:
            raise ConfigError(f"metric '{name}' is for {'classes' if values else 'values'}; choose another")
    return list(names)


def noise_ceiling(repeats: ArrayLike) -> float:
    """Largest correlation with the mean over repeats that any prediction can have in expectation.

    The reliability of the mean of R repeats is Spearman–Brown's R·r̄ / (1 + (R − 1)·r̄) with r̄ the mean correlation
    between pairs of repeats (Spearman 1910, Brown 1910); a perfect model of the signal correlates with the mean by its
    square root.

    Parameters
    ----------
    repeats : array_like, shape (repeat, time)
        Responses to the same stimulus.

    Returns
    -------
    float
        0 when repeats do not agree at all.
    """
    x = np.asarray(repeats, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise DataError(f"noise ceiling: expected two or more repeats, shape (repeat, time), got {x.shape}")
    r = np.atleast_2d(np.corrcoef(x))
    mean = float(r[np.triu_indices(len(x), 1)].mean())
    return float(np.sqrt(max(0.0, len(x) * mean / (1 + (len(x) - 1) * mean)))) if mean > 0 else 0.0
