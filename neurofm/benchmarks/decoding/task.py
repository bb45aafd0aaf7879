"""The benchmark that fits any model on a training part and scores it on a test part, with controls beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neurofm.benchmarks.decoding.controls import apply_control, controls_of
from neurofm.benchmarks.decoding.estimators import Estimator, Instances, Shape, build, check_spec, is_random
from neurofm.benchmarks.decoding.examples import Examples, picked_channels, read_examples
from neurofm.benchmarks.decoding.folds import Fold, Protocol
from neurofm.benchmarks.decoding.probe import Probe, audit_checkpoint
from neurofm.benchmarks.decoding.summary import DecodingScores, Summary
from neurofm.benchmarks.guards.audit import refuse_on_leak
from neurofm.benchmarks.guards.folds import guard_fold, silent_parts
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.benchmarks.stats.scores import METRICS, Said, check_metrics, default_metrics
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import hash_of

TIME_ONLY = "when it was, nearest neighbours"
ENOUGH_SEEDS = 3


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
    rows = run.told.rows(partial(run.about, common), n_permutations)
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
        self.told = Summary(out=self.out, protocol=protocol)
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
                self.told.tested[fold.name] = np.asarray(test.subject)
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
                        self.told.said.setdefault((model, control, seed), {})
                        continue
                    seconds = time.perf_counter() - begin
                    self.told.said.setdefault((model, control, seed), {})[fold.name] = said
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

    def about(self, common: Mapping[str, Any], model: str, control: str, metric: str) -> dict[str, Any]:
        """What the rows over all folds say of where they come from."""
        return {
            **common, "fold": "all", "model": model, "control": control, "baseline": model in self.out.baselines,
            "metric": metric, "checkpoint_hash": self._identity(model), "ceiling": self._ceiling(metric, control),
        }  # fmt: skip

    def _identity(self, model: str) -> str:
        if model in self.probes:
            return self.probes[model].sha256
        return f"spec-{hash_of(self.models.get(model, {'class': model}))}"


def _time_only(classes: bool, n: int) -> Estimator:
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kind = KNeighborsClassifier if classes else KNeighborsRegressor
    return Estimator(make_pipeline(StandardScaler(), kind(n_neighbors=min(5, n), weights="distance")), flat=True)
