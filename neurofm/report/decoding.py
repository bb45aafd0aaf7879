"""Claims and sections on a benchmark that fitted models itself: scores with intervals, controls as columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurofm.benchmarks.decoding.summary import DecodingScores
from neurofm.benchmarks.decoding.task import TIME_ONLY
from neurofm.benchmarks.stats.intervals import mean_over_units
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of, with_interval

WORDS = {"subject": "people"}
# what a metric is for an answer that knows nothing; None where that hangs on the classes' shares
CHANCE = {"auroc": 0.5, "kappa": 0.0, "r2": 0.0, "pearson": 0.0}


def chance_of(metric: str, n_classes: int) -> float | None:
    """Level of an answer that knows nothing."""
    return 1 / n_classes if metric == "balanced_accuracy" and n_classes else CHANCE.get(metric)


def claims_of(scored: DecodingScores, title: str) -> list[Claim]:
    """Whether every control stays at chance: its interval over units holds the level of knowing nothing."""
    metric = scored.metrics[0]
    level = chance_of(metric, len(scored.classes))
    claims = []
    for control in scored.controls:
        found = {m: i for (m, c, k), i in scored.intervals.items() if (c, k) == (control, metric)}
        if level is None or not found:
            continue
        above = {m: i for m, i in found.items() if i.low > level}
        claims.append(
            Claim(
                text=f"{title}: control {control} does not beat chance.",
                held=not above if any(i.n > 1 for i in found.values()) else None,
                detail=f"{metric}, chance {level:.3f}: "
                + ", ".join(f"{m} {with_interval(i)}" for m, i in found.items())
                + ".",
            )
        )
    return claims


def section_of(scored: DecodingScores, title: str, *, note: str = "", split: str = "") -> Section:
    """One line per model with all metrics and controls, pairs of models, notes of the audit."""
    tables = [_models(scored)]
    if scored.pairs:
        rows = [[a, b, f"{d:+.3f}", f"{p:.3g}"] for a, b, d, p in scored.pairs]
        tables.append(
            Table(
                caption=f"Pairs of models, {scored.metrics[0]} over {WORDS.get(scored.paired_by, 'folds')}: exact sign-flip "
                "test, p corrected by Holm",
                columns=["model", "against", "mean difference", "p"], rows=rows,
            )
        )  # fmt: skip
    notes = [*([note] if note else []), *dict.fromkeys(scored.notes), *notes_of(scored.findings)]
    if scored.left_out:
        notes.append(f"{scored.left_out} training windows touch a tested one and were left out of training.")
    tables += _each_person(scored)
    return Section(
        title=title,
        lead=f"Fitted on the training part of each fold, scored on its test part ({scored.n_test} windows, split "
        f"{split or 'given in the benchmark'}). Intervals: {scored.method}; p: test labels permuted within folds, ties at random.",
        tables=tables,
        notes=notes,
    )


def _models(scored: DecodingScores) -> Table:
    first = scored.metrics[0]
    level = chance_of(first, len(scored.classes))
    columns = ["model", *scored.metrics, "p", *(f"{first}, {c}" for c in scored.controls if c != "time_only")]
    rows: list[list[Any]] = [
        ["chance", *(_level(m, scored) for m in scored.metrics), "", *([""] * (len(columns) - 2 - len(scored.metrics)))]
    ]
    for model in dict.fromkeys(m for m, c, _ in scored.intervals if not c):
        shown = [with_interval(scored.intervals[model, "", m]) for m in scored.metrics]
        beside = [
            with_interval(scored.intervals[model, c, first]) if (model, c, first) in scored.intervals else "–"
            for c in scored.controls if c != "time_only"
        ]  # fmt: skip
        label = f"{model} (baseline)" if model in scored.baselines else model
        rows.append([label, *shown, f"{scored.p[model]:.3f}", *beside])
    if (TIME_ONLY, "time_only", first) in scored.intervals:
        shown = [with_interval(scored.intervals[TIME_ONLY, "time_only", m]) for m in scored.metrics]
        rows.append([f"control time_only: {TIME_ONLY}", *shown, "", *([""] * (len(columns) - 2 - len(scored.metrics)))])
    known = f"; {first} of knowing nothing is {level:.3f}" if level is not None else ""
    return Table(
        caption=f"Score with 95 % interval over {WORDS.get(scored.unit, scored.unit + 's')}{known}",
        columns=columns,
        rows=rows,
    )


def _each_person(scored: DecodingScores) -> list[Table]:
    """Every person's score by every model; nothing where one person is tested."""
    first = scored.metrics[0]
    models = list(dict.fromkeys(m for m, c, _ in scored.people if not c))
    people = sorted({p for m in models for p in scored.people[m, "", first]})
    if len(people) < 2:
        return []
    # as text: set like the line of means below them
    rows = [[p, *(f"{scored.people[m, '', first].get(p, float('nan')):.3f}" for m in models)] for p in people]
    means = [[v for v in scored.people[m, "", first].values() if np.isfinite(v)] for m in models]
    shown = [with_interval(mean_over_units(v, bounds=bounds_of(first))) if v else "–" for v in means]
    caption = f"{first} of every person; last line: mean over people with interval"
    return [Table(caption=caption, columns=["person", *models], rows=[*rows, ["mean", *shown]])]


def _level(metric: str, scored: DecodingScores) -> str:
    level = chance_of(metric, len(scored.classes))
    return "–" if level is None else f"{level:.3f}"
