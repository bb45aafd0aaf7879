"""What a model is worth on every person, and an interval over people: the unit that a claim on people is about.

Folds that test one person each give one value per fold; a person's value is the mean over their folds, and the interval is
of the mean over people. Where a fold tests several people the score is of all their examples together, and people are what
the bootstrap draws, with all their examples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.stats.intervals import FEW, Interval, cut_at, mean_over_units, t_quantile
from neurofm.benchmarks.stats.scores import FROM_COUNTS, METRICS, Said, bounds_of

Folds = Mapping[str, tuple[Said, NDArray]]


def by_person(folds: Folds, metric: str) -> dict[str, float]:
    """Person → mean over the folds that test them of the metric on their examples; NaN where it is not defined.

    Parameters
    ----------
    folds : mapping of str to (Said, array of str)
        Answers, and whose example each is.
    metric : str
        Of `scores.METRICS`.
    """
    found: dict[str, list[float]] = {}
    for said, who in folds.values():
        for person in np.unique(who).tolist():
            found.setdefault(str(person), []).append(METRICS[metric](said.take(np.flatnonzero(who == person))))
    return {p: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for p, v in sorted(found.items())}


def one_each(folds: Folds) -> bool:
    """Whether every fold tests one person."""
    return all(len(np.unique(who)) == 1 for _, who in folds.values())


def interval_over_people(folds: Folds, metric: str, *, n_draws: int = 500, seed: int = 0) -> Interval:
    """Interval of a metric over people, for two of them or more.

    Below `FEW` people, where the percentile bootstrap is too narrow, it is Student's t: of the mean where folds test one
    person each, else of the bootstrap's standard error. Both are cut at what the metric can be.
    """
    low, high = bounds_of(metric)
    if one_each(folds):
        kept = [v for v in by_person(folds, metric).values() if np.isfinite(v)]
        if not kept:
            return Interval(float("nan"), float("nan"), float("nan"), 0)
        return mean_over_units(kept, bounds=(low, high))
    people = sorted({str(p) for _, who in folds.values() for p in np.unique(who)})
    parts = [_Part(said, who, people, metric) for said, who in folds.values()]
    rng = np.random.default_rng(seed)

    def score(weight: NDArray[np.int64]) -> float:
        values = [p.value(weight) for p in parts if p.holds(weight)]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    value = score(np.ones(len(people), np.int64))
    draws = np.array([score(rng.multinomial(len(people), [1 / len(people)] * len(people))) for _ in range(n_draws)])
    draws = draws[np.isfinite(draws)]
    if not len(draws) or not np.isfinite(value):
        return Interval(value, float("nan"), float("nan"), len(people))
    if len(people) >= FEW:
        ends = np.quantile(draws, [0.025, 0.975])
        return Interval(value, float(ends[0]), float(ends[1]), len(people))
    # the bootstrap's standard error misses the factor of n − 1
    half = t_quantile(len(people)) * float(draws.std()) * np.sqrt(len(people) / (len(people) - 1))
    return cut_at(Interval(value, value - half, value + half, len(people)), (low, high))


class _Part:
    """One fold, as counts per person where the metric can be had from them, else as examples per person."""

    def __init__(self, said: Said, who: NDArray, people: list[str], metric: str) -> None:
        self.said, self.metric = said, metric
        self.rows = [np.flatnonzero(who == p) for p in people]
        self.counts = None
        if metric in FROM_COUNTS:
            labels = np.unique(np.concatenate([said.true, said.predicted]))
            true, predicted = (np.searchsorted(labels, x) for x in (said.true, said.predicted))
            self.counts = np.zeros((len(people), len(labels), len(labels)), np.int64)
            for k, rows in enumerate(self.rows):
                np.add.at(self.counts[k], (true[rows], predicted[rows]), 1)

    def holds(self, weight: NDArray[np.int64]) -> bool:
        """Whether anybody that was drawn is tested here."""
        return any(w and len(r) for w, r in zip(weight, self.rows, strict=True))

    def value(self, weight: NDArray[np.int64]) -> float:
        """Score of the people drawn, each as often as they were."""
        if self.counts is not None:
            return FROM_COUNTS[self.metric](np.tensordot(weight, self.counts, 1))
        index = np.concatenate([np.tile(r, w) for w, r in zip(weight, self.rows, strict=True)])
        return METRICS[self.metric](self.said.take(index.astype(np.int64)))
