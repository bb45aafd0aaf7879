"""The benchmark of classification on new people from a few trials of each: every decoder found, beside classical ones.

Scores are accuracies per person and budget on the same test trials; comparisons are paired over people.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from neurofm.benchmarks.audit import Finding, audit, refuse_on_leak
from neurofm.benchmarks.baselines.covariance import RhythmDecoder, SpatialPatterns, TangentSpace
from neurofm.benchmarks.decoders import find_decoders, logits_of, open_decoder, refuse_mixtures
from neurofm.benchmarks.metrics import accuracy
from neurofm.benchmarks.results import append_results, record_look, span_hash
from neurofm.benchmarks.statistics import Paired, paired_interval
from neurofm.benchmarks.trials import trials_of
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import hash_of

BARS: dict[str, tuple[str, type[Any]]] = {
    "csp": ("CSP + LDA", SpatialPatterns),
    "tangent_space": ("tangent space, logistic regression", TangentSpace),
}
# series → budget → person → accuracy, one value per seed
Accuracies = dict[str, dict[str, dict[str, list[float]]]]


@dataclass
class FewShotScores:
    """What an evaluation found.

    Attributes
    ----------
    rows : list of dict
        Rows of the results table.
    accuracies : dict of series to dict of budget to dict of subject to list of float
        One value per seed; arms first, in their order.
    findings : list of Finding
        Of the leakage audit.
    looks : dict of str to int
        Who is tested → runs that have looked.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    accuracies: Accuracies = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)

    def person_means(self, series: str, budget: str) -> dict[str, float]:
        """Accuracy of each person, averaged over seeds."""
        return {p: float(np.mean(v)) for p, v in sorted(self.accuracies[series].get(budget, {}).items())}

    def gain(self, first: str, second: str, budget: str) -> Paired | None:
        """Difference between two series over the people that both have; None where fewer than two."""
        one, other = self.person_means(first, budget), self.person_means(second, budget)
        shared = [p for p in one if p in other]
        return paired_interval([one[p] for p in shared], [other[p] for p in shared]) if len(shared) > 1 else None


def score_few_shot(
    *,
    name: str,
    results: str,
    run_id: str,
    task: str,
    arms: Mapping[str, Mapping[str, str]],
    bars: Sequence[str] = tuple(BARS),
    allow_leak: str = "",
    allow_import: bool = False,
    versions: str = "",
) -> Iterator[tuple[str, FewShotScores]]:
    """Score the decoders of each arm, and classical decoders of the same trials; yield a line of progress each.

    Parameters
    ----------
    name, results, run_id, task, allow_leak, allow_import, versions
        As in `new_subject.score_new_subjects`.
    arms : mapping of name to {"runs", "strategy"}
        Folder of decoders, and which of them.
    bars : sequence of str
        Of `BARS`; they see the calibration's signal as stored.
    """
    for bar in bars:
        if bar not in BARS:
            raise ConfigError(f"benchmark '{name}': unknown bar '{bar}': {nearest(bar, BARS)}")
    found = {}
    for arm, where in arms.items():
        if set(where) != {"runs", "strategy"}:
            raise ConfigError(f"benchmark '{name}': arm '{arm}' has {sorted(where)}; expected runs and strategy")
        folders = find_decoders(where["runs"], task=task)
        refuse_mixtures(folders)
        found[arm] = folders
    out, done = FewShotScores(accuracies={arm: {} for arm in arms}), set()
    for arm, folders in found.items():
        for folder in folders:
            decoder = open_decoder(folder, allow_import=allow_import)
            if decoder.strategy != arms[arm]["strategy"]:
                continue
            dataset = decoder.corpus.dataset
            findings = audit(
                train=decoder.trained_on, test=decoder.test, calibration=decoder.calibrated_on, new_subject=True,
                train_subjects=decoder.people_trained_on, chronological=True,
                subject_of={r: dataset.subject(r) for r in dataset.recordings},
            )  # fmt: skip
            refuse_on_leak(findings, allow_leak=allow_leak)
            out.findings += [f for f in findings if f not in out.findings]
            common = {
                "run_id": run_id, "benchmark": name, "dataset": dataset.id, "subject": decoder.subject, "task": task,
                "part": "test", "versions": versions, "leak_reason": allow_leak, "metric": "accuracy",
                "test_hash": span_hash([s._asdict() for s in decoder.test]),
                "split_hash": decoder.loaded.card["provenance"]["split"]["hash"],
                "protocol_hash": hash_of([task, [list(s) for s in decoder.test]]),
            }  # fmt: skip
            if decoder.subject not in out.looks:
                look = {k: v for k, v in common.items() if k != "metric"}
                out.looks[decoder.subject] = record_look(results, **look)
            said, target = logits_of(decoder, "test")
            scores = {arm: accuracy(np.array(target), said.argmax(1))}
            if (decoder.subject, decoder.budget) not in done:
                done.add((decoder.subject, decoder.budget))
                scores |= _bars(decoder, bars)
            for series, value in scores.items():
                by_person = out.accuracies.setdefault(series, {}).setdefault(decoder.budget, {})
                by_person.setdefault(decoder.subject, []).append(value)
            out.rows += append_results(
                results,
                [
                    {
                        **common, "model": series, "strategy": decoder.strategy if series == arm else "",
                        "seed": decoder.seed if series == arm else -1, "budget": float(decoder.budget),
                        "budget_unit": "trials per class", "value": value, "n": len(target), "baseline": series != arm,
                    }
                    for series, value in scores.items()
                ],
            )  # fmt: skip
            yield f"{decoder.subject}  {arm:<32} {decoder.budget:>3}  accuracy {scores[arm]:.3f}", out
    for arm, by_budget in out.accuracies.items():
        if not by_budget:
            raise ConfigError(f"{arms[arm]['runs']}: holds no decoder of strategy '{arms[arm]['strategy']}'")


def _bars(decoder: Any, bars: Sequence[str]) -> dict[str, float]:
    """Accuracy of classical decoders taught with the decoder's own calibration."""
    if not bars:
        return {}
    part = decoder.loaded.card["provenance"]["split"]["part"]
    train, y = trials_of(decoder, part, transformed=False)
    test, truth = trials_of(decoder, "test", transformed=False)
    out = {}
    for bar in bars:
        title, kind = BARS[bar]
        fitted: RhythmDecoder = kind(rate_hz=decoder.loaded.facts.rate_hz).fit(train, y)
        out[title] = accuracy(truth, fitted.predict(test))
    return out
