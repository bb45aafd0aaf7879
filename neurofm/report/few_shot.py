"""What the benchmark of a few trials per new person says: claims, a curve, tables."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurofm.benchmarks.few_shot import FewShotScores
from neurofm.benchmarks.statistics import Paired, t_interval
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_adaptation import adaptation_curve


def budgets_of(scored: FewShotScores) -> list[str]:
    """Trials per class, ascending."""
    return sorted({b for by_budget in scored.accuracies.values() for b in by_budget}, key=float)


def claims_of(scored: FewShotScores, first: str, title: str) -> list[Claim]:
    """Whether the first arm is ahead of every other series, budget by budget; held where each interval excludes zero."""
    claims = []
    for other in scored.accuracies:
        if other == first:
            continue
        gains = {b: g for b in budgets_of(scored) if (g := scored.gain(first, other, b)) is not None}
        held = {b for b, g in gains.items() if g.low > 0}
        claims.append(
            Claim(
                text=f"{title}: {first} is ahead of {other} at half of the budgets or more.",
                held=2 * len(held) >= len(gains) if gains else None,
                detail="Accuracy, trials per class: " + "; ".join(f"{b}: {said(g)}" for b, g in gains.items()) + ".",
            )
        )
    return claims


def section_of(scored: FewShotScores, title: str, note: str = "") -> Section:
    """Mean accuracy with its interval over people, and every person."""
    budgets = budgets_of(scored)
    rows: list[list[Any]] = []
    people: list[list[Any]] = []
    for series, by_budget in scored.accuracies.items():
        means = [scored.person_means(series, b) for b in budgets]
        line: list[Any] = [series]
        for m in means:
            i = t_interval(list(m.values())) if m else None
            line.append("" if i is None else f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]")
        rows.append(line)
        for b, m in zip(budgets, means, strict=True):
            if m:
                people.append([series, b, *m.values(), float(np.mean(list(m.values())))])
        assert by_budget
    names = sorted({p for by in scored.accuracies.values() for m in by.values() for p in m})
    curves = {
        series: {p: {float(b): scored.person_means(series, b)[p] for b in budgets if p in by.get(b, {})} for p in names}
        for series, by in scored.accuracies.items()
    }
    return Section(
        title=title,
        lead=f"Accuracy on {len(names)} new people. {note}".strip(),
        drawings=[
            (
                adaptation_curve(
                    curves, name="adaptation-few-shot", metric="accuracy", budget_unit="trials of each class"
                ),
                "Mean over people with its t interval, and each person.",
            )
        ],
        tables=[
            Table(caption="Accuracy, mean over people", columns=["decoder", *(f"{b} per class" for b in budgets)], rows=rows),
            Table(caption="Accuracy per person", columns=["decoder", "trials per class", *names, "mean"], rows=people),
        ],
        notes=notes_of(scored.findings),
    )  # fmt: skip


def said(gain: Paired) -> str:
    """Mean, interval and p in words."""
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}], p = {gain.p:.3g}, n = {gain.n}"
