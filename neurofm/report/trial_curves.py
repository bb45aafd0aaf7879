"""Which strategy at which budget: claims, the adaptation curve and its tables, for labelled trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.trial_curves import TrialCurves
from neurofm.benchmarks.stats.curves import areas, compare
from neurofm.benchmarks.stats.intervals import Paired, paired_interval, t_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_adaptation import adaptation_curve
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.recording import slug

NAMES = {
    "full": "full fine-tuning", "probe": "frozen probe", "lora": "LoRA", "bitfit": "biases only", "norm": "norms only",
    "subject_layer": "subject layer", "reset": "reset layers", "in_context": "in context", "unit_embedding": "units only",
    "scratch": "same network from scratch", "cnn": "CNN from scratch",
}  # fmt: skip
TITLES = {"balanced_accuracy": "balanced accuracy", "accuracy": "accuracy", "r": "correlation"}
# what five colours with two markers can tell apart
DRAWN = 10
# an exact sign-flip test of fewer people cannot reach p < .05
ENOUGH_PEOPLE = 6
RULES = {"area": "area under the adaptation curve", "budgets": "at half of the budgets or more"}
# drawn before all others
RIVALS = ("full", "probe", "cnn", "scratch")


def claims_of(found: TrialCurves, strategy: str, metric: str, title: str, judged_by: str = "area") -> list[Claim]:
    """Whether the series `strategy` is ahead of every other, paired over people; the rule is chosen before scoring.

    "area": the interval of the difference of areas under the curves excludes zero. "budgets": that of the difference at
    half of the budgets or more.
    """
    raw = found.of(metric)
    if judged_by not in RULES:
        raise ConfigError(f"{title}: judged_by is '{judged_by}': {nearest(judged_by, RULES)}")
    if strategy not in raw:
        raise ConfigError(f"{title}: no decoder of strategy '{strategy}' was found: {nearest(strategy, raw)}")
    curves = _on_common_budgets(raw)
    areas_ = {} if len(curves.get(strategy, {})) < 2 else compare(areas(curves), strategy)
    claims = []
    for other in (s for s in raw if s != strategy):
        by_budget = _gains(raw[strategy], raw[other])
        area, n = areas_.get(other), len(set(raw[strategy]) & set(raw[other]))
        held = None
        if judged_by == "budgets" and by_budget and n >= ENOUGH_PEOPLE:
            held = 2 * sum(g.low > 0 for g in by_budget.values()) >= len(by_budget)
        elif judged_by == "area" and area is not None and area.n >= ENOUGH_PEOPLE:
            held = area.low > 0
        few = f"{n} {'people are' if n != 1 else 'person is'} too few to judge by. " if n < ENOUGH_PEOPLE else ""
        said = [f"area {_said(area)}"] if area is not None else []
        said += [f"at {b:g} {found.unit} {_said(g)}" for b, g in by_budget.items()]
        text = f"{_name(strategy)} of the pretrained model" if strategy in NAMES else strategy
        claims.append(
            Claim(
                text=f"{title}: {text} is ahead of {_name(other)} ({RULES[judged_by]}, {TITLES[metric]}).",
                held=held,
                detail=f"{few}{'; '.join(said)}".strip(),
            )
        )
    return claims


def _gains(one: Mapping[str, Mapping[float, float]], other: Mapping[str, Mapping[float, float]]) -> dict[float, Paired]:
    """Budget → difference over the people that have it in both, where there are two or more."""
    out = {}
    for b in sorted({b for scores in one.values() for b in scores}):
        people = sorted(p for p in one if b in one[p] and b in other.get(p, {}))
        if len(people) > 1:
            out[b] = paired_interval([one[p][b] for p in people], [other[p][b] for p in people])
    return out


def _said(gain: Paired) -> str:
    return f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} people, sign-flip p = {gain.p:.3g}"


def section_of(
    found: TrialCurves, strategy: str, metric: str, title: str, note: str = "", pairs: Sequence[Sequence[str]] = ()
) -> Section:
    """The curve of every series, the mean at every budget with its interval, and who was best where.

    `pairs` (series, series) are compared in a table of their own: they were not asked for before scoring.
    """
    curves = found.of(metric)
    drawn = _most_wanted(curves, strategy)
    people = sorted({p for by_person in curves.values() for p in by_person})
    drawing = adaptation_curve(
        {_name(s): curves[s] for s in drawn}, name=f"curve-{slug(title)}", metric=TITLES[metric], budget_unit=found.unit,
        ceiling=(1 / found.n_classes, "chance") if found.n_classes else None, bounds=bounds_of(metric),
    )  # fmt: skip
    left_out = [_name(s) for s in curves if s not in drawn]
    more = f" In the table only: {', '.join(left_out)}." if left_out else ""
    return Section(
        title=title,
        lead=f"Every decoder and baseline saw the beginning of what {len(people)} new "
        f"{'people' if len(people) > 1 else 'person'} gave and was scored on what came later. {best_by_budget(curves)}{' ' * bool(note)}{note}",
        drawings=[(drawing, f"Mean over people with its t interval, and each person.{more}")],
        tables=[
            _table(curves, found.unit, metric),
            *_pairs_table(curves, pairs, found.unit, metric, title),
            _people_table(curves, people, found.unit, metric),
        ],
        notes=[*notes_of(found.findings), *found.notes],
    )


def best_by_budget(curves: Mapping[str, Mapping[str, Mapping[float, float]]]) -> str:
    """A sentence: which series has the highest mean at each budget. Seen on the test part, so it chooses nothing."""
    means: dict[float, dict[str, float]] = {}
    for series, people in curves.items():
        for b in {b for scores in people.values() for b in scores}:
            values = [scores[b] for scores in people.values() if b in scores]
            means.setdefault(b, {})[series] = float(np.mean(values))
    best = {b: max(sorted(of), key=lambda s, of=of: of[s]) for b, of in sorted(means.items())}  # type: ignore[misc]
    return "Best on average: " + ", ".join(f"{_name(s)} at {b:g} ({means[b][s]:.3f})" for b, s in best.items()) + "."


def _on_common_budgets(
    curves: Mapping[str, Mapping[str, Mapping[float, float]]],
) -> dict[str, dict[str, dict[float, float]]]:
    """Areas compare over equal budgets and people only: those that every series has; a series without any is left out."""
    largest = {b for people in curves.values() for scores in people.values() for b in scores}
    kept = {s: set.intersection(*(set(scores) for scores in people.values())) for s, people in curves.items()}
    # a baseline that cannot be fitted on one trial costs everybody that budget, not the whole comparison
    common = set.intersection(largest, *(b for b in kept.values() if b)) if kept else set()
    people = set.intersection(*(set(p) for p in curves.values())) if curves else set()
    if not common or not people:
        return {s: {p: dict(v) for p, v in by.items()} for s, by in curves.items()}
    return {
        s: {p: {b: scores[b] for b in sorted(common)} for p, scores in sorted(by.items()) if p in people}
        for s, by in curves.items()
        if kept[s]
    }


def _most_wanted(curves: Mapping[str, Any], strategy: str) -> list[str]:
    """What is drawn: the asked-for series, what it has to beat, then the rest by their place."""
    if strategy not in NAMES:
        return [strategy, *(s for s in curves if s != strategy)][:DRAWN]
    classical = [s for s in curves if s not in NAMES]
    order = [strategy, *RIVALS, *classical[:2], *(s for s in curves if s in NAMES), *classical[2:]]
    return [s for s in dict.fromkeys(order) if s in curves][:DRAWN]


def _table(curves: Mapping[str, Mapping[str, Mapping[float, float]]], unit: str, metric: str) -> Table:
    budgets = sorted({b for people in curves.values() for scores in people.values() for b in scores})
    rows: list[Sequence[Any]] = []
    for series, people in curves.items():
        cells: list[str] = []
        for b in budgets:
            values = [scores[b] for scores in people.values() if b in scores]
            if not values:
                cells.append("–")
            elif len(values) == 1:
                cells.append(f"{values[0]:.3f}")
            else:
                mean = t_interval(values, bounds=bounds_of(metric))
                cells.append(f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
        rows.append([_name(series), *cells])
    caption = f"Mean {TITLES[metric]} over people, 95 % t interval, cut at the metric's bounds"
    return Table(caption=caption, columns=["", *(f"{b:g} {unit}" for b in budgets)], rows=rows)


def _pairs_table(
    curves: Mapping[str, Mapping[str, Mapping[float, float]]],
    pairs: Sequence[Sequence[str]],
    unit: str,
    metric: str,
    title: str,
) -> list[Table]:
    """Paired differences at every budget, one line per pair."""
    rows, budgets = [], sorted({b for people in curves.values() for scores in people.values() for b in scores})
    for pair in pairs:
        if len(pair) != 2:
            raise ConfigError(f"{title}: pairs has {list(pair)}; expected two series")
        for series in pair:
            if series not in curves:
                raise ConfigError(f"{title}: pairs names '{series}': {nearest(series, curves)}")
        gains = _gains(curves[pair[0]], curves[pair[1]])
        rows.append(
            [f"{_name(pair[0])} − {_name(pair[1])}", *(_said(gains[b]) if b in gains else "–" for b in budgets)]
        )
    if not rows:
        return []
    caption = (
        f"Further pairs, no part of what was claimed: difference in {TITLES[metric]}, 95 % t interval, no correction"
    )
    return [Table(caption=caption, columns=["", *(f"{b:g} {unit}" for b in budgets)], rows=rows)]


def _people_table(curves: Mapping[str, Any], people: Sequence[str], unit: str, metric: str) -> Table:
    """One line per series and budget, one column per person."""
    rows = []
    for series, by_person in curves.items():
        for b in sorted({b for scores in by_person.values() for b in scores}):
            cells = [by_person.get(p, {}).get(b) for p in people]
            rows.append([_name(series), f"{b:g}", *("–" if v is None else f"{v:.3f}" for v in cells)])
    return Table(caption=f"{TITLES[metric].capitalize()} of each person", columns=["", unit, *people], rows=rows)


def _name(series: str) -> str:
    return NAMES.get(series, series)
