"""Claims and sections on a benchmark of new subjects."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.new_subject import MODEL, SKIP, Scored
from neurofm.benchmarks.stats.intervals import Paired, paired_interval, t_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_adaptation import adaptation_curve, paired_gains, region_scores
from neurofm.report.figures_signals import traces
from neurofm.schema.words import counted

Scores = dict[float, dict[str, float]]
# an exact sign-flip test of fewer people cannot reach p < .05
ENOUGH_PEOPLE, ENOUGH_SEEDS = 6, 3
LABELS = {
    "masked_region": ("Hidden regions", "ridge", "population ridge, shrunk to the person"),
    "next_volume": ("Next volume", "var1", "population ridge VAR(1), shrunk to the person"),
}
BARS = {
    "ridge": "population ridge, shrunk",
    "ridge_own": "ridge, own data only",
    "var1": "ridge VAR(1), shrunk",
    "var2": "ridge VAR(2), shrunk",
    "var1_own": "ridge VAR(1), own data only",
    "persistence": "persistence",
}


def mean_scores(rows: Sequence[Mapping[str, Any]], **where: Any) -> Scores:
    """Budget → person → score averaged over seeds, of the rows that agree with `where`; honest ones by default."""
    where.setdefault("transductive", False)
    found: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        if r["metric"] == "r2" and all(r[k] == v for k, v in where.items()):
            found[r["budget"]][r["subject"]].append(r["value"])
    return {b: {p: float(np.mean(v)) for p, v in sorted(people.items())} for b, people in sorted(found.items())}


def best_from_scratch(rows: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores from scratch, with or without its attention network: at each budget whichever is better on average.

    Chosen on the test scores themselves, to the disadvantage of the pretrained model.
    """
    whole, part = (mean_scores(rows, model=m, strategy="scratch") for m in (MODEL, SKIP))
    return {
        b: max((s for s in (scores, part.get(b)) if s), key=lambda s: float(np.mean(list(s.values()))))
        for b, scores in whole.items()
    }


def by_person(scores: Scores) -> dict[str, dict[float, float]]:
    """Turn budget → person → score round to person → budget → score."""
    people = sorted({p for found in scores.values() for p in found})
    return {p: {b: found[p] for b, found in scores.items() if p in found} for p in people}


def paired(first: Scores, second: Scores) -> dict[float, Paired]:
    """Budget → first − second over the people that both have."""
    out = {}
    for budget in sorted(set(first) & set(second)):
        people = sorted(set(first[budget]) & set(second[budget]))
        if len(people) > 1:
            out[budget] = paired_interval([first[budget][p] for p in people], [second[budget][p] for p in people])
    return out


def words(gains: Mapping[float, Paired]) -> str:
    """The gain at each budget with its interval and exact p."""
    return "; ".join(f"{b:g}: {g.value:+.4f} [{g.low:+.4f}, {g.high:+.4f}], p = {g.p:.3g}" for b, g in gains.items())


def majority_excludes_zero(gains: Mapping[float, Paired]) -> bool | None:
    """Whether the interval lies above zero at half of the budgets or more; None without people to compare."""
    if not gains:
        return None
    return 2 * sum(g.low > 0 for g in gains.values()) >= len(gains)


def claims_of(scored: Scored, protocol: str, strategy: str) -> list[Claim]:
    """What was claimed before scoring, and whether it held."""
    title, bar, bar_name = LABELS[protocol]
    rows = scored.rows
    model = mean_scores(rows, model=MODEL, strategy=strategy)
    scratch = best_from_scratch(rows)
    ridge = mean_scores(rows, model=bar, baseline=True, transductive=False)
    gain, beat = paired(model, scratch), paired(model, ridge)
    people, seeds = _fewest(rows, strategy)
    people = min([people, *(g.n for g in [*gain.values(), *beat.values()])])
    over = f"over {people} people, {counted(seeds, 'seed')}; budgets in volumes, 95 % t interval, exact sign-flip p"
    claims = [
        Claim(
            text=f"{title}: pretraining helps a new person (against the same model from scratch, with or without its "
            "attention network, whichever is better; interval above zero at half of the budgets or more).",
            held=majority_excludes_zero(gain),
            detail=f"Gain in R² {over}. {words(gain)}.",
        ),
        Claim(
            text=f"{title}: the pretrained model beats the {bar_name} at every budget.",
            held=all(g.low > 0 for g in beat.values()) if beat else None,
            detail=f"Difference in R² {over}. {words(beat)}.",
        ),
    ]
    claims += _more_claims(rows, model, ridge, strategy, over, protocol)
    if people < ENOUGH_PEOPLE or seeds < ENOUGH_SEEDS:
        # what so few show is printed, but it is not called a result
        few = f"Shown for {people} people and {counted(seeds, 'seed')}, which is too few to judge by. "
        claims = [replace(c, held=None, detail=few + c.detail) for c in claims]
    return claims


