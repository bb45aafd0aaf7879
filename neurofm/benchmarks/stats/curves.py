"""How well a model does on a new person as calibration grows, in one number per person, and which of several does best."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurofm.benchmarks.stats.intervals import Paired, paired_interval
from neurofm.schema.errors import DataError

# series → person → budget → score
Curves = Mapping[str, Mapping[str, Mapping[float, float]]]


def area(curve: Mapping[float, float]) -> float:
    """Area under a score against the logarithm of the budget, divided by its width: a mean score.

    Trapezoids between the budgets that were measured; a single budget gives its own score. Not a number anywhere
    gives not a number.
    """
    if not curve:
        raise DataError("area under the adaptation curve: there is no budget")
    budgets = np.array(sorted(curve), dtype=np.float64)
    if budgets[0] <= 0:
        raise DataError(f"area under the adaptation curve: budget {budgets[0]:g} is not above 0")
    scores = np.array([curve[b] for b in sorted(curve)], dtype=np.float64)
    if len(budgets) == 1:
        return float(scores[0])
    x = np.log2(budgets)
    return float(np.trapezoid(scores, x) / (x[-1] - x[0]))


def areas(curves: Curves) -> dict[str, dict[str, float]]:
    """Area of every series and person.

    Raises
    ------
    DataError
        When somebody lacks a budget that others have: areas over different budgets do not compare.
    """
    budgets = {tuple(sorted(c)) for people in curves.values() for c in people.values()}
    if len(budgets) > 1:
        raise DataError(f"adaptation curves are over different budgets: {sorted(budgets)[:3]}; score all of them")
    return {series: {p: area(c) for p, c in people.items()} for series, people in curves.items()}


def compare(found: Mapping[str, Mapping[str, float]], first: str) -> dict[str, Paired]:
    """Difference of areas, `first` minus every other series, over the same people, with interval and exact p."""
    out = {}
    for series, people in found.items():
        if series == first:
            continue
        if set(people) != set(found[first]):
            raise DataError(f"'{first}' and '{series}' were scored on different people; score both on all")
        order = sorted(people)
        out[series] = paired_interval([found[first][p] for p in order], [people[p] for p in order])
    return out
