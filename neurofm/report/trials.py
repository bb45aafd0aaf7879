"""Claims and sections on a benchmark of labelled trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.adapted.trials import ENSEMBLE, TrialScores
from neurofm.benchmarks.stats.intervals import mean_over_units, paired_interval
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table, notes_of, with_interval
from neurofm.report.figures_decoding import confusion_matrix, time_resolved_accuracy

BAR = "shrinkage LDA"
# an exact sign-flip test of fewer people cannot come below .05
ENOUGH_PEOPLE = 6
SAME_DATA = "shrinkage LDA, same transforms"


def claims_of(scored: TrialScores, strategy: str, title: str) -> list[Claim]:
    """What was claimed before scoring, and whether it held."""
    ours, bar = scored.scores[ENSEMBLE, strategy], scored.scores[BAR, ""]
    seeds = scored.per_seed[strategy]
    claims = [
        Claim(
            text=f"{title}: the pretrained model reaches shrinkage LDA on the official test split.",
            held=ours.balanced.value >= bar.balanced.value,
            detail=f"Balanced accuracy {with_interval(ours.balanced)} ({len(seeds)} seeds averaged; each alone "
            f"{_list(seeds)}), LDA {with_interval(bar.balanced)}; one person, {bar.accuracy.n} trials.",
        )
    ]
    same = scored.scores[SAME_DATA, ""]
    claims.append(
        Claim(
            text=f"{title}: the pretrained model reaches shrinkage LDA on the same transformed data.",
            held=ours.balanced.value >= same.balanced.value,
            detail=f"Balanced accuracy {with_interval(ours.balanced)}, LDA {with_interval(same.balanced)}: what the transforms "
            "give, any decoder gets.",
        )
    )
    alone = scored.per_seed.get("scratch")
    if alone:
        gain = np.mean(seeds) - np.mean(alone)
        claims.append(
            Claim(
                text=f"{title}: pretraining helps (not tested over people: there is one).",
                held=None,
                detail=f"Mean over seeds {np.mean(seeds):.3f} pretrained, {np.mean(alone):.3f} from scratch "
                f"({gain:+.3f}); no interval over people can be given, so nothing is claimed.",
            )
        )
    claims += [
        Claim(
            text=f"{title}: no sub-window that ends before the movement is decoded above chance.",
            held=not curve.above_chance_before(0.0),
            detail="Shrinkage LDA refitted on each sub-window of 0.2 s, cut before it is filtered; permutation p, "
            "Bonferroni over the windows before onset.",
        )
        for curve in scored.time_resolved.values()
    ]
    return claims


def claims_over_people(found: Sequence[TrialScores], strategy: str, title: str) -> list[Claim]:
    """Whether the pretrained model is ahead of each bar, paired over people."""
    claims = []
    for model, other in ((BAR, ""), (SAME_DATA, ""), (ENSEMBLE, "scratch")):
        pairs = [
            (s.scores[ENSEMBLE, strategy].balanced.value, s.scores[model, other].balanced.value)
            for s in found
            if (ENSEMBLE, strategy) in s.scores and (model, other) in s.scores
        ]
        if len(pairs) < 2:
            continue
        gain = paired_interval(*zip(*pairs, strict=True))
        name = "the same network from scratch" if other else model
        claims.append(
            Claim(
                text=f"{title}: the pretrained model is ahead of {name}.",
                held=gain.low > 0 if gain.n >= ENOUGH_PEOPLE else None,
                detail=f"Balanced accuracy {gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over {gain.n} people, "
                f"sign-flip p = {gain.p:.3g}.",
            )
        )
    return claims


def people_section(found: Sequence[TrialScores], title: str) -> Section:
    """Every person's balanced accuracy by every decoder, and the mean over people."""
    keys = list(dict.fromkeys(k for s in found for k in s.scores))
    rows: list[list[Any]] = []
    for model, strategy in keys:
        each = {s.subject: s.scores[model, strategy].balanced for s in found if (model, strategy) in s.scores}
        mean = mean_over_units([i.value for i in each.values()], bounds=bounds_of("balanced_accuracy"))
        name = {"full": "pretrained", "scratch": "from scratch"}.get(strategy, strategy) or model
        rows.append(
            [name, with_interval(mean), *(with_interval(each[s.subject]) if s.subject in each else "–" for s in found)]
        )
    n = len({len(s.classes) for s in found}) == 1
    chance = f" Chance is {1 / len(found[0].classes):.3f}." if n else ""
    return Section(
        title=title,
        lead=f"{len(found)} people, each with decoders of their own, scored on their own test trials.{chance}",
        tables=[
            Table(
                caption="Balanced accuracy: mean over people with Student's t interval (bootstrap from ten on), cut at 0 and 1; "
                "then each person with a bootstrap interval over trials",
                columns=["decoder", "mean over people", *(s.subject for s in found)], rows=rows,
            )
        ],
        notes=list(dict.fromkeys(line for s in found for line in notes_of(s.findings))),
    )  # fmt: skip