def _fewest(rows: Sequence[Mapping[str, Any]], strategy: str) -> tuple[int, int]:
    """People at the budget that has fewest, and seeds of the decoder that has fewest: a grid with holes is no grid."""
    seeds: dict[tuple[float, str], set[int]] = defaultdict(set)
    for r in rows:
        if r["model"] == MODEL and r["strategy"] == strategy and r["metric"] == "r2":
            seeds[r["budget"], r["subject"]].add(r["seed"])
    people = [sum(budget == b for budget, _ in seeds) for b in {b for b, _ in seeds}]
    return min(people, default=0), min(map(len, seeds.values()), default=0)


def _more_claims(
    rows: Sequence[Mapping[str, Any]], model: Scores, ridge: Scores, strategy: str, over: str, protocol: str
) -> list[Claim]:
    claims = []
    skip = mean_scores(rows, model=SKIP, strategy=strategy)
    if skip:
        share = paired(model, skip)
        claims.append(
            Claim(
                text=f"{LABELS[protocol][0]}: the attention network adds to the closed-form part of the model (interval above "
                "zero at half of the budgets or more).",
                held=majority_excludes_zero(share),
                detail=f"Difference in R² {over}. {words(share)}.",
            )
        )
    if protocol == "masked_region" and 50.0 in model and 200.0 in ridge:
        ours, theirs = (float(np.mean(list(s.values()))) for s in (model[50.0], ridge[200.0]))
        claims.append(
            Claim(
                text="Hidden regions: 50 volumes are enough for what the bar needs 200 for.",
                held=ours >= theirs,
                detail=f"Mean R² {ours:.3f} with 50 volumes, the bar {theirs:.3f} with 200.",
            )
        )
    return claims


def section_of(
    scored: Scored, protocol: str, strategy: str, *, note: str = "", ceiling: tuple[float, str] | None = None
) -> Section:
    """The adaptation curve, traces, and the table of figures; `note` ends the lead, `ceiling` is a line with its name."""
    title, bar, bar_name = LABELS[protocol]
    rows = scored.rows
    series = {
        "pretrained": mean_scores(rows, model=MODEL, strategy=strategy),
        "from scratch": best_from_scratch(rows),
        bar_name: mean_scores(rows, model=bar, baseline=True, transductive=False),
    }
    if protocol == "next_volume":
        series["population ridge VAR(2), shrunk"] = mean_scores(rows, model="var2", baseline=True, transductive=False)
    curves = {name: by_person(scores) for name, scores in series.items() if scores}
    drawings = [
        (
            adaptation_curve(
                curves, name=f"adaptation-{protocol.replace('_', '-')}", ceiling=ceiling, bounds=bounds_of("r2")
            ),
            "Score on the test volumes against the volumes used to calibrate. Left: mean over people with 95 % "
            "interval. Small panels: each person.",
        )
    ]
    both = {
        b: ([series["pretrained"][b][p] for p in people], [series["from scratch"][b][p] for p in people])
        for b in sorted(set(series["pretrained"]) & set(series["from scratch"]))
        if len(people := sorted(set(series["pretrained"][b]) & set(series["from scratch"][b]))) > 1
    }
    if both:
        drawing, _ = paired_gains(both, name=f"gains-{protocol.replace('_', '-')}", people=sorted(scored.looks))
        drawings.append((drawing, "Each dot is one person: pretrained minus from scratch on the same calibration."))
    drawings += _example(scored, protocol, strategy, bar, bar_name)
    return Section(
        title=title,
        lead=f"{_lead(protocol)} {note}".strip(),
        drawings=drawings,
        tables=[_table(rows, protocol, strategy)],
        notes=notes_of(scored.findings),
    )


