"""The critical-difference diagram (Demšar 2006): mean ranks on a line, bars join models that do not differ."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.report.canvas import colour, finish, new_figure, row, style
from neurofm.report.content import Drawing


def cliques(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Longest stretches (first, last) of sorted ranks that lie within the critical difference, of two models or more."""
    found: list[tuple[int, int]] = []
    for i in range(len(ranks)):
        j = max(k for k in range(i, len(ranks)) if ranks[k] - ranks[i] <= critical)
        if j > i and not any(a <= i and j <= b for a, b in found):
            found.append((i, j))
    return found


def critical_difference(
    models: Sequence[str], ranks: Sequence[float], critical: float, *, name: str, baselines: Sequence[str] = ()
) -> Drawing:
    """Draw the diagram; the best rank is at the left.

    Parameters
    ----------
    models, ranks : sequences
        In order of rank.
    critical : float
        Nemenyi's critical difference.
    name : str
        Of the drawing.
    baselines : sequence of str
        Shown in grey.
    """
    k = len(models)
    left = (k + 1) // 2
    rows = max(left, k - left)
    joined = cliques(ranks, critical)
    with style():
        figure = new_figure(7.2, 1.0 + 0.24 * rows + 0.12 * len(joined))
        ax = figure.add_subplot()
        low, high = 1.0, float(k)
        pad = 0.62 * (high - low)
        ax.set_xlim(low - pad, high + pad)
        depth = 0.5 + 0.34 * len(joined)
        ax.set_ylim(depth + rows * 0.8 + 0.2, -1.6)
        ax.axis("off")
        ax.plot([low, high], [0, 0], color=colour("ink"), lw=1.0)
        for tick in range(1, k + 1):
            ax.plot([tick, tick], [-0.16, 0], color=colour("ink"), lw=1.0)
            ax.text(tick, -0.28, f"{tick}", ha="center", va="bottom", fontsize=8)
        wide = min(critical, high - low)
        ax.plot([low, low + wide], [-1.05, -1.05], color=colour("orange"), lw=2.0, solid_capstyle="butt")
        ax.text(low + wide / 2, -1.15, f"critical difference {critical:.2f}", ha="center", va="bottom", fontsize=8)
        for level, (i, j) in enumerate(joined):
            y = 0.3 + 0.34 * level
            ax.plot([ranks[i] - 0.02 * k / 8, ranks[j] + 0.02 * k / 8], [y, y], color=colour("muted"), lw=3.2)
        for i, (model, rank) in enumerate(zip(models, ranks, strict=True)):
            on_left = i < left
            y = depth + 0.8 * (i if on_left else k - 1 - i) + 0.4
            end = low - 0.04 * pad if on_left else high + 0.04 * pad
            tone = colour("muted" if model in baselines else "blue")
            ax.plot([rank, rank, end], [0, y, y], color=tone, lw=1.0)
            text = f"{model}  {rank:.2f}" if on_left else f"{rank:.2f}  {model}"
            ax.text(end, y, f" {text} ", ha="right" if on_left else "left", va="center", fontsize=8)
    table = [
        row(name, panel="mean rank", series=m, x=r, x_label="mean rank", low=r - critical / 2, high=r + critical / 2)
        for m, r in zip(models, ranks, strict=True)
    ]
    best = ", ".join(models[: 1 + max((j for i, j in joined if i == 0), default=0)])
    alt = f"Critical-difference diagram of {k} models; not distinguishable from the best: {best}."
    return finish(figure, name=name, alt=alt, rows=table)
