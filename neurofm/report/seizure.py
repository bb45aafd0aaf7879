"""Claims and sections on seizure detection, and on how fast models adapt to a new person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.detection.seizure import BASELINES, METRICS, MODEL, ORACLE, SeizureScores
from neurofm.benchmarks.stats.curves import Curves, areas, compare
from neurofm.benchmarks.stats.intervals import paired_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_adaptation import adaptation_curve

TITLES = {
    "f1": "window F1", "kappa": "Cohen's kappa", "auroc": "AUROC", "event_sensitivity": "events found",
    "event_f1": "event F1", "false_alarms_per_hour": "false alarms per hour",
}  # fmt: skip


def per_person(scored: SeizureScores, model: str, strategy: str, seconds: float, metric: str) -> dict[str, float]:
    """Score of each person, averaged over seeds."""
    found: dict[str, list[float]] = {}
    for (m, s, b, _), people in scored.people.items():
        if (m, s, b) == (model, strategy, seconds):
            for person, scores in people.items():
                found.setdefault(person, []).append(scores.value(metric))
    return {p: float(np.mean(v)) for p, v in sorted(found.items())}


def budgets_of(scored: SeizureScores) -> list[float]:
    """Seconds of calibration that were scored, ascending."""
    return sorted({seconds for _, _, seconds, _ in scored.people})


def claims_of(scored: SeizureScores, strategy: str, metric: str = "f1") -> list[Claim]:
    """Whether the decoder of one strategy beats every baseline, at the largest calibration, over people."""
    seconds = budgets_of(scored)[-1]
    ours = per_person(scored, MODEL, strategy, seconds, metric)
    claims = []
    for bar in BASELINES.values():
        theirs = per_person(scored, bar, "", seconds, metric)
        shared = [p for p in ours if p in theirs and np.isfinite([ours[p], theirs[p]]).all()]
        text = f"Seizures: the network is ahead of {bar} in {TITLES[metric]}."
        if len(shared) < 2:
            claims.append(Claim(text=text, held=None, detail=f"{len(shared)} people were scored by both."))
            continue
        gain = paired_interval([ours[p] for p in shared], [theirs[p] for p in shared])
        claims.append(
            Claim(
                text=text,
                held=gain.low > 0,
                detail=f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} people, sign-flip p = "
                f"{gain.p:.3g}.",
            )
        )
    return claims


def section_of(scored: SeizureScores, title: str) -> Section:
    """One line per detector and amount of calibration."""
    order = {MODEL: 0, **{name: 1 for name in BASELINES.values()}, ORACLE: 3}
    keys = sorted({(m, s, b) for m, s, b, _ in scored.people}, key=lambda k: (k[2], order.get(k[0], 2), k[0], k[1]))
    rows: list[Sequence[Any]] = []
    for model, strategy, seconds in keys:
        values = [per_person(scored, model, strategy, seconds, m) for m in METRICS]
        name = f"{model}, {strategy}" if strategy else model
        # a person without seizures has no F1; the mean is over those who have one
        rows.append([name, f"{seconds:g}", len(values[0]), *(_mean(list(v.values())) for v in values)])
    return Section(
        title=title,
        lead="Windows are scored by the label of their end, events by SzCORE's rules (merged within 90 s, split at 5 min, "
        "tolerance 30 s before and 60 s after); all figures are means over people. Where seizures are dense these rules "
        "let a guess find most of them: read event scores against the line of chance.",
        tables=[
            Table(
                caption="Seizure detection, mean over people",
                columns=["detector", "calibration, s", "people", *(TITLES[m] for m in METRICS)],
                rows=rows,
            )
        ],
        notes=notes_of(scored.findings),
    )


def curves_of(scored: SeizureScores, strategy: str, metric: str, model: str = MODEL) -> dict[str, dict[float, float]]:
    """Person → seconds of calibration → score."""
    curves: dict[str, dict[float, float]] = {}
    for seconds in budgets_of(scored):
        for person, value in per_person(scored, model, strategy, seconds, metric).items():
            curves.setdefault(person, {})[seconds] = value
    return curves


def adaptation_section(curves: Curves, first: str, metric: str, title: str) -> tuple[list[Claim], Section]:
    """Compare areas under the adaptation curve: `first` against every other series, paired over people."""
    found = areas(curves)
    gains = compare(found, first)
    claims = [
        Claim(
            text=f"{title}: {first} is ahead of {other} (area under the adaptation curve, {TITLES[metric]}).",
            held=gain.low > 0,
            detail=f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} new people, sign-flip p = "
            f"{gain.p:.3g}.",
        )
        for other, gain in gains.items()
    ]
    rows: list[Sequence[Any]] = [
        [name, *(people[p] for p in sorted(people)), _mean(list(people.values()))] for name, people in found.items()
    ]
    people = sorted(found[first])
    section = Section(
        title=title,
        lead="Area under the score against the logarithm of the calibration's length, divided by its width. Nothing was "
        "chosen on these people.",
        drawings=[
            (
                adaptation_curve(
                    {k: dict(v) for k, v in curves.items()}, name="adaptation-seizure", metric=TITLES[metric],
                    budget_unit="seconds of the new person", bounds=bounds_of(metric),
                ),
                "Mean over people with its t interval, and each person.",
            )
        ],
        tables=[Table(caption="Area per person", columns=["model", *people, "mean"], rows=rows)],
    )  # fmt: skip
    return claims, section


def _mean(values: Sequence[float]) -> float:
    there = [v for v in values if np.isfinite(v)]
    return float(np.mean(there)) if there else float("nan")