def _lead(protocol: str) -> str:
    if protocol == "masked_region":
        return (
            "The model is pretrained on everybody but one person. That person is calibrated on their first volumes; then "
            "every third of their regions is hidden for whole windows of the test volumes and estimated from all others. "
            "Nothing of the test part enters a normalisation: the model and the bars use the calibration volumes, and "
            "the model's deviations also lean on the pattern of the other people."
        )
    return "The model predicts the next volume of all regions from the eight before it."


def _example(scored: Scored, protocol: str, strategy: str, bar: str, bar_name: str) -> list[Any]:
    keys = [k for k in scored.traces if k[2] == MODEL and k[3] == strategy]
    if not keys:
        return []
    # the person of middling score at the largest budget: neither the best nor the worst is shown off
    largest = max(k[1] for k in keys)
    candidates = sorted((k for k in keys if k[1] == largest), key=lambda k: scored.traces[k].mean_r2)
    key = candidates[len(candidates) // 2]
    ours, theirs = scored.traces[key], scored.traces.get((key[0], key[1], bar, "", -1))
    order = np.argsort(ours.r2)
    shown = [int(order[int(q * (len(order) - 1))]) for q in (0.9, 0.5, 0.1)]
    dataset = next(iter(scored.datasets.values()))
    recording = dataset.select(subject=key[0])[0]
    names = [c["name"] for c in dataset.channels(recording)]
    rate = dataset.rate_hz(recording)
    stop = min(200, len(ours.true))
    predicted = {"pretrained": ours.predicted[:stop, shown]}
    slug = protocol.replace("_", "-")
    drawing = traces(
        ours.true[:stop, shown], predicted, titles=[f"{names[ours.regions[i]]}, R² {ours.r2[i]:.2f}" for i in shown],
        step_s=1 / rate, name=f"traces-{slug}",
    )  # fmt: skip
    found = [
        (
            drawing,
            f"Measured and predicted, person {key[0]} calibrated on {key[1]} volumes: a good, a middling and a poor region.",
        )
    ]
    if theirs is not None and len(theirs.r2) == len(ours.r2) and protocol == "masked_region":
        per_region = region_scores(
            {"pretrained": ours.r2, bar_name: theirs.r2},
            regions=[names[i] for i in ours.regions],
            name=f"regions-{slug}",
        )
        found.append((per_region, "Every scored region of the same person."))
    return found


def _table(rows: Sequence[Mapping[str, Any]], protocol: str, strategy: str) -> Table:
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("pretrained, adapted", {"model": MODEL, "strategy": strategy}),
        ("its closed-form part alone", {"model": SKIP, "strategy": strategy}),
        ("same network from scratch", {"model": MODEL, "strategy": "scratch"}),
        ("from scratch, closed-form part alone", {"model": SKIP, "strategy": "scratch"}),
    ]
    wanted += [(n, {"model": m, "baseline": True, "transductive": False}) for m, n in BARS.items()]
    wanted += [
        (f"{BARS[m]}, transductive: not comparable", {"model": m, "baseline": True, "transductive": True})
        for m in ("ridge", "var1")
    ]
    budgets = sorted({r["budget"] for r in rows if r["metric"] == "r2"})
    lines = []
    for label, where in wanted:
        scores = mean_scores(rows, **where)
        if scores:
            cells = []
            for b in budgets:
                if b not in scores:
                    cells.append("–")
                    continue
                interval = t_interval(list(scores[b].values()), bounds=bounds_of("r2")) if len(scores[b]) > 1 else None
                cells.append(
                    f"{np.mean(list(scores[b].values())):.3f}"
                    + (f" [{interval.low:.3f}, {interval.high:.3f}]" if interval else "")
                )
            lines.append([label, *cells])
    return Table(
        caption=f"{LABELS[protocol][0]}: R² on the test volumes, mean over people and seeds, 95 % interval over people",
        columns=["", *(f"{b:g} volumes" for b in budgets)],
        rows=lines,
    )
