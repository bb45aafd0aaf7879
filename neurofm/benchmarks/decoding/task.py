"""The benchmark that fits any model on a training part and scores it on a test part, with controls beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.controls import apply_control, controls_of
from neurofm.benchmarks.decoding.estimators import Estimator, Instances, Shape, build, check_spec, is_random
from neurofm.benchmarks.decoding.examples import Examples, picked_channels, read_examples
from neurofm.benchmarks.decoding.folds import Fold, Protocol
from neurofm.benchmarks.decoding.probe import Probe, audit_checkpoint
from neurofm.benchmarks.guards.audit import Finding, refuse_on_leak
from neurofm.benchmarks.guards.folds import guard_fold, silent_parts
from neurofm.benchmarks.results import append_results, record_look, span_hash
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
from neurofm.benchmarks.stats.scores import METRICS, Said, bounds_of, check_metrics, default_metrics
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import hash_of

TIME_ONLY = "when it was, nearest neighbours"
ENOUGH_SEEDS = 3


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


def score_decoding(
    protocol: Protocol,
    *,
    name: str,
    task: str,
    results: str,
    run_id: str,
    models: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str] | None = None,
    control: str | Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    unit: str = "",
    align: str = "common",
    n_permutations: int = 199,
    ceiling: Mapping[str, float] | None = None,
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, DecodingScores]]:
    """Guard every fold, then fit every model on its training part and score it on its test part.

    Parameters
    ----------
    protocol : Protocol
    name, task : str
        Of the benchmark and of what is decoded.
    results, run_id, allow_leak, allow_import, versions
        As in `adapted.new_subject.score_new_subjects`.
    models : mapping of str to mapping
        As in `estimators`, or ``{checkpoint: runs/…/model}``: a linear read-out of its frozen features.
    metrics : sequence of str, optional
        Of `stats.scores.METRICS`; default by the number of classes.
    control : str or sequence of str, optional
        Of `controls.CONTROLS`.
    seeds : sequence of int
        For models that a seed changes; others run once.
    unit : str
        What intervals are over: "subject", "session", "fold" or "example"; default people where several are tested, else
        folds by their names, else the examples of the only one.
    align : str
        How channels of several recordings meet: see `examples.picked_channels`.
    n_permutations : int
        Of the p of each model.
    ceiling : mapping of str to float, optional
        Metric → what no decoder can be expected to pass, where a simulation says so; a column of the results.
    """
    run = _Run(protocol, models, metrics, controls_of(control), [int(s) for s in seeds], align, allow_import)
    run.ceiling = dict(ceiling or {})
    check_metrics(list(run.ceiling), values=not protocol.classes)
    out = run.out
    common = {
        "run_id": run_id, "benchmark": name, "dataset": protocol.dataset.id, "task": task, "part": "test",
        "versions": versions, "leak_reason": allow_leak, "split_hash": protocol.split_hash,
        "test_hash": span_hash(s for f in protocol.folds for s in _spans(protocol, f)),
    }  # fmt: skip
    out.protocol_hash = common["protocol_hash"] = hash_of(
        [task, protocol.split_name, protocol.split_hash, list(out.classes), list(out.metrics), align,
         [dict(t) for t in protocol.transforms], common["test_hash"]]
    )  # fmt: skip
    out.unit = unit or _unit(protocol)
    run.guard(allow_leak)
    out.looks = record_look(results, **common)
    for fold in protocol.folds:
        for line, rows in run.fold(fold, common):
            out.rows += append_results(results, rows)
            if line:
                yield line, out
    rows = run.summary(common, n_permutations)
    out.rows += append_results(results, rows)
    yield f"{len(protocol.folds)} folds, {out.n_test} test windows", out


def _spans(protocol: Protocol, fold: Fold) -> list[dict[str, Any]]:
    rate = protocol.dataset.rate_hz
    return [
        {"recording_id": w.recording_id, "start_s": w.start_s, "stop_s": w.start_s + w.n_samples / rate(w.recording_id)}
        for w in fold.test
    ]


def _unit(protocol: Protocol) -> str:
    folds = protocol.folds
    if len({protocol.dataset.subject(w.recording_id) for f in folds for w in f.test}) > 1:
        return "subject"
    first = folds[0].name.split(" ")[0]
    return "example" if len(folds) == 1 else first if first in ("session", "run") else "fold"


class _Run:
    """One evaluation: reads folds, fits models, keeps what they said."""

    def __init__(
        self, protocol: Protocol, models: Mapping[str, Mapping[str, Any]], metrics: Sequence[str] | None,
        controls: list[str], seeds: list[int], align: str, allow_import: bool,
    ) -> None:  # fmt: skip
        if not models:
            raise ConfigError("decoding: `models` is empty; name at least one")
        self.protocol, self.models, self.seeds, self.align = protocol, dict(models), seeds, align
        values = not protocol.classes
        chosen = check_metrics(metrics or default_metrics(len(protocol.classes)), values=values)
        self.out = DecodingScores(
            metrics=tuple(chosen), classes=protocol.classes, controls=tuple(controls),
            findings=list(protocol.findings), left_out=sum(f.left_out for f in protocol.folds),
            baselines=tuple(m for m, s in models.items() if s.get("baseline")),
        )  # fmt: skip
        self.probes: dict[str, Probe] = {}
        for model, spec in self.models.items():
            if "checkpoint" in spec:
                self.probes[model] = Probe(spec, model, allow_import=allow_import)
            else:
                check_spec(model, spec)
        self.random = {m for m, s in self.models.items() if m not in self.probes and is_random(s)}
        if self.random and len(seeds) < ENOUGH_SEEDS:
            self.out.notes.append(
                f"{len(seeds)} seed(s) only, of {', '.join(sorted(self.random))}: take {ENOUGH_SEEDS} or more before "
                "comparing models that draw random numbers."
            )
        self.instances = Instances()
        self.ceiling: dict[str, float] = {}
        self.said: dict[tuple[str, str, int], dict[str, Said]] = {}
        self.tested: dict[str, NDArray] = {}
        self._read: tuple[str, str, Examples, Examples] | None = None

    def examples(self, fold: Fold, control: str = "") -> tuple[Examples, Examples]:
        """Read a fold; the last one read is kept."""
        kinds = ["eog"] if control == "eog_only" else None
        key = "eog" if kinds else ""
        if self._read is None or self._read[:2] != (fold.name, key):
            dataset = self.protocol.dataset
            ids = [w.recording_id for w in [*fold.train, *fold.test]]
            align = "common" if kinds else self.align
            channels = picked_channels(dataset, ids, align=align, kinds=kinds)
            how: dict[str, Any] = {"channels": channels, "align": align, "kinds": kinds}
            how["transform"] = self.protocol.transform(fold)
            if how["transform"] is not None and how["transform"].is_transductive:
                self.out.notes.append(
                    "A transform looks at whole recordings, test parts included: scores are transductive."
                )
            train = read_examples(dataset, fold.train, fold.train_labels, **how)
            test = read_examples(dataset, fold.test, fold.test_labels, **how)
            self._read = (fold.name, key, train, test)
        return self._read[2], self._read[3]

    def guard(self, allow_leak: str) -> None:
        """Look for leaks in all folds before anything is scored in one."""
        found = list(self.out.findings)
        for fold in self.protocol.folds:
            train, test = self.examples(fold)
            found += guard_fold(train, test, promises=self.protocol.promises)
            for probe in self.probes.values():
                found += audit_checkpoint(probe, self.protocol.dataset, test.spans(), self.protocol.promises)
        if self.protocol.classes:
            everything = np.concatenate([np.asarray(f.test_labels) for f in self.protocol.folds])
            found.append(
                silent_parts(test.__class__(**{**vars(test), "y": everything}), np.array(self.protocol.classes))
            )
        self.out.findings = list(dict.fromkeys(found))
        refuse_on_leak(self.out.findings, allow_leak=allow_leak)

    def fold(self, fold: Fold, common: Mapping[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Fit and score everything on one fold."""
        for control in ("", *self.out.controls):
            train, test = self.examples(fold, control)
            if not control:
                self.out.n_test += len(test)
                self.tested[fold.name] = np.asarray(test.subject)
            for model in [TIME_ONLY] if control == "time_only" else self.models:
                if control and model in self.probes:
                    continue  # a checkpoint reads its own channels
                for seed in self.seeds if model in self.random or control else self.seeds[:1]:
                    begin = time.perf_counter()
                    parts = apply_control(train, test, control, seed=seed)
                    try:
                        said = self._answers(model, fold, *parts, seed)
                    except (ValueError, TypeError, ArithmeticError, np.linalg.LinAlgError) as error:
                        # what a stranger's estimator raises says nothing of where
                        sentence = (
                            f"model '{model}' could not be fitted on {fold.name} ({len(train)} training windows of shape "
                            f"{train.x.shape[1:]}, classes {', '.join(map(str, np.unique(train.y)[:6]))}): {error}"
                        )
                        if model not in self.out.baselines:
                            raise DataError(sentence) from error
                        self.out.notes.append(f"Left out: {sentence}")
                        self.said.setdefault((model, control, seed), {})
                        continue
                    seconds = time.perf_counter() - begin
                    self.said.setdefault((model, control, seed), {})[fold.name] = said
                    rows = self._rows(common, fold.name, model, control, seed, said, test, seconds)
                    first = rows[0]["value"]
                    line = (
                        f"{fold.name}  {model}  seed {seed}  {self.out.metrics[0]} {first:.3f}" if not control else ""
                    )
                    yield line, rows

    def _answers(self, model: str, fold: Fold, train: Examples, test: Examples, seed: int) -> Said:
        classes = self.protocol.classes
        if model in self.probes:
            estimator: Any = self.probes[model].fit(self.protocol.dataset, fold, train.y)
            predicted, scores = estimator.answers(self.protocol.dataset, fold.test, classes)
            return Said(true=test.y, predicted=predicted, scores=scores, classes=classes)
        shape = Shape(train.x.shape[1], train.x.shape[2], train.rate_hz, len(classes))
        if model == TIME_ONLY:
            made = _time_only(bool(classes), len(train))
        else:
            made = build(model, self.models[model], shape, seed=seed)
            self.instances.check(model, made, shape, seed)
        made.fit(train.x, train.y)
        scores = made.scores(test.x, classes) if classes else None
        return Said(true=test.y, predicted=made.predict(test.x), scores=scores, classes=classes)

    def _rows(
        self, common: Mapping[str, Any], fold: str, model: str, control: str, seed: int, said: Said, test: Examples,
        seconds: float,
    ) -> list[dict[str, Any]]:  # fmt: skip
        people = sorted(set(test.subject))
        about = {
            **common, "fold": fold, "subject": people[0] if len(people) == 1 else f"{len(people)} people", "model": model,
            "control": control, "seed": seed if model in self.random or control else -1, "baseline": model in self.out.baselines,
            "checkpoint_hash": self._identity(model), "seconds": seconds, "n": len(said.true),
        }  # fmt: skip
        return [
            {**about, "metric": m, "value": METRICS[m](said), "ceiling": self._ceiling(m, control)}
            for m in self.out.metrics
        ]

    def _ceiling(self, metric: str, control: str) -> float:
        return float("nan") if control else float(self.ceiling.get(metric, float("nan")))

    def _identity(self, model: str) -> str:
        if model in self.probes:
            return self.probes[model].sha256
        return f"spec-{hash_of(self.models.get(model, {'class': model}))}"

    def summary(self, common: Mapping[str, Any], n_permutations: int) -> list[dict[str, Any]]:
        """Means over seeds, intervals over folds, p by permutation, pairs of models; return rows over all folds."""
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
                about = {
                    **common, "fold": "all", "model": model, "control": control, "baseline": model in out.baselines,
                    "metric": metric, "checkpoint_hash": self._identity(model), "ceiling": self._ceiling(metric, control),
                }  # fmt: skip
                p = out.p[model] if metric == out.metrics[0] and not control else float("nan")
                rows.append(
                    {**about, "value": i.value, "low": i.low, "high": i.high, "n": i.n, "unit": out.unit, "p": p}
                )
                each = out.people[model, control, metric] if not control else {}
                rows += [{**about, "subject": who, "value": v, "n": self._n(who)} for who, v in each.items()]
        out.method = self._method()
        first = {m: out.people[m, "", out.metrics[0]] for m in self.models}
        folds_of = {m: out.values[m, "", out.metrics[0]] for m in self.models}
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


def _time_only(classes: bool, n: int) -> Estimator:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = KNeighborsClassifier if classes else KNeighborsRegressor
    return Estimator(make_pipeline(StandardScaler(), kind(n_neighbors=min(5, n), weights="distance")), flat=True)


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
