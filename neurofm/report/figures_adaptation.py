"""New people: score against the amount of their data, gains over a reference per person, and scores by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.stats.intervals import UNBOUNDED, Bounds, Paired, paired_interval, t_interval
from neurofm.report.canvas import colour, finish, label_ends, limits, new_figure, room_for_ends, row, soften, style
from neurofm.report.content import Drawing
from neurofm.schema.errors import DataError

# series → person → budget → score
Curves = Mapping[str, Mapping[str, Mapping[float, float]]]


def _tones(names: Sequence[str], tones: Mapping[str, str] | None) -> dict[str, str]:
    return {n: colour((tones or {}).get(n, n), k) for k, n in enumerate(names)}


# letters of a series' name on one line
NAME_WIDTH = 36
# interquartile ranges from the quartiles; scores further out do not decide the frame
FAR = 4.0
# a colour that comes back has another marker and dash: (marker, the same as a letter for labels, dash)
_MARKS = (("o", "●", "-"), ("s", "■", (0, (5, 2))), ("^", "▲", (0, (1.5, 1.5))), ("D", "◆", (0, (6, 2, 1.5, 2))))


def _marks(names: Sequence[str], tone: Mapping[str, str]) -> dict[str, tuple[Any, str, Any]]:
    """Marker, letter and dash of every series; no two series of one colour share them."""
    order = [tone[n] for n in names]
    return {n: _MARKS[order[:k].count(tone[n]) % len(_MARKS)] for k, n in enumerate(names)}


def adaptation_curve(
    curves: Curves,
    *,
    name: str = "adaptation",
    metric: str = "R²",
    budget_unit: str = "volumes of the new person",
    tones: Mapping[str, str] | None = None,
    ceiling: tuple[float, str] | None = None,
    bounds: Bounds = UNBOUNDED,
) -> Drawing:
    """Mean over people with its t interval on the left, and one small panel per person on the right.

    Parameters
    ----------
    curves : series → person → budget → score
        People who lack a budget are left out of that budget's mean.
    metric, budget_unit : str
        Axis labels.
    tones : mapping, optional
        Series → palette name ("blue") or role ("finetuned", "scratch", "ridge").
    ceiling : (value, note), optional
        A dashed line and what it is.
    bounds : (low, high)
        What the metric can be; intervals are cut there.
    """
    people = sorted({p for by_person in curves.values() for p in by_person})
    if not people:
        raise DataError("adaptation curve: there are no scores to draw")
    tone = _tones(list(curves), tones)
    budgets = sorted({b for s in curves.values() for p in s.values() for b in p})
    label = {"x_label": budget_unit, "y_label": metric}
    with style():
        columns = min(5, max(1, int(np.ceil(len(people) / 2))))
        n_rows = int(np.ceil(len(people) / columns))
        figure = new_figure(9.2, 3.9)
        left, right = np.ravel(np.asarray(figure.subfigures(1, 2, width_ratios=[1.15, 1], wspace=0.03)))
        ax = left.subplots()
        panels = right.subplots(n_rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        mark = _marks(list(curves), tone)
        ends, rows = _mean_panel(ax, curves, budgets, tone, mark, bounds)
        if ceiling:
            # not under the labels
            ax.hlines(ceiling[0], -0.4, len(budgets) - 0.7, color=colour("muted"), linestyle=(0, (4, 3)), linewidth=1.0)
            ends[ceiling[1]] = (max((x for x, *_ in ends.values()), default=0.0), ceiling[0], colour("muted"))
            rows.append(row("", panel="mean", series="ceiling", y=ceiling[0], label=ceiling[1]))
        # a t interval of two or three people is wider than all scores: the frame is theirs, and cuts it
        seen = limits([*(r["y"] for r in rows), *(v for s in curves.values() for p in s.values() for v in p.values())])
        whole = limits([v for r in rows for v in (r["y"], r["low"], r["high"])])
        wide = whole[1] - whole[0] > 2 * (seen[1] - seen[0])
        ax.set_ylim(seen if wide else whole)
        said = f"Mean of {len(people)} people, 95 % interval{' (cut at the frame)' if wide else ''}"
        said = said if len(people) > 1 else f"One person, {people[0]}"
        ax.set(xlabel=budget_unit, ylabel=metric, title=said)
        rows += _person_panels(panels, people, curves, budgets, tone, mark)
        _frame(right, panels, [r["y"] for r in rows if r["panel"] not in ("mean", "")])
        ends = {fill(name, NAME_WIDTH): end for name, end in ends.items()}
        ax.set_xlim(-0.4, len(budgets) - 0.4)
        figure.canvas.draw()
        room_for_ends(ax, ends, max(x for x, *_ in ends.values()))
        label_ends(ax, ends)
        last = budgets[-1]
        said = "; ".join(f"{r['series']} {r['y']:.3f}" for r in rows if r["panel"] == "mean" and r["x"] == last)
        alt = f"{metric} against {budget_unit} for {len(people)} people. Mean at {last:g}: {said}."
        return finish(figure, name=name, alt=alt, rows=[{**r, "figure": name, **label} for r in rows])


def _mean_panel(
    ax: Axes, curves: Curves, budgets: Sequence[float], tone: Mapping[str, str], mark: Mapping[str, tuple[Any, str, Any]],
    bounds: Bounds,
) -> tuple[dict[str, tuple[float, float, str]], list[dict[str, Any]]]:  # fmt: skip
    """Draw each series' mean over people with its t interval; return where the lines end, and the numbers."""
    ends, rows = {}, []
    step = min(0.07, 0.36 / max(1, len(curves) - 1))
    several = len(set(mark.values())) > 1
    for k, (series, by_person) in enumerate(curves.items()):
        points = {b: [scores[b] for scores in by_person.values() if b in scores] for b in budgets}
        means = {b: t_interval(values, bounds=bounds) for b, values in points.items() if values}
        # A small sideways shift keeps intervals of different series apart
        x = [budgets.index(b) + (k - (len(curves) - 1) / 2) * step for b in means]
        y = [m.value for m in means.values()]
        ends_of = [
            (m.value - m.low, m.high - m.value) if np.isfinite(m.high - m.low) else (0.0, 0.0) for m in means.values()
        ]
        marker, letter, dash = mark[series]
        ax.errorbar(
            x, y, yerr=np.array(ends_of).reshape(-1, 2).T, color=tone[series], marker=marker, linestyle=dash, markersize=4.5, elinewidth=1.0, capsize=0
        )  # fmt: skip
        ends[f"{letter} {series}" if several else series] = (x[-1], y[-1], tone[series])
        for b, m in means.items():
            rows.append(
                row("", panel="mean", series=series, x=b, y=m.value, low=m.low, high=m.high, label=f"{m.n} people")
            )
    _budget_axis(ax, budgets)
    soften(ax)
    return ends, rows


