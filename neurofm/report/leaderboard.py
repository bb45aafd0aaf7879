"""Claims and sections of a leaderboard: who is ahead of whom, and what cannot be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from neurofm.benchmarks.leaderboard import ALPHA, LOWER_IS_BETTER, Board
from neurofm.benchmarks.stats.intervals import mean_over_units
from neurofm.benchmarks.stats.scores import bounds_of
from neurofm.report.content import Claim, Section, Table
from neurofm.report.figures_leaderboard import critical_difference

# models whose names fit into one diagram
DRAWN = 20


def claims_of(boards: Sequence[Board]) -> list[Claim]:
    """Of each board whether its first model beats the best baseline; not tested with fewer than two units."""
    claims = []
    for b in boards:
        bars = [m for m in b.models if m in b.baselines]
        if not bars or b.models[0] in bars or len(b.models) < 2:
            continue
        found = [(d, p) for a, c, d, p in b.pairs if {a, c} == {b.models[0], bars[0]}]
        text = f"{b.title}: {b.models[0]} beats the best baseline, {bars[0]}."
        if not found:
            claims.append(Claim(text=text, held=None, detail="Fewer than two folds or people have both."))
            continue
        difference, p = found[0]
        n = int(b.complete.sum())
        # the smallest p that so few units can give
        few = 2 * 0.5**n >= ALPHA
        better = -difference if b.metric in LOWER_IS_BETTER else difference
        claims.append(
            Claim(
                text=text, held=None if few else bool(better > 0 and p < ALPHA),
                detail=f"{b.metric} {difference:+.3f} over {n} units, sign-flip p = {p:.3g} (Holm)"
                + ("; so few cannot reach significance." if few else "."),
            )
        )  # fmt: skip
    return claims


def sections_of(boards: Sequence[Board]) -> list[Section]:
    """One section per board: diagram, standings, pairs."""
    return [_section(b, i) for i, b in enumerate(boards)]


def _section(b: Board, place: int) -> Section:
    n = int(b.complete.sum())
    drawings: list[Any] = []
    if n > 1 and 2 < len(b.models) <= DRAWN:
        slug = re.sub(r"[^a-z0-9]+", "-", b.title.lower()).strip("-")
        drawing = critical_difference(
            b.models, b.ranks.tolist(), b.critical_difference, name=f"cd-{place}-{slug}",
            baselines=[m for m in b.models if m in b.baselines],
        )  # fmt: skip
        drawings.append((drawing, f"Mean rank over {n} units; models under one bar are not told apart (Nemenyi, .05)."))
    notes = []
    if len(b.models) > DRAWN:
        notes.append(f"No diagram: the names of {len(b.models)} models do not fit into one; the table has their ranks.")
    if n < len(b.units):
        notes.append(f"{len(b.units) - n} of {len(b.units)} units lack a model and are not ranked.")
    if np.isfinite(b.friedman_p):
        notes.append(f"Friedman's test that all models are the same: p = {b.friedman_p:.3g}.")
    if b.protocol:
        notes.append(f"Protocol {b.protocol}; rows of other protocols are on boards of their own.")
    tables = [_standings(b)]
    if b.pairs:
        rows = [[a, c, f"{d:+.3f}", f"{p:.3g}"] for a, c, d, p in b.pairs]
        caption = f"Pairs: exact sign-flip test of {b.metric} over {n} units, p corrected by Holm"
        tables.append(Table(caption=caption, columns=["model", "against", "mean difference", "p"], rows=rows))
    return Section(title=b.title, lead=f"Ranked by {b.metric}.", drawings=drawings, tables=tables, notes=notes)


def _standings(b: Board) -> Table:
    rows = []
    for i, model in enumerate(b.models):
        kept = b.values[np.isfinite(b.values[:, i]), i]
        mean = mean_over_units(kept, bounds=bounds_of(b.metric))
        shown = f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]" if np.isfinite(mean.low) else f"{mean.value:.3f}"
        rank = f"{b.ranks[i]:.2f}" if np.isfinite(b.ranks[i]) else "–"
        rows.append([i + 1, f"{model} (baseline)" if model in b.baselines else model, shown, rank, len(kept)])
    return Table(
        caption=f"{b.metric}, mean over units with 95 % interval",
        columns=["", "model", b.metric, "mean rank", "units"], rows=rows,
    )  # fmt: skip
