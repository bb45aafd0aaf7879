"""What models said on every fold, over all folds: means, intervals over people or folds, p by permutation, pairs of models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.folds import Protocol
from neurofm.benchmarks.guards.audit import Finding
from neurofm.benchmarks.stats.intervals import (
    FEW,
    Interval,
    bootstrap,
    cut_at,
    holm,
    mean_over_units,
    sign_flip_p,
    uniform_p,
)
from neurofm.benchmarks.stats.people import by_person, interval_over_people, one_each
from neurofm.benchmarks.stats.scores import METRICS, Said, bounds_of
from neurofm.schema.hashing import hash_of


@dataclass
class DecodingScores:
    """What an evaluation found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table: one per model, seed, fold and metric, and one per model and metric over all folds.
    values : dict of (model, control, metric) to dict of fold to float
        Means over seeds.
    intervals : dict of (model, control, metric) to Interval
        Over folds, or over the examples of the only one.
    people : dict of (model, control, metric) to dict of person to float
        Means over seeds, and over the folds that test a person.
    unit : str
        Of the intervals: what was drawn.
    method : str
        How they were made, in words.
    p : dict of str to float
        Model → p of its first metric when the test labels are permuted within folds.
    pairs : list of (model, model, difference, p)
        Of the first metric over people, where there are several with all classes, else over folds; corrected by Holm.
    paired_by : str
        Over what.
    """

    metrics: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)
    values: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    intervals: dict[tuple[str, str, str], Interval] = field(default_factory=dict)
    people: dict[tuple[str, str, str], dict[str, float]] = field(default_factory=dict)
    unit: str = ""
    method: str = ""
    p: dict[str, float] = field(default_factory=dict)
    pairs: list[tuple[str, str, float, float]] = field(default_factory=list)
    paired_by: str = ""
    baselines: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    looks: int = 0
    protocol_hash: str = ""
    n_test: int = 0
    left_out: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class Summary:
    """Answers of all models on all folds, and what follows from them.

    Attributes
    ----------
    out : DecodingScores
        Filled by `rows`.
    protocol : Protocol
    said : dict of (model, control, seed) to dict of fold to Said
    tested : dict of fold to array of str
        Who each test window is of.
    """

    out: DecodingScores
    protocol: Protocol
    said: dict[tuple[str, str, int], dict[str, Said]] = field(default_factory=dict)
    tested: dict[str, NDArray] = field(default_factory=dict)

    def rows(self, about: Callable[[str, str, str], dict[str, Any]], n_permutations: int) -> list[dict[str, Any]]:
        """Means over seeds, intervals over folds, p by permutation, pairs of models; return rows over all folds.

        ``about(model, control, metric)`` is what a row says of where it comes from.
        """
        out, rows = self.out, []
        folds = [f.name for f in self.protocol.folds]
        for model, control in dict.fromkeys((m, c) for m, c, _ in self.said):
            seeds = [s for m, c, s in self.said if (m, c) == (model, control)]
            said = [self.said[model, control, s] for s in seeds]
            for metric in out.metrics:
                values = {
                    f: float(np.mean([METRICS[metric](found[f]) if f in found else np.nan for found in said]))
                    for f in folds
                }
                key = (model, control, metric)
                out.values[key], out.people[key] = values, self._people(said, metric)
                out.intervals[key] = self._interval(values, model, control, metric, seeds[0])
            if not control:
                out.p[model] = permutation_p(list(said[0].values()), out.metrics[0], n=n_permutations)
            for metric in out.metrics:
                i = out.intervals[model, control, metric]
                row = about(model, control, metric)
                p = out.p[model] if metric == out.metrics[0] and not control else float("nan")
                rows.append({**row, "value": i.value, "low": i.low, "high": i.high, "n": i.n, "unit": out.unit, "p": p})
                each = out.people[model, control, metric] if not control else {}
                rows += [{**row, "subject": who, "value": v, "n": self._n(who)} for who, v in each.items()]
        out.method = self._method()
        fitted = list(dict.fromkeys(m for m, c, _ in self.said if not c))
        first = {m: out.people[m, "", out.metrics[0]] for m in fitted}
        folds_of = {m: out.values[m, "", out.metrics[0]] for m in fitted}
        out.paired_by = "subject" if out.unit == "subject" and self._all_classes() else "fold"
        out.pairs = compare(first if out.paired_by == "subject" else folds_of)
        return rows

    def _folds(self, said: Mapping[str, Said]) -> dict[str, tuple[Said, NDArray]]:
        return {f: (s, self.tested[f]) for f, s in said.items()}

    def _people(self, said: Sequence[Mapping[str, Said]], metric: str) -> dict[str, float]:
        """Person → mean over seeds."""
        found = [by_person(self._folds(s), metric) for s in said if s]
        return {p: float(np.mean([f.get(p, np.nan) for f in found])) for p in sorted({p for f in found for p in f})}

    def _n(self, person: str) -> int:
        return int(sum((who == person).sum() for who in self.tested.values()))

    def _all_classes(self) -> bool:
        """Whether a score of one person means what the score means: each of them shows two classes or more."""
        shown: dict[str, set[str]] = {}
        for fold in self.protocol.folds:
            for who, label in zip(self.tested[fold.name].tolist(), fold.test_labels, strict=True):
                shown.setdefault(who, set()).add(str(label))
        return not self.protocol.classes or all(len(x) > 1 for x in shown.values())

    def _method(self) -> str:
        """How intervals were made, in words."""
        if self.out.unit == "example":
            return "bootstrap over the examples of the one test part, within classes"
        if self.out.unit != "subject":
            n = len(self.protocol.folds)
            kind = "Student's t, cut at the metric's bounds" if n < FEW else "bootstrap"
            return f"{kind}, over {n} {self.out.unit}s"
        n = len({str(p) for who in self.tested.values() for p in who})
        several = any(len(np.unique(who)) > 1 for who in self.tested.values())
        drawn = "people drawn with all their examples, " if several else "each person's mean over their folds, "
        if n >= FEW:
            return f"bootstrap over {n} people ({drawn.rstrip(', ')})"
        return f"Student's t over {n} people ({drawn}cut at the metric's bounds)"

    def _interval(self, values: Mapping[str, float], model: str, control: str, metric: str, seed: int) -> Interval:
        kept = [v for v in values.values() if np.isfinite(v)]
        if not kept:
            return Interval(float("nan"), float("nan"), float("nan"), 0)
        if self.out.unit == "subject":
            return self._over_people(kept, model, control, metric, seed)
        if len(values) > 1:
            return mean_over_units(kept, bounds=bounds_of(metric))
        said = self.said[model, control, seed][next(iter(values))]
        strata = said.true if said.true.dtype.kind != "f" else None
        drawn = bootstrap(len(said.true), lambda i: METRICS[metric](said.take(i)), strata=strata, n_draws=500)
        return Interval(kept[0], drawn.low, drawn.high, drawn.n)

    def _over_people(self, kept: Sequence[float], model: str, control: str, metric: str, seed: int) -> Interval:
        """Value: mean over people where folds test one each, else over folds; over seeds in both."""
        folds = self._folds(self.said[model, control, seed])
        if one_each(folds):
            each = [v for v in self.out.people[model, control, metric].values() if np.isfinite(v)]
            return mean_over_units(each, bounds=bounds_of(metric))
        drawn = interval_over_people(folds, metric)
        # the first seed's interval, about the mean over seeds
        shift = float(np.mean(kept)) - drawn.value
        moved = Interval(drawn.value + shift, drawn.low + shift, drawn.high + shift, drawn.n)
        return cut_at(moved, bounds_of(metric))


def permutation_p(said: Sequence[Said], metric: str, *, n: int = 199) -> float:
    """P of a metric, mean over folds, when test labels are permuted within folds; ties are broken at random.

    The draws follow from the answers themselves: the same answers give the same p, and ties of other data fall otherwise.
    """
    digest = hash_of([[s.true.astype(str).tolist(), s.predicted.astype(str).tolist()] for s in said])
    rng = np.random.default_rng(int(digest, 16))

    def value(folds: Sequence[Said]) -> float:
        found = [METRICS[metric](s) for s in folds]
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    observed = value(said)
    if not np.isfinite(observed):
        return float("nan")
    return uniform_p(observed, [value([_mixed(s, rng) for s in said]) for _ in range(n)], rng=rng)


def _mixed(s: Said, rng: np.random.Generator) -> Said:
    true: NDArray = s.true[rng.permutation(len(s.true))]
    return Said(true=true, predicted=s.predicted, scores=s.scores, classes=s.classes)


def compare(values: Mapping[str, Mapping[str, float]]) -> list[tuple[str, str, float, float]]:
    """Every pair of models over the folds that both have: mean difference, and sign-flip p corrected by Holm.

    Pairs with fewer than two folds in common are left out.
    """
    names, pairs, p = list(values), [], []
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = [f for f in values[a] if np.isfinite(values[a][f]) and np.isfinite(values[b].get(f, np.nan))]
            if len(both) < 2:
                continue
            d = np.array([values[a][f] - values[b][f] for f in both])
            pairs.append((a, b, float(d.mean())))
            p.append(sign_flip_p(d))
    return [(*pair, float(q)) for pair, q in zip(pairs, holm(p) if p else [], strict=True)]
