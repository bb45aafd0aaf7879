"""Populations at a glance: how often units fire, how soon again, how many there are in which session, and an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from neurofm.report.canvas import CYCLE, SEQUENTIAL, cell_ink, colour, finish, new_figure, row, soften, style
from neurofm.report.content import Drawing
from neurofm.schema.errors import DataError

# no neuron fires twice within this time: intervals below it are spikes of others, or counted twice
REFRACTORY_S = 0.0015
# edges in seconds, twelve to a decade
INTERVALS_S = np.logspace(-4, 2, 73)
TICK = 0.4
# ticks are drawn as an image, so they have a colour with enough contrast on light and dark pages
TICK_COLOUR = "#2f7fbf"


def population_overview(
    *, rates: Mapping[str, ArrayLike], intervals: Mapping[str, ArrayLike], name: str = "population"
) -> Drawing:
    """Firing rates of units, and the intervals between spikes of one unit, pooled; one line per group.

    Parameters
    ----------
    rates : mapping of str to array_like, shape (unit,)
        Group (subject) → spikes per second of each unit.
    intervals : mapping of str to array_like, shape (len(INTERVALS_S) - 1,)
        Group → number of intervals in each bin of `INTERVALS_S`.
    """
    rows, words = [], []
    with style():
        figure = new_figure(9.2, 3.2)
        left, right = figure.subplots(1, 2)
        for k, (group, values) in enumerate(rates.items()):
            tone, x = colour(CYCLE[k % len(CYCLE)]), np.sort(np.asarray(values, dtype=float))
            share = np.arange(1, len(x) + 1) / max(len(x), 1)
            left.step(np.maximum(x, 1e-3), share, where="post", color=tone, linewidth=1.3, label=group)
            rows += [row(name, panel="rates", series=group, x=a, x_label="spikes/s", y=b, y_label="share of units")
                     for a, b in zip(x, share, strict=True)]  # fmt: skip
            middle = float(np.median(x)) if len(x) else float("nan")
            words.append(f"{group}: {len(x)} units, median {middle:.3g} spikes/s")
        left.set(xscale="log", xlabel="spikes per second", ylabel="share of units", ylim=(0, 1.02))
        left.set_title("Firing rates")
        soften(left)
        middles = np.sqrt(INTERVALS_S[1:] * INTERVALS_S[:-1])
        for k, (group, counts) in enumerate(intervals.items()):
            y = np.asarray(counts, dtype=float)
            if y.shape != middles.shape:
                raise DataError(f"population: {y.shape} counts of intervals for {middles.shape} bins")
            y = y / max(y.sum(), 1.0)
            right.step(1000 * middles, y, where="mid", color=colour(CYCLE[k % len(CYCLE)]), linewidth=1.3)
            rows += [row(name, panel="intervals", series=group, x=1000 * a, x_label="ms", y=b, y_label="share")
                     for a, b in zip(middles, y, strict=True)]  # fmt: skip
        right.axvline(1000 * REFRACTORY_S, color=colour("muted"), linewidth=0.9, linestyle=":")
        right.set(xscale="log", xlabel="interval between spikes of a unit (ms)", ylabel="share of intervals")
        right.set_title(f"Intervals (dotted: {1000 * REFRACTORY_S:g} ms)")
        soften(right)
        if len(rates) > 1:
            figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
        return finish(figure, name=name, alt=f"Firing rates and intervals. {'; '.join(words)}.", rows=rows)


def raster(
    time_s: ArrayLike, unit: ArrayLike, *, n_units: int, span_s: tuple[float, float], name: str = "raster",
    title: str = "Example",
) -> Drawing:  # fmt: skip
    """Every spike of a span as a tick, one line per unit, and beneath it the rate of all.

    Parameters
    ----------
    time_s, unit : array_like, shape (spike,)
        When, and of which unit.
    n_units : int
        Lines.
    span_s : (float, float)
        What is shown.
    """
    t, u = np.asarray(time_s, dtype=float), np.asarray(unit)
    edges = np.linspace(*span_s, 101)
    rate = np.histogram(t, edges)[0] / (edges[1] - edges[0]) / max(n_units, 1)
    with style():
        figure = new_figure(9.2, float(np.clip(1.8 + 0.035 * n_units, 2.6, 6.5)))
        ticks, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        ticks.vlines(t, u - TICK, u + TICK, color=TICK_COLOUR, linewidth=0.7, rasterized=True)
        ticks.set(ylabel="unit", ylim=(n_units - 0.5, -0.5), xlim=span_s)
        ticks.set_title(title)
        below.step(edges[:-1], rate, where="post", color=colour("blue"), linewidth=1.1)
        below.set(xlabel="time (s)", ylabel="spikes/s")
        soften(below)
        rows = [row(name, panel="spikes", series=str(k), x=a, x_label="s", y=k, y_label="unit")
                for a, k in zip(t, u, strict=True)]  # fmt: skip
        rows += [row(name, panel="rate", series="mean of units", x=a, x_label="s", y=b, y_label="spikes/s")
                 for a, b in zip(edges[:-1], rate, strict=True)]  # fmt: skip
        alt = (
            f"{len(t)} spikes of {n_units} units over {span_s[1] - span_s[0]:g} s, {rate.mean():.3g} spikes/s per unit."
        )
        return finish(figure, name=name, alt=alt, rows=rows)


def units_by_session(
    counts: Sequence[Sequence[int]], *, subjects: Sequence[str], sessions: Sequence[str], name: str = "units"
) -> Drawing:
    """How many good units each subject has in each session; written in the cells as long as there is room.

    Parameters
    ----------
    counts : shape (subject, session)
        -1 where there is no recording.
    subjects, sessions : sequence of str
    """
    x = np.asarray(counts, dtype=float)
    if x.shape != (len(subjects), len(sessions)):
        raise DataError(f"units: counts {x.shape} of {len(subjects)} subjects in {len(sessions)} sessions")
    most = max(float(x.max()), 1.0)
    with style():
        figure = new_figure(9.2, float(np.clip(1.4 + 0.28 * len(subjects), 2.0, 9.0)))
        ax = figure.subplots()
        ax.imshow(np.ma.masked_less(x, 0), aspect="auto", interpolation="nearest", cmap=SEQUENTIAL, vmin=0, vmax=most)
        ax.set_yticks(range(len(subjects)), subjects, fontsize=8)
        if len(sessions) <= 40:
            ax.set_xticks(range(len(sessions)), sessions, fontsize=7, rotation=90 if len(sessions) > 8 else 0)
        if x.size <= 300:
            for i, j in np.argwhere(x >= 0):
                ink = cell_ink(x[i, j] / most)
                ax.text(j, i, f"{x[i, j]:.0f}", ha="center", va="center", fontsize=7, color=ink)
        ax.set(xlabel=f"{len(sessions)} sessions", ylabel=f"{len(subjects)} subjects")
        rows = [row(name, panel=subjects[i], series=sessions[j], x=j, y=x[i, j], y_label="units")
                for i, j in np.argwhere(x >= 0)]  # fmt: skip
        alt = (
            f"Good units of {len(subjects)} subjects in {len(sessions)} sessions: {x[x >= 0].min():.0f} to {most:.0f}."
        )
        return finish(figure, name=name, alt=alt, rows=rows)