def control_claim(scored: TrialScores) -> Claim:
    """Whether a set without signal was left at chance."""
    assert scored.control is not None
    return Claim(
        text=f"Negative control {scored.task} stays at chance (exact binomial p ≥ .001).",
        held=scored.control.severity != "leak",
        detail=scored.control.message,
    )


def section_of(scored: TrialScores, strategy: str, title: str) -> Section:
    """Confusion matrix, accuracy over time, table."""
    shown = {
        "pretrained": scored.scores[ENSEMBLE, strategy].confusion,
        "shrinkage LDA": scored.scores[BAR, ""].confusion,
    }
    drawings: list[Any] = [
        (
            confusion_matrix(shown, classes=scored.classes, name=f"confusion-{scored.task.replace('_', '-')}"),
            "Official test trials: true class by row, decoded class by column.",
        )
    ]
    if scored.time_resolved:
        drawings.append(
            (
                time_resolved_accuracy(scored.time_resolved, name=f"time-{scored.task.replace('_', '-')}"),
                "Each point is a decoder refitted on the 0.2 s that end there. Before the movement it must sit at chance.",
            )
        )
    return Section(
        title=title,
        lead="One person, official split: trained on the training trials, scored on the test trials."
        + (
            " What is cross-validated is from the training trials alone, and is what models were selected by."
            * bool(scored.cv)
        ),
        drawings=drawings,
        tables=[table_of([scored])],
        notes=notes_of(scored.findings),
    )


def table_of(all_scored: Sequence[TrialScores]) -> Table:
    """One line per decoder."""
    lines = []
    for scored in all_scored:
        lines.append([scored.task, "chance", "–", f"{1 / len(scored.classes):.3f}", f"{1 / len(scored.classes):.3f}"])
        for (model, strategy), s in scored.scores.items():
            name = {"full": "pretrained", "scratch": "from scratch"}.get(strategy, strategy)
            label = f"{name}, {len(scored.per_seed[strategy])} seeds averaged" if model == ENSEMBLE else model
            lines.append(
                [scored.task, label, _cv(scored, strategy), with_interval(s.accuracy), with_interval(s.balanced)]
            )
            if model == ENSEMBLE and len(scored.per_seed[strategy]) > 1:
                lines.append([scored.task, f"{name}, each seed alone", "", "", _list(scored.per_seed[strategy])])
    columns = ["task", "decoder", "cross-validated, training trials", "accuracy", "balanced accuracy"]
    if not any(scored.cv for scored in all_scored):
        columns.pop(2)
        for line in lines:
            line.pop(2)
    return Table(
        caption="Accuracy with exact binomial interval, balanced accuracy with bootstrap interval over trials",
        columns=columns,
        rows=lines,
    )


def _cv(scored: TrialScores, strategy: str) -> str:
    found = [v for k, v in scored.cv.items() if strategy and k.startswith(f"{strategy},")]
    if not found:
        return "–"
    return f"{np.mean([m for m, _ in found]):.3f} ± {np.mean([sd for _, sd in found]):.3f}"


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.3f}" for v in values)
