"""Adaptation curves of labelled trials: every decoder found, beside classical baselines fitted on the same calibration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.adapted.decoders import (
    Decoder,
    arms_of,
    audit_decoder,
    by_strategy,
    logits_of,
    open_decoder,
)
from neurofm.benchmarks.adapted.trial_decoders import classification_scores
from neurofm.benchmarks.adapted.trials import ENSEMBLE, MODEL, trials_of
from neurofm.benchmarks.baselines.trial_pipelines import TRIAL_BASELINES, trial_baseline
from neurofm.benchmarks.guards.audit import Finding, refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of

METRICS = ("balanced_accuracy", "accuracy")
_UNITS = {"seconds": "seconds", "minutes": "minutes", "volumes": "volumes", "trials_per_class": "trials per class"}


@dataclass
class TrialCurves:
    """What was found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table; `budget` is the number in the budget's label.
    curves : dict of series → person → budget → dict of metric to value
        Seeds of one strategy are averaged before they are scored.
    unit : str
        What budgets are counted in, in words.
    n_classes : int
    findings, looks
        As in `TrialScores`.
    notes : list of str
        What could not be scored, and why.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    curves: dict[str, dict[str, dict[float, dict[str, float]]]] = field(default_factory=dict)
    unit: str = "budget"
    n_classes: int = 0
    findings: list[Finding] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, series: str, person: str, budget: float, values: dict[str, float]) -> None:
        """Keep one score."""
        self.curves.setdefault(series, {}).setdefault(person, {})[budget] = values

    def of(self, metric: str) -> dict[str, dict[str, dict[float, float]]]:
        """Series → person → budget → score of one metric."""
        return {
            s: {
                p: {b: values[metric] for b, values in sorted(budgets.items())} for p, budgets in sorted(people.items())
            }
            for s, people in self.curves.items()
        }


