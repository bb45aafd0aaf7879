"""The benchmark of labelled trials under an official split: every decoder found, beside chance, majority and LDA."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.adapted.decoders import (
    Decoder,
    audit_decoder,
    find_decoders,
    logits_of,
    open_decoder,
    people_of,
    refuse_mixtures,
)
from neurofm.benchmarks.adapted.trial_decoders import (
    ClassScores,
    TimeResolved,
    classification_scores,
    label_scores,
    time_resolved,
)
from neurofm.benchmarks.baselines.chance import majority
from neurofm.benchmarks.baselines.lda import ShrinkageLDA
from neurofm.benchmarks.guards.audit import Finding, negative_control, refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of

MODEL = "neurofm"
ENSEMBLE = "neurofm, seeds averaged"


@dataclass
class TrialScores:
    """What an evaluation of one task found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table.
    scores : dict of (model, strategy) to ClassScores
        Seed ensembles and baselines, for figures.
    per_seed : dict of strategy to list of float
        Balanced accuracy of each seed.
    cv : dict of str to (mean, sd)
        Cross-validated balanced accuracy on the training part, where the decoders' cards have it.
    time_resolved : dict of str to TimeResolved
        Decoder → accuracy by sub-window.
    control : Finding or None
        Verdict on a negative control.
    """

    task: str
    subject: str = ""
    classes: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[tuple[str, str], ClassScores] = field(default_factory=dict)
    per_seed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cv: dict[str, tuple[float, float]] = field(default_factory=dict)
    time_resolved: dict[str, TimeResolved] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    control: Finding | None = None
    looks: int = 0


def score_trials(
    *,
    name: str,
    runs: str,
    results: str,
    run_id: str,
    task: str,
    dataset: str | None = None,
    event_s: float | None = None,
    is_control: bool = False,
    new_stimulus: bool = False,
    subject: str = "",
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, TrialScores]]:
    """Score every decoder of `task` under `runs`; yield a line of progress each.

    Parameters
    ----------
    name, runs, results, run_id, dataset, allow_leak, allow_import, versions
        As in `new_subject.score_new_subjects`.
    task : str
        Only decoders of this task.
    event_s : float, optional
        Time of the event in the trial; then LDA is also refitted on sub-windows, which must be at chance before it.
    is_control : bool
        Whether the task carries no signal, so that a score above chance is a leak.
    new_stimulus : bool
        Whether the tested stimuli must be new to pretraining and calibration.
    subject : str
        Only this person's decoders, where there are several people's.
    """
    folders = find_decoders(runs, task=task, dataset=dataset)
    if subject:
        folders = people_of(folders).get(subject, [])
    refuse_mixtures(folders)
    found = [open_decoder(folder, allow_import=allow_import) for folder in folders]
    first = found[0]
    for other in found[1:]:
        if (other.test, other.loaded.facts.classes) != (first.test, first.loaded.facts.classes):
            raise ConfigError(
                f"{runs}: decoders of task '{task}' differ in test trials or classes ({first.loaded.folder} and "
                f"{other.loaded.folder}); give the benchmark a folder of one person's decoders"
            )
    out = TrialScores(task=task, subject=first.subject, classes=first.loaded.facts.classes)
    for decoder in found:
        findings = audit_decoder(decoder, new_stimulus=new_stimulus)
        refuse_on_leak(findings, allow_leak=allow_leak)
        out.findings += [f for f in findings if f not in out.findings]
    common = {
        "run_id": run_id, "benchmark": name, "dataset": first.corpus.dataset.id, "subject": first.subject, "task": task,
        "part": "test", "versions": versions, "leak_reason": allow_leak,
        "test_hash": span_hash([s._asdict() for s in first.test]),
        "split_hash": first.loaded.card["provenance"]["split"]["hash"],
        "protocol_hash": hash_of([task, list(out.classes), [list(s) for s in first.test]]),
    }  # fmt: skip
    out.looks = record_look(results, **common)
    logits: dict[str, list[NDArray[np.float64]]] = defaultdict(list)
    classes = np.array(out.classes)
    for decoder in found:
        said, target = logits_of(decoder, "test")
        scores = classification_scores(said, classes[target], classes=classes)
        logits[decoder.strategy].append(said)
        out.per_seed[decoder.strategy].append(scores.balanced.value)
        _remember_cv(out, decoder)
        out.rows += append_results(results, _rows(common, scores, model=MODEL, decoder=decoder))
        yield f"{task}  {decoder.strategy:<8} seed {decoder.seed}  balanced accuracy {scores.balanced.value:.3f}", out
    labels = classes[target]
    for strategy, members in logits.items():
        out.scores[ENSEMBLE, strategy] = classification_scores(np.mean(members, axis=0), labels, classes=classes)
    _baselines(out, first, classes)
    for (model, strategy), scores in out.scores.items():
        rows = _rows(common, scores, model=model, strategy=strategy, baseline=model != ENSEMBLE)
        if model == ENSEMBLE:
            # an ensemble is what its members are
            members = [d.loaded.card["weights"]["sha256"] for d in found if d.strategy == strategy]
            rows = [{**r, "checkpoint_hash": hash_of(sorted(members))} for r in rows]
        out.rows += append_results(results, rows)
    if event_s is not None:
        _over_time(out, first, classes, event_s)
    if is_control:
        out.control = _control(out, labels)
    yield f"{task}  LDA {out.scores['shrinkage LDA', ''].balanced.value:.3f}", out


def trials_of(decoder: Decoder, part: str, *, transformed: bool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Trials of a part, (trial, channel, time), as stored or through the decoder's transforms, and their targets."""
    corpus = decoder.corpus
    windows = corpus.cut(part, decoder.loaded.facts)
    values = []
    for w in windows:
        x = corpus.dataset.read(w.recording_id, w.start_s, w.n_samples)
        values.append((corpus.transform.apply(x, w.recording_id) if transformed else x).T)
    return np.stack(values).astype(np.float64), np.array([w.target for w in windows])


