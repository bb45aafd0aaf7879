"""The benchmark of seizure detection: every decoder found, beside classical detectors, chance and an oracle.

Scores are per person: windows by F1, Cohen's kappa and area under the ROC curve, events by SzCORE's rules. Mind that
those merge detections up to 90 s apart: where seizures are dense, blind guessing finds most of them too, which is why
chance is always in the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.adapted.decoders import Decoder, audit_decoder, find_decoders, open_decoder, refuse_mixtures
from neurofm.benchmarks.baselines.seizure import FeatureDetector, best_threshold, features_of, oracle_scores
from neurofm.benchmarks.detection.events import EventRule, EventScores, events_of, score_events
from neurofm.benchmarks.detection.stretches import Stretch, probabilities, read_ends, stretches_of
from neurofm.benchmarks.detection.windows import WindowScores, window_scores
from neurofm.benchmarks.guards.audit import Finding, refuse_on_leak
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of

MODEL = "neurofm"
ORACLE = "oracle, sees the source"
BASELINES = {"line_length": "line length, logistic regression", "band_power": "band power, LDA"}
# of events an oracle of windows is no ceiling: rules of merging reward who joins what it parts
KNOWN_BY_ORACLE = ("f1", "kappa", "auroc")
METRICS = ("f1", "kappa", "auroc", "event_sensitivity", "event_f1", "false_alarms_per_hour")


@dataclass(frozen=True, kw_only=True)
class PersonScores:
    """What a detector is worth on one person."""

    windows: WindowScores
    events: EventScores
    auroc: float

    def value(self, metric: str) -> float:
        """Return one of `METRICS`."""
        found = {
            "f1": self.windows.f1, "kappa": self.windows.kappa, "auroc": self.auroc,
            "event_sensitivity": self.events.sensitivity, "event_f1": self.events.f1,
            "false_alarms_per_hour": self.events.false_alarms_per_hour,
        }  # fmt: skip
        return found[metric]


@dataclass
class SeizureScores:
    """What an evaluation found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table.
    people : dict of (model, strategy, seconds of calibration, seed) to dict of subject to PersonScores
    findings : list of Finding
    looks : dict of str to int
        Who is tested → runs that have looked.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    people: dict[tuple[str, str, float, int], dict[str, PersonScores]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)


def judge(
    stretches: Sequence[Stretch], scores: Sequence[NDArray[np.float64]], *, threshold: float, rule: EventRule
) -> dict[str, PersonScores]:
    """Score a detector on every person.

    Parameters
    ----------
    stretches : sequence of Stretch
    scores : sequence of array, shape (W,) each
        Of the windows of each stretch; at or above `threshold` is a seizure.
    threshold : float
    rule : EventRule
    """
    from sklearn.metrics import roc_auc_score

    out = {}
    for person in sorted({s.subject for s in stretches}):
        mine = [(s, v) for s, v in zip(stretches, scores, strict=True) if s.subject == person]
        truth, values = np.concatenate([s.ictal for s, _ in mine]), np.concatenate([v for _, v in mine])
        events = EventScores()
        for s, v in mine:
            said = events_of(s.starts_s.tolist(), v >= threshold, length_s=s.label_s)
            # a millisecond of rounding may put the last one outside
            said = [(a, min(b, s.duration_s)) for a, b in said]
            events += score_events(s.reference, said, duration_s=s.duration_s, rule=rule)
        both = truth.any() and not truth.all()
        out[person] = PersonScores(
            windows=window_scores(truth, values >= threshold), events=events,
            auroc=float(roc_auc_score(truth, values)) if both else float("nan"),
        )  # fmt: skip
    return out


def score_seizures(
    *,
    name: str,
    runs: str,
    results: str,
    run_id: str,
    task: str = "seizure",
    dataset: str | None = None,
    label: str = "seizure",
    threshold: float | str = 0.5,
    rule: Mapping[str, float] | None = None,
    baselines: Sequence[str] = ("line_length", "band_power"),
    oracle_stream: str | None = None,
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, SeizureScores]]:
    """Score every decoder of `task` under `runs`, and the baselines fitted on the same calibration; yield a line each.

    Parameters
    ----------
    name, runs, results, run_id, task, dataset, allow_leak, allow_import, versions
        As in `adapted.new_subject.score_new_subjects`.
    label : str
        The class that is detected.
    threshold : float or "fitted"
        On the probability; "fitted": of highest window F1 on what the decoder was calibrated on, never on the test.
    rule : mapping, optional
        Arguments of `EventRule`; default SzCORE's.
    baselines : sequence of str
        Of `BASELINES`.
    oracle_stream : str, optional
        Covariate stream of a simulation that holds the source's own activity.
    """
    if not (threshold == "fitted" or isinstance(threshold, (int, float))):
        raise ConfigError(f"benchmark '{name}': threshold is '{threshold}'; expected a number or 'fitted'")
    events = EventRule(**(rule or {}))
    folders = find_decoders(runs, task=task, dataset=dataset)
    refuse_mixtures(folders)
    out, done = SeizureScores(), set()
    for folder in folders:
        findings = audit_decoder(open_decoder(folder, allow_import=allow_import), new_subject=True, chronological=True)
        refuse_on_leak(findings, allow_leak=allow_leak)
        out.findings += [f for f in findings if f not in out.findings]
    for folder in folders:
        decoder = open_decoder(folder, allow_import=allow_import)
        classes = decoder.loaded.facts.classes
        if label not in classes:
            raise ConfigError(f"{folder}: has classes {', '.join(classes)}, the benchmark detects '{label}'")
        about = _Scored(decoder, classes.index(label), label, threshold, events)
        common = {
            "run_id": run_id, "benchmark": name, "dataset": decoder.corpus.dataset.id, "task": task, "part": "test",
            "versions": versions, "leak_reason": allow_leak,
            "test_hash": span_hash([s._asdict() for s in decoder.test]),
            "split_hash": decoder.loaded.card["provenance"]["split"]["hash"],
            "protocol_hash": hash_of([task, label, threshold, vars(events), [list(s) for s in decoder.test]]),
        }  # fmt: skip
        if decoder.subject not in out.looks:
            out.looks[decoder.subject] = record_look(results, **common, subject=decoder.subject)
        found = {(MODEL, decoder.strategy, about.seconds, decoder.seed): about.model()}
        if (decoder.subject, about.seconds) not in done:
            done.add((decoder.subject, about.seconds))
            found |= {(m, "", about.seconds, -1): p for m, p in about.bars(baselines, oracle_stream).items()}
        rows = []
        for key, people in found.items():
            out.people.setdefault(key, {}).update(people)
        for key, people in found.items():
            best = None if key[0] == ORACLE else out.people.get((ORACLE, "", about.seconds, -1))
            rows += _rows({**common, **(about.origin if key[0] == MODEL else {})}, key, people, best)
        out.rows += append_results(results, rows)
        ours = np.nanmean([p.value("f1") for p in found[MODEL, decoder.strategy, about.seconds, decoder.seed].values()])
        yield f"{decoder.subject}  {decoder.strategy:<8} {about.seconds:>6.0f} s  window F1 {ours:.3f}", out


