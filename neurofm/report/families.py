"""Families of models under several strategies: one table over both tasks, and what was claimed of each family."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.new_subject import MODEL, Scored
from neurofm.benchmarks.adapted.trials import ENSEMBLE, TrialScores
from neurofm.benchmarks.stats.intervals import t_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of, with_interval
from neurofm.report.figures_adaptation import adaptation_curve
from neurofm.report.new_subject import (
    BARS,
    ENOUGH_PEOPLE,
    LABELS,
    Scores,
    by_person,
    majority_excludes_zero,
    mean_scores,
    paired,
    words,
)
from neurofm.report.trial_curves import NAMES
from neurofm.report.trials import SAME_DATA
from neurofm.schema.words import counted

FROM_NOTHING = ("scratch", "cnn")
Regions = Mapping[str, Scored]
Trials = Mapping[str, TrialScores]


def claims_of(regions: Regions, trials: Trials, protocol: str, strategy: str) -> list[Claim]:
    """What was claimed of each family before scoring, and whether it held."""
    title, bar, bar_name = LABELS[protocol]
    claims = []
    for family, scored in regions.items():
        of = {s: mean_scores(scored.rows, model=MODEL, strategy=s) for s in _strategies(scored)}
        ridge = mean_scores(scored.rows, model=bar, baseline=True)
        seeds = len({r["seed"] for r in scored.rows if r["model"] == MODEL and r["strategy"] == strategy})
        rivals = [
            ("scratch", "pretraining helps a new person (against the same network from scratch)", False),
            ("probe", f"{NAMES.get(strategy, strategy)} is ahead of the frozen probe", False),
            (bar, f"it beats the {bar_name} at every budget", True),
        ]
        for rival, text, everywhere in rivals:
            gain = paired(of.get(strategy, {}), ridge if rival == bar else of.get(rival, {}))
            people = min((g.n for g in gain.values()), default=0)
            held = all(g.low > 0 for g in gain.values()) if everywhere else majority_excludes_zero(gain)
            claims.append(
                Claim(
                    text=f"{title}, {family}: {text}.",
                    held=None if people < ENOUGH_PEOPLE else held,
                    detail=f"Difference in R² over {people} people, {counted(seeds, 'seed')}; budgets in "
                    f"volumes, 95 % t interval, exact sign-flip p. {words(gain)}.",
                )
            )
    for family, found in trials.items():
        ours, same = found.scores.get((ENSEMBLE, strategy)), found.scores[SAME_DATA, ""].balanced
        if ours is None:
            continue
        claims.append(
            Claim(
                text=f"{_task(found)}, {family}: it reaches shrinkage LDA on the same transformed data.",
                held=ours.balanced.value >= same.value,
                detail=f"Balanced accuracy {with_interval(ours.balanced)}, LDA {with_interval(same)}; one person, "
                f"{ours.accuracy.n} trials.",
            )
        )
        alone = found.scores.get((ENSEMBLE, "scratch"))
        if alone is not None:
            claims.append(
                Claim(
                    text=f"{_task(found)}, {family}: pretraining helps (not tested over people: there is one).", held=None,
                    detail=f"Balanced accuracy {ours.balanced.value:.3f} pretrained, {alone.balanced.value:.3f} from scratch.",
                )
            )  # fmt: skip
    return claims


def section_of(regions: Regions, trials: Trials, protocol: str, title: str, *, note: str = "") -> Section:
    """The table of everything, and an adaptation curve per family."""
    first = next(iter(regions.values()), None)
    bars = {} if first is None else {b: mean_scores(first.rows, model=b, baseline=True) for b in BARS}
    drawings = []
    for family, scored in regions.items():
        _, bar, bar_name = LABELS[protocol]
        series = {
            NAMES.get(s, s): by_person(mean_scores(scored.rows, model=MODEL, strategy=s)) for s in _strategies(scored)
        }
        series[bar_name] = by_person(bars[bar])
        drawing = adaptation_curve(series, name=f"family-{_slug(family)}", bounds=bounds_of("r2"))
        drawings.append((drawing, f"{family}: {LABELS[protocol][0].lower()}, mean over people with 95 % interval."))
    findings = [f for s in regions.values() for f in s.findings] + [f for t in trials.values() for f in t.findings]
    return Section(
        title=title,
        lead=note,
        drawings=drawings,
        tables=[_table(regions, trials, bars, protocol)],
        notes=notes_of(list(dict.fromkeys(findings))),
    )


def _table(regions: Regions, trials: Trials, bars: Mapping[str, Scores], protocol: str) -> Table:
    budgets = sorted({b for s in regions.values() for b in mean_scores(s.rows, model=MODEL)})
    columns = ["", *(f"{LABELS[protocol][0].lower()}, R², {b:g} volumes" for b in budgets)]
    columns += [f"{_task(t).lower()}, balanced accuracy" for t in list(trials.values())[:1]]
    rows: list[list[Any]] = []
    for family in dict.fromkeys([*regions, *trials]):
        scored, found = regions.get(family), trials.get(family)
        names = _strategies(scored) if scored else []
        names += [s for m, s in (found.scores if found else ()) if m == ENSEMBLE and s not in names]
        for s in names:
            own = mean_scores(scored.rows, model=MODEL, strategy=s) if scored else {}
            beside = found.scores.get((ENSEMBLE, s)) if found else None
            cells = [_mean(own.get(b)) for b in budgets]
            cells += [with_interval(beside.balanced) if beside else "–"] if trials else []
            rows.append([f"{family}: {NAMES.get(s, s)}", *cells])
    for bar, scores in bars.items():
        if scores:
            rows.append([f"bar: {BARS[bar]}", *(_mean(scores.get(b)) for b in budgets), *(["–"] if trials else [])])
    for found in list(trials.values())[:1]:
        for (model, _), judged in found.scores.items():
            if model != ENSEMBLE:
                rows.append([f"bar: {model}", *["–"] * len(budgets), with_interval(judged.balanced)])
    return Table(
        caption="Mean over people and seeds with 95 % t interval over people; balanced accuracy of seeds averaged, bootstrap "
        "over the test trials of one person",
        columns=columns,
        rows=rows,
    )


def _strategies(scored: Scored) -> list[str]:
    """In the order of `NAMES`: pretrained ones first, from nothing last."""
    there = {r["strategy"] for r in scored.rows if r["model"] == MODEL}
    return [s for s in NAMES if s in there and s not in FROM_NOTHING] + [s for s in FROM_NOTHING if s in there]


def _task(found: TrialScores) -> str:
    return found.task.replace("_", " ").capitalize()


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _mean(people: Mapping[str, float] | None) -> str:
    if not people:
        return "–"
    values = list(people.values())
    if len(values) == 1:
        return f"{values[0]:.3f}"
    # R² of regions; trials are of one person
    i = t_interval(values, bounds=bounds_of("r2"))
    return f"{float(np.mean(values)):.3f} [{i.low:.3f}, {i.high:.3f}]"