def _remember_cv(out: TrialScores, decoder: Decoder) -> None:
    metrics = decoder.loaded.card["metrics"]
    if "cv/balanced_accuracy" in metrics:
        out.cv[f"{decoder.strategy}, seed {decoder.seed}"] = (
            metrics["cv/balanced_accuracy"], metrics.get("cv/balanced_accuracy_sd", float("nan"))
        )  # fmt: skip


def _baselines(out: TrialScores, decoder: Decoder, classes: NDArray) -> None:
    rate = decoder.loaded.facts.rate_hz
    for label, transformed in (("shrinkage LDA", False), ("shrinkage LDA, same transforms", True)):
        train, y = trials_of(decoder, "train", transformed=transformed)
        test, truth = trials_of(decoder, "test", transformed=transformed)
        lda = ShrinkageLDA(rate_hz=rate).fit(train, classes[y])
        order = [list(lda.classes).index(c) for c in classes]
        out.scores[label, ""] = classification_scores(lda.logits(test)[:, order], classes[truth], classes=classes)
    out.scores["majority", ""] = label_scores(majority(classes[y], len(truth)), classes[truth], classes=classes)


def _over_time(out: TrialScores, decoder: Decoder, classes: NDArray, event_s: float) -> None:
    """Refit LDA on sub-windows of the trials as stored: cut first, filtered after."""
    rate = decoder.loaded.facts.rate_hz
    train, y = trials_of(decoder, "train", transformed=False)
    test, truth = trials_of(decoder, "test", transformed=False)

    def fit_predict(a: NDArray, labels: NDArray, b: NDArray) -> NDArray:
        return ShrinkageLDA(rate_hz=rate).fit(a, labels).predict(b)

    out.time_resolved["shrinkage LDA"] = time_resolved(
        fit_predict, train, classes[y], test, classes[truth], rate_hz=rate, start_s=-event_s
    )


def _control(out: TrialScores, labels: NDArray) -> Finding:
    best = max((s for (m, _), s in out.scores.items() if m == ENSEMBLE), key=lambda s: s.accuracy.value)
    # who always says the commonest class is right that often without knowing anything
    chance = max(1 / len(out.classes), float(np.unique(labels, return_counts=True)[1].max()) / len(labels))
    return negative_control(out.task, int(np.count_nonzero(best.predicted == labels)), len(labels), chance=chance)


def _rows(
    common: Mapping[str, Any], scores: ClassScores, *, model: str, decoder: Decoder | None = None, strategy: str = "",
    baseline: bool = False,
) -> list[dict[str, Any]]:  # fmt: skip
    about: dict[str, Any] = {"model": model, "strategy": strategy, "baseline": baseline}
    if decoder is not None:
        about |= {
            "strategy": decoder.strategy, "seed": decoder.seed, "transductive": decoder.corpus.transform.is_transductive,
            "checkpoint_hash": decoder.loaded.card["weights"]["sha256"],
        }  # fmt: skip
    both = (("accuracy", scores.accuracy), ("balanced_accuracy", scores.balanced))
    return [{**common, **about, "metric": m, "value": i.value, "low": i.low, "high": i.high, "n": i.n} for m, i in both]