def score_trial_curves(
    *,
    name: str,
    results: str,
    run_id: str,
    task: str,
    runs: str = "",
    arms: Mapping[str, Mapping[str, str]] | None = None,
    seeds: str = "ensemble",
    unit: str = "",
    dataset: str | None = None,
    baselines: Sequence[str] = tuple(TRIAL_BASELINES),
    band_hz: Sequence[float] | None = None,
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, TrialCurves]]:
    """Score decoders of `task`, and the baselines on each person's every budget; yield progress.

    Parameters
    ----------
    name, results, run_id, dataset, allow_leak, allow_import, versions
        As in `new_subject.score_new_subjects`.
    task : str
        Only decoders of this task, of labelled trials.
    runs : str
        Every decoder under this folder, one series per strategy.
    arms : mapping of name to {"runs", "strategy"}, optional
        Instead: one series per arm, for comparing models.
    seeds : str
        "ensemble": what seeds say is averaged before it is scored. "mean": their scores are averaged.
    unit : str
        What budgets are counted in; default what their cards say.
    baselines : sequence of str
        Of `TRIAL_BASELINES`; they see the trials as stored.
    band_hz : pair of float, optional
        For baselines of covariances; see `trial_baseline`.
    """
    for baseline in baselines:
        if baseline not in TRIAL_BASELINES:
            raise ConfigError(
                f"benchmark '{name}': unknown baseline '{baseline}': {nearest(baseline, TRIAL_BASELINES)}"
            )
    if seeds not in ("ensemble", "mean"):
        raise ConfigError(f"benchmark '{name}': seeds is '{seeds}': {nearest(seeds, ('ensemble', 'mean'))}")
    if bool(runs) == bool(arms):
        raise ConfigError(f"benchmark '{name}': name a folder with runs, or several with arms")
    found = arms_of(name, arms, task=task, dataset=dataset) if arms else by_strategy(runs, task=task, dataset=dataset)
    out = TrialCurves()
    groups: dict[tuple[str, float], dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    # all of them before the first score, so that what is refused has not looked at anybody
    parts: dict[tuple[Any, ...], Any] = {}
    for series, folders in found.items():
        for folder in folders:
            decoder = open_decoder(folder, allow_import=allow_import)
            _check(decoder, out, allow_leak, unit)
            budget = budget_of(decoder)
            for word, key, part in (
                ("test", (decoder.subject,), decoder.test),
                ("calibration", (decoder.subject, budget), decoder.calibrated_on),
            ):
                if parts.setdefault(key, part) != part:
                    raise ConfigError(
                        f"{folder}: has another {word} part of '{decoder.subject}' than the decoders before it"
                    )
            groups[decoder.subject, budget][series].append(folder)
    order = list(found)
    for (subject, budget), of_series in sorted(groups.items()):
        for series in sorted(of_series, key=order.index):
            decoders = [open_decoder(folder, allow_import=allow_import) for folder in of_series[series]]
            first = decoders[0]
            common = common_of(name, first, run_id, versions, allow_leak, budget, out.unit)
            if subject not in out.looks:
                out.looks[subject] = record_look(results, **{k: v for k, v in common.items() if k not in OWN})
            value = _score_series(out, decoders, common, results, budget, series, MODEL if not arms else series, seeds)
            yield f"{subject}  {budget:>6g} {out.unit}  {series:<14} balanced accuracy {value:.3f}", out
        for baseline in baselines:
            line = _score_baseline(out, first, common, results, budget, baseline, band_hz)
            yield f"{subject}  {budget:>6g} {out.unit}  {line}", out


OWN = ("budget", "budget_unit")


def _score_series(
    out: TrialCurves, decoders: Sequence[Decoder], common: dict[str, Any], results: str, budget: float, series: str,
    model: str, seeds: str,
) -> float:  # fmt: skip
    said: list[NDArray[np.float64]] = []
    each: list[dict[str, float]] = []
    classes = np.array(decoders[0].loaded.facts.classes)
    for decoder in decoders:
        logits, target = logits_of(decoder, "test")
        said.append(logits)
        about = {
            "model": model, "strategy": decoder.strategy, "seed": decoder.seed,
            "transductive": decoder.corpus.transform.is_transductive,
            "checkpoint_hash": decoder.loaded.card["weights"]["sha256"],
        }  # fmt: skip
        each.append(_write(out, results, common, logits, classes, target, about))
    values = {m: float(np.mean([v[m] for v in each])) for m in METRICS}
    if len(decoders) > 1 and seeds == "ensemble":
        about = {"model": ENSEMBLE if model == MODEL else f"{model}, seeds averaged", "strategy": decoders[0].strategy}
        values = _write(out, results, common, np.mean(said, axis=0), classes, target, about)
    out.add(series, decoders[0].subject, budget, values)
    return values["balanced_accuracy"]


def _score_baseline(
    out: TrialCurves, decoder: Decoder, common: dict[str, Any], results: str, budget: float, name: str,
    band_hz: Sequence[float] | None,
) -> str:  # fmt: skip
    subject, classes = decoder.subject, np.array(decoder.loaded.facts.classes)
    train, y = trials_of(decoder, decoder.loaded.card["provenance"]["split"]["part"], transformed=False)
    test, target = trials_of(decoder, "test", transformed=False)
    try:
        logits = trial_baseline(name, train, y, test, rate_hz=decoder.loaded.facts.rate_hz, band_hz=band_hz)
    except DataError as error:
        note = f"{subject}, {budget:g} {out.unit}: {error}"
        out.notes.append(note)
        return f"{name:<24} not fitted"
    if logits.shape[1] != len(classes):
        out.notes.append(
            f"{subject}, {budget:g} {out.unit}: baseline '{name}': a class is missing from the calibration"
        )
        return f"{name:<24} not fitted"
    values = _write(out, results, common, logits, classes, target, {"model": name, "baseline": True})
    out.add(name, subject, budget, values)
    return f"{name:<24} balanced accuracy {values['balanced_accuracy']:.3f}"


def _write(
    out: TrialCurves, results: str, common: dict[str, Any], logits: NDArray, classes: NDArray, target: NDArray[np.int64],
    about: dict[str, Any],
) -> dict[str, float]:  # fmt: skip
    scores = classification_scores(logits, classes[target], classes=classes)
    both = {"accuracy": scores.accuracy, "balanced_accuracy": scores.balanced}
    out.rows += append_results(
        results,
        [
            {**common, **about, "metric": m, "value": i.value, "low": i.low, "high": i.high, "n": i.n}
            for m, i in both.items()
        ],
    )
    return {m: float(i.value) for m, i in both.items()}


def _check(decoder: Decoder, out: TrialCurves, allow_leak: str, unit: str) -> None:
    facts, origin = decoder.loaded.facts, decoder.loaded.card["provenance"]
    if not decoder.loaded.objective.is_classifier or not facts.classes:
        raise ConfigError(
            f"{decoder.loaded.folder}: is no classifier; adapt with objective=supervised and a labelled task"
        )
    unit = unit or _UNITS.get(origin.get("budget_unit", ""), "budget")
    if out.n_classes and (out.unit, out.n_classes) != (unit, len(facts.classes)):
        raise ConfigError(
            f"{decoder.loaded.folder}: budgets are in '{unit}' over {len(facts.classes)} classes, those before it in "
            f"'{out.unit}' over {out.n_classes}; give the benchmark a narrower folder with runs=…"
        )
    out.unit, out.n_classes = unit, len(facts.classes)
    findings = audit_decoder(decoder, new_subject=True, chronological=True)
    refuse_on_leak(findings, allow_leak=allow_leak)
    out.findings += [f for f in findings if f not in out.findings]


def budget_of(decoder: Decoder) -> float:
    """The number in its budget's label."""
    try:
        return float(decoder.budget)
    except ValueError:
        raise ConfigError(
            f"{decoder.loaded.folder}: its budget is '{decoder.budget}', which is no number to draw a curve over; adapt with "
            "budget_unit=…"
        ) from None


def common_of(
    name: str, decoder: Decoder, run_id: str, versions: str, leak: str, budget: float, unit: str,
    kind: str = "trial_curves",
) -> dict[str, Any]:  # fmt: skip
    """What the rows of one decoder share."""
    origin, test = decoder.loaded.card["provenance"], decoder.test
    classes = list(decoder.loaded.facts.classes)
    return {
        "run_id": run_id, "benchmark": name, "dataset": decoder.corpus.dataset.id, "subject": decoder.subject,
        "task": str(origin["task"]["name"]), "part": "test", "versions": versions, "leak_reason": leak,
        "test_hash": span_hash([s._asdict() for s in test]), "split_hash": origin["split"]["hash"],
        "protocol_hash": hash_of([kind, classes, [list(s) for s in test]]), "budget": budget,
        "budget_unit": unit,
    }  # fmt: skip