class _Scored:
    """One decoder's test and calibration parts as stretches, and how detectors fare on them."""

    def __init__(self, decoder: Decoder, positive: int, label: str, threshold: float | str, rule: EventRule) -> None:
        self.decoder, self.positive, self.threshold, self.rule = decoder, positive, threshold, rule
        corpus, facts = decoder.corpus, decoder.loaded.facts
        self.part = decoder.loaded.card["provenance"]["split"]["part"]
        self.test, self.train = (
            stretches_of(corpus, corpus.cut(part, facts), positive=positive, label=label)
            for part in ("test", self.part)
        )
        self.seconds = round(sum(s.stop_s - s.start_s for s in corpus.split[self.part]), 3)
        self.origin = {
            "seed": decoder.seed, "transductive": corpus.transform.is_transductive,
            "checkpoint_hash": decoder.loaded.card["weights"]["sha256"],
        }  # fmt: skip

    def model(self) -> dict[str, PersonScores]:
        """Score the decoder itself."""
        said = probabilities(self.decoder, "test")[:, self.positive]
        train = probabilities(self.decoder, self.part)[:, self.positive] if self.threshold == "fitted" else None
        return self._judged(
            [said[s.index] for s in self.test], None if train is None else [train[s.index] for s in self.train]
        )

    def bars(self, baselines: Sequence[str], oracle_stream: str | None) -> dict[str, dict[str, PersonScores]]:
        """Score what needs no network, fitted on the decoder's calibration."""
        corpus, out = self.decoder.corpus, {}
        truth = np.concatenate([s.ictal for s in self.train])
        if truth.any() and not truth.all():
            for kind in baselines:
                train, test = (
                    [
                        features_of(read_ends(corpus, s), kind=kind, rate_hz=corpus.dataset.rate_hz(s.recording_id))
                        for s in part
                    ]
                    for part in (self.train, self.test)
                )
                fitted = FeatureDetector(kind).fit(np.concatenate(train), truth)
                out[BASELINES[kind]] = self._judged([fitted.scores(x) for x in test], [fitted.scores(x) for x in train])
        rng = np.random.default_rng(0)
        guess = [rng.random(len(s.ictal)) for s in self.test]
        # as often as seizures are in the calibration
        out["chance"] = judge(self.test, guess, threshold=1 - float(truth.mean()), rule=self.rule)
        common = float(truth.mean() > 0.5)
        out["majority"] = judge(
            self.test, [np.full(len(s.ictal), common) for s in self.test], threshold=0.5, rule=self.rule
        )
        if oracle_stream is not None:
            rate = corpus.dataset.rate_hz(self.test[0].recording_id, oracle_stream)
            seen = [oracle_scores(read_ends(corpus, s, stream=oracle_stream)[..., 0], rate_hz=rate) for s in self.test]
            out[ORACLE] = judge(self.test, seen, threshold=0.5 + 1e-9, rule=self.rule)
        return out

    def _judged(
        self, test: list[NDArray[np.float64]], train: list[NDArray[np.float64]] | None
    ) -> dict[str, PersonScores]:
        threshold = self.threshold
        if threshold == "fitted":
            assert train is not None
            threshold = best_threshold(np.concatenate(train), np.concatenate([s.ictal for s in self.train]))
        return judge(self.test, test, threshold=float(threshold), rule=self.rule)


def _rows(
    common: Mapping[str, Any],
    key: tuple[str, str, float, int],
    people: Mapping[str, PersonScores],
    best: Mapping[str, PersonScores] | None = None,
) -> list[dict[str, Any]]:
    model, strategy, seconds, _ = key
    return [
        {
            **common, "subject": person, "model": model, "strategy": strategy, "baseline": model != MODEL,
            "budget": seconds, "budget_unit": "s", "metric": metric, "value": scores.value(metric),
            "n": scores.windows.n,
            "ceiling": best[person].value(metric) if best and person in best and metric in KNOWN_BY_ORACLE else float("nan"),
        }
        for person, scores in people.items()
        for metric in METRICS
    ]  # fmt: skip