def _person_panels(
    panels: NDArray, people: Sequence[str], curves: Curves, budgets: Sequence[float], tone: Mapping[str, str],
    mark: Mapping[str, tuple[Any, str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Draw one small panel per person; return the numbers."""
    rows = []
    short = _without_what_all_share(people)
    for panel, person in zip(panels, people, strict=False):
        for series, by_person in curves.items():
            points = dict(sorted(by_person.get(person, {}).items()))
            x = [budgets.index(b) for b in points]
            marker, _, dash = mark[series]
            panel.plot(
                x, list(points.values()), color=tone[series], marker=marker, linestyle=dash, markersize=2.5, linewidth=1.1
            )  # fmt: skip
            rows += [row("", panel=person, series=series, x=b, y=v) for b, v in points.items()]
        panel.set_title(short[person], fontsize=8, fontweight="normal")
        _budget_axis(panel, budgets)
        panel.tick_params(labelsize=6.5)
        soften(panel)
    columns = panels[0].get_subplotspec().get_gridspec().ncols
    for k, panel in enumerate(panels):
        panel.set_visible(k < len(people))
        # Shared axes write their ticks under the last row only, which may be short of a panel
        panel.tick_params(labelbottom=k + columns >= len(people))
    return rows


def _without_what_all_share(people: Sequence[str]) -> dict[str, str]:
    """Names such as "21/day2/velocity" without the parts that all have in common."""
    parts = [p.split("/") for p in people]
    if len(people) < 2 or len({len(p) for p in parts}) > 1:
        return {p: p for p in people}
    differ = [len(set(column)) > 1 for column in zip(*parts, strict=True)]
    return {p: "/".join(x for x, d in zip(own, differ, strict=True) if d) for p, own in zip(people, parts, strict=True)}


def _frame(figure: SubFigure, panels: NDArray, values: Sequence[float]) -> None:
    """Give the small panels a frame that a score far from all others does not stretch; say how many lie outside."""
    x = np.array([v for v in values if np.isfinite(v)])
    if len(x) < 8:
        return
    low, high = np.quantile(x, [0.25, 0.75])
    reach = FAR * max(high - low, 1e-6)
    near = (x >= low - reach) & (x <= high + reach)
    panels[0].set_ylim(limits(x[near].tolist()))
    if not near.all():
        figure.supxlabel(f"{(~near).sum()} of {len(x)} scores lie outside the frames", fontsize=7)


def _budget_axis(ax: Axes, budgets: Sequence[float]) -> None:
    # Budgets double, so they are set at equal distances
    ax.set_xticks(range(len(budgets)), [f"{b:g}" for b in budgets])
    ax.margins(x=0.08)


def paired_gains(
    gains: Mapping[float, tuple[ArrayLike, ArrayLike]],
    *,
    name: str = "gains",
    title: str = "Gain of pretraining over the same network from scratch",
    metric: str = "ΔR²",
    budget_unit: str = "volumes",
    people: Sequence[str] = (),
) -> tuple[Drawing, dict[float, Paired]]:
    """One dot per person and budget, the mean with its t interval, and the exact sign-flip p in words.

    Parameters
    ----------
    gains : mapping of budget to (first, second)
        Scores of the same people in the same order; first − second is drawn.

    Returns
    -------
    drawing, statistics
        The second maps each budget to its `stats.intervals.Paired`, for the claim.
    """
    results = {b: paired_interval(*pair) for b, pair in gains.items()}
    rows = []
    with style():
        figure = new_figure(6.6, 0.9 + 0.55 * len(gains))
        ax = figure.subplots()
        ax.axvline(0, color=colour("muted"), linewidth=1.0)
        spread = []
        for k, (budget, (first, second)) in enumerate(gains.items()):
            d, result = np.asarray(first, dtype=float) - np.asarray(second, dtype=float), results[budget]
            spread += [*d, 0.0, *(v for v in (result.low, result.high) if np.isfinite(v))]
            tone = colour("blue" if result.excludes_zero else "muted")
            ax.plot(d, np.full(len(d), k) + np.linspace(-0.12, 0.12, len(d)), "o", color=tone, alpha=0.45, markersize=4,
                    markeredgewidth=0)  # fmt: skip
            if np.isfinite(result.low):
                ax.plot([result.low, result.high], [k, k], color=tone, linewidth=2.4)
            ax.plot(result.value, k, "D", color=tone, markersize=6)
            ax.text(1.02, k, f"{result.value:+.3f}  p = {result.p:.3g}", transform=ax.get_yaxis_transform(),
                    va="center", fontsize=8.5)  # fmt: skip
            at = {"x": budget, "x_label": budget_unit, "y_label": metric}
            note = f"exact sign-flip p = {result.p:.4g}, n = {result.n}"
            rows.append(row(name, panel="mean", y=result.value, low=result.low, high=result.high, label=note, **at))
            names = people if len(people) == len(d) else [str(i) for i in range(len(d))]
            rows += [row(name, panel="person", series=who, y=v, **at) for who, v in zip(names, d, strict=True)]
        ax.set_yticks(range(len(gains)), [f"{b:g} {budget_unit}" for b in gains])
        ax.set(xlim=limits(spread), ylim=(len(gains) - 0.5, -0.5), xlabel=f"{metric} (right of the line is better)")
        ax.set_title(title)
        soften(ax, grid="x")
        said = "; ".join(f"{b:g}: {r.value:+.3f} [{r.low:.3f}, {r.high:.3f}], p {r.p:.3g}" for b, r in results.items())
        return finish(figure, name=name, alt=f"{title}. {said}.", rows=rows), results


def region_scores(
    scores: Mapping[str, ArrayLike],
    *,
    regions: Sequence[str],
    name: str = "regions",
    metric: str = "R²",
    tones: Mapping[str, str] | None = None,
) -> Drawing:
    """Every region's mean score by two or more predictors, joined by a line and sorted by the first.

    Parameters
    ----------
    scores : mapping of str to array_like, shape (person, region) or (region,)
        Predictor → scores; the first one orders the regions.
    regions : sequence of str
        Names of the columns.
    """
    means = {s: np.nanmean(np.atleast_2d(np.asarray(v, dtype=float)), axis=0) for s, v in scores.items()}
    first = next(iter(means))
    if any(len(m) != len(regions) for m in means.values()):
        raise DataError(f"region scores: {len(regions)} names for {[len(m) for m in means.values()]} regions")
    order, tone = np.argsort(-means[first]), _tones(list(means), tones)
    rows = [row(name, series=s, x=int(k), x_label="region", y=m[k], y_label=metric, label=regions[k])
            for s, m in means.items() for k in order]  # fmt: skip
    with style():
        figure = new_figure(9.2, 3.0)
        ax = figure.subplots()
        x = np.arange(len(regions))
        stack = np.array([m[order] for m in means.values()])
        ax.vlines(x, stack.min(0), stack.max(0), color=colour("muted"), alpha=0.5, linewidth=1.2)
        for s, m in means.items():
            ax.plot(x, m[order], "o", color=tone[s], markersize=4.6, label=s)
        ax.set_xticks(x, [regions[k] for k in order], rotation=90, fontsize=7)
        ax.set(xlim=(-0.8, len(x) - 0.2), ylabel=metric, xlabel="region, best first")
        ax.set_title("Reconstruction of each hidden region")
        soften(ax)
        ax.legend(frameon=False, loc="lower left", handletextpad=0.2, ncols=len(means))
        said = "; ".join(f"{s} {np.nanmean(m):.3f}" for s, m in means.items())
        better = int(np.sum(means[first] > next(reversed(means.values()))))
        alt = f"{metric} of {len(regions)} hidden regions; mean {said}. {first} is above the last in {better} of them."
        return finish(figure, name=name, alt=alt, rows=rows)
