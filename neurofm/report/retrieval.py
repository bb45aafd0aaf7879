"""Claims and section on a retrieval benchmark."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.benchmarks.retrieval.average import WORDS
from neurofm.benchmarks.retrieval.line import BARS, Line, shown_as
from neurofm.benchmarks.retrieval.scores import RetrievalScores
from neurofm.report.content import Claim, Section, Table, notes_of
from neurofm.report.figures_retrieval import panels, parts_of_signal, repetition_curves


def claims_of(scored: RetrievalScores, title: str) -> list[Claim]:
    """Whether models beat their controls and the classical bars, each person by person, on the most averaged data."""
    claims = []
    for model in dict.fromkeys(scored.kind(line.model) for line in scored.lines if line.model not in BARS):
        mine = _last(scored, model)
        lost = [x for x in mine if x.verdict]
        claims.append(
            Claim(
                text=f"{title}: {model} finds what was shown more often than every control, for every person.",
                held=not lost,
                detail=_detail(mine) + (f" {len(lost)} of {len(mine)} do not: {lost[0].verdict}." if lost else ""),
            )
        )
        for bar in BARS:
            theirs = {_key(x): x for x in _last(scored, bar)}
            pairs = [(x, theirs[_key(x)]) for x in mine if _key(x) in theirs]
            if pairs:
                ours, top = (np.mean([p[i].scores.top[1].value for p in pairs]) for i in (0, 1))
                claims.append(
                    Claim(
                        text=f"{title}: {model} reaches the bar '{bar}'.",
                        held=bool(ours >= top),
                        detail=f"Mean top-1 over {_counted([x for x, _ in pairs])}: {ours:.3f}, {bar} {top:.3f}.",
                    )
                )
    return claims


def section_of(scored: RetrievalScores, title: str, *, files: str | None = None) -> Section:
    """Table with controls, curve over repetitions, parts of the signal, panels, and the gallery in words."""
    drawings: list[Any] = []
    chance = 1 / len(scored.lines[0].gallery.keys)
    slug = scored.task.replace("_", "-")
    curves = _by_kind(scored)
    if curves:
        best: dict[int, list[float]] = defaultdict(list)
        for points in scored.oracle.values():
            for n, (top1, _) in points.items():
                best[n].append(top1)
        oracle = {n: float(np.mean(v)) for n, v in best.items()}
        drawings.append(
            (
                repetition_curves(curves, chance=chance, oracle=oracle, name=f"repetitions-{slug}"),
                "Signals of so many repetitions were averaged before decoding; shaded: range over people; dotted: chance.",
            )
        )
    if scored.resolved:
        drawings.append(
            (
                parts_of_signal(_parts_by_kind(scored), chance=chance, name=f"parts-{slug}"),
                "A trained model sees zeros outside the part and is not fitted anew; ridge is. So compare parts within a "
                "decoder, not decoders within a part.",
            )
        )
    for k, (model, shown) in enumerate(scored.panels.items()):
        galleries = [x.gallery for x in scored.lines if model == shown_as(scored.kind(x.model), x.rule)]
        if not galleries or galleries[0].source != "stimulus":
            # pictures of class centres and segments do not exist
            continue
        drawings.append(
            (
                panels(shown, _pictures(shown, files), right={s: s for s, _ in shown}, name=f"panels-{slug}-{k}"),
                f"{model}: queries spread evenly from the best to the worst rank, not chosen by eye.",
            )
        )
    return Section(
        title=title,
        lead=" ".join(dict.fromkeys(f"Gallery: {x.gallery.sentence()}." for x in scored.lines)),
        drawings=drawings,
        tables=[table_of(scored), *shares_of(scored)],
        notes=[*dict.fromkeys(scored.notes), *_beaten(scored), *notes_of(scored.findings)],
    )


def _by_kind(scored: RetrievalScores) -> dict[str, dict[int, list[float]]]:
    """Decoder → repetitions → top-1 of each person, mean over trainings of one recipe."""
    seen: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (model, person), points in scored.curves.items():
        for n, (top1, _) in points.items():
            seen[scored.kind(model), n][person].append(top1)
    curves: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for (model, n), people in seen.items():
        curves[model][n] = [float(np.mean(v)) for v in people.values()]
    return dict(curves)


def _parts_by_kind(scored: RetrievalScores) -> dict[str, dict[tuple[str, str], float]]:
    """Decoder → part of the signal → top-1, mean over trainings of one recipe."""
    found: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for model, parts in scored.resolved.items():
        for part, value in parts.items():
            found[scored.kind(model)][part].append(value)
    return {model: {part: float(np.mean(v)) for part, v in parts.items()} for model, parts in found.items()}


def table_of(scored: RetrievalScores) -> Table:
    """One line per decoder, person, gallery and averaging, its controls beside it."""
    names = list(dict.fromkeys(c for x in scored.lines for c in x.controls))
    lines = []
    for x in scored.lines:
        top = [f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in x.scores.top.values()]
        controls = [f"{x.controls[c].top1:.3f}" if c in x.controls else "–" for c in names]
        said = "NOT ABOVE CONTROL" if x.verdict else "above controls"
        lines.append(
            [x.model, x.subject, x.rule, x.gallery.source, len(x.gallery.keys), WORDS[x.mode], *top, x.scores.median_rank,
             x.scores.mrr, *("–" if np.isnan(v) else v for v in (x.two_way, x.ceiling)), x.scores.hubness, *controls, said]
        )  # fmt: skip
    ks = [f"top-{k}" for k in scored.lines[0].scores.top]
    return Table(
        caption="Retrieval with bootstrap intervals over stimuli; controls are top-1",
        columns=["decoder", "person", "in training", "gallery", "candidates", "averaged", *ks, "median rank", "MRR", "two-way",
                 "feature ceiling", "hub skewness", *names, "verdict"],
        rows=lines,
    )  # fmt: skip


def shares_of(scored: RetrievalScores) -> list[Table]:
    """Top-1 and top-5 over averaged repetitions as a share of the best possible, where that is known."""
    counts = sorted({n for points in scored.oracle.values() for n in points})
    lines: list[list[Any]] = []
    for (model, subject), points in scored.curves.items():
        best = scored.oracle.get(subject, {})
        both = [n for n in counts if n in points and n in best]
        said = {n: "  ".join(f"{a:.3f} ({a / b:.0%})" for a, b in zip(points[n], best[n], strict=True)) for n in both}
        lines.append([model, subject, *(said.get(n, "–") for n in counts)])
    if not counts or not lines:
        return []
    return [
        Table(
            caption="Top-1 and top-5 by averaged repetitions, in brackets as a share of the best possible decoder's",
            columns=["decoder", "person", *(f"{n}" for n in counts)],
            rows=lines,
        )
    ]


def _last(scored: RetrievalScores, model: str) -> list[Line]:
    mine = [x for x in scored.lines if scored.kind(x.model) == model]
    averaged = [x for x in mine if x.mode == "subject"]
    return averaged or mine


def _key(line: Line) -> tuple[str, str, str]:
    return line.subject, line.rule, line.gallery.source


def _detail(lines: list[Line]) -> str:
    values = [x.scores.top[1].value for x in lines]
    worst = [max((c.top1 for c in x.controls.values()), default=0.0) for x in lines]
    return (
        f"Top-1 {min(values):.3f} to {max(values):.3f} over {_counted(lines)} ({WORDS[lines[0].mode]}), best "
        f"control {max(worst):.3f}, chance {lines[0].scores.chance(1):.4f}."
    )


def _counted(lines: list[Line]) -> str:
    """People and galleries, and trainings where one person had several."""
    places = len({_key(x) for x in lines})
    return f"{places} people and galleries" + (f", {len(lines)} trainings" if len(lines) > places else "")


def _beaten(scored: RetrievalScores) -> list[str]:
    return [
        f"{x.model}, person {x.subject}, {x.gallery.source}, {WORDS[x.mode]}: {x.verdict}."
        for x in scored.lines
        if x.verdict
    ]


def _pictures(shown: list[tuple[str, list[str]]], files: str | None) -> dict[str, Path]:
    if files is None:
        return {}
    root = Path(files).expanduser()
    wanted = {k for s, found in shown for k in (s, *found)}
    by_name = {p.name: p for p in root.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg")}
    return {k: by_name[Path(k).name] for k in wanted if Path(k).name in by_name}
