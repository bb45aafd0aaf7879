"""Signals and runs: predicted against real traces, training curves, and what a dataset looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike

from neurofm.benchmarks.stats.metrics import r2
from neurofm.report.canvas import CYCLE, colour, finish, label_ends, new_figure, row, soften, style, ticks_within
from neurofm.report.content import Drawing
from neurofm.schema.errors import DataError
from neurofm.schema.words import counted


def traces(
    true: ArrayLike,
    predicted: Mapping[str, ArrayLike],
    *,
    titles: Sequence[str],
    step_s: float,
    name: str = "traces",
    start_s: float = 0.0,
    unit: str = "SD",
    tones: Mapping[str, str] | None = None,
) -> Drawing:
    """Real traces and what each predictor said, one panel per trace.

    Parameters
    ----------
    true : array_like, shape (time, trace)
    predicted : mapping of str to array_like, shape (time, trace)
    titles : sequence of str
        One per trace (region, person).
    step_s, start_s : float
        Sampling interval and time of the first sample.
    """
    y = np.asarray(true, dtype=float)
    said = {k: np.asarray(v, dtype=float) for k, v in predicted.items()}
    if any(v.shape != y.shape for v in said.values()) or len(titles) != y.shape[1]:
        raise DataError(f"traces: true values {y.shape}, predictions {[v.shape for v in said.values()]} and "
                        f"{len(titles)} titles do not belong together")  # fmt: skip
    t = start_s + step_s * np.arange(len(y))
    rows, words = [], []
    with style():
        figure = new_figure(9.2, 0.6 + 1.25 * y.shape[1])
        axes = figure.subplots(y.shape[1], 1, sharex=True, squeeze=False).ravel()
        for k, ax in enumerate(axes):
            ax.plot(t, y[:, k], color=colour("ink"), linewidth=1.0, alpha=0.8, label="real")
            rows += [row(name, panel=titles[k], series="real", x=a, x_label="s", y=b, y_label=unit)
                     for a, b in zip(t, y[:, k], strict=True)]  # fmt: skip
            scores = []
            for place, (series, v) in enumerate(said.items()):
                tone = colour((tones or {}).get(series, series), place)
                ax.plot(t, v[:, k], color=tone, linewidth=1.5, label=series)
                scores.append(f"{series} R² {r2(y[:, k], v[:, k]):.2f}")
                rows += [row(name, panel=titles[k], series=series, x=a, x_label="s", y=b, y_label=unit)
                         for a, b in zip(t, v[:, k], strict=True)]  # fmt: skip
            words.append(f"{titles[k]}: {', '.join(scores)}")
            ax.set_title(f"{titles[k]}   " + "   ".join(scores), fontsize=8.5, fontweight="normal")
            ax.set_ylabel(unit)
            soften(ax)
        axes[-1].set(xlabel="time (s)", xlim=(t[0], t[-1]))
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=len(said) + 1, frameon=False
        )
        return finish(figure, name=name, alt=f"Real and predicted traces. {'; '.join(words)}.", rows=rows)


def training_curves(
    histories: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    *,
    name: str = "training",
    y_label: str = "loss",
    x_label: str = "step",
) -> Drawing:
    """One panel per quantity, one line per run.

    Parameters
    ----------
    histories : mapping of str to mapping of str to (steps, values)
        Quantity ("training loss", "validation R²") → run → its history; values that are not finite are left out.
    """
    rows, words = [], []
    with style():
        figure = new_figure(4.6 * len(histories), 2.9)
        axes = figure.subplots(1, len(histories), squeeze=False).ravel()
        for ax, (quantity, runs) in zip(axes, histories.items(), strict=True):
            ends = {}
            for k, (run, (steps, values)) in enumerate(runs.items()):
                x, v = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
                keep = np.isfinite(v)
                x, v = x[keep], v[keep]
                if not len(v):
                    continue
                tone = colour(run if run in ("finetuned", "scratch") else CYCLE[k % len(CYCLE)])
                ax.plot(x, v, color=tone, linewidth=1.5)
                ends[run] = (float(x[-1]), float(v[-1]), tone)
                words.append(f"{quantity} of {run} ends at {v[-1]:.3g}")
                rows += [row(name, panel=quantity, series=run, x=a, x_label=x_label, y=b, y_label=quantity)
                         for a, b in zip(x, v, strict=True)]  # fmt: skip
            ax.set_title(quantity)
            ax.set(xlabel=x_label, ylabel=y_label if quantity.endswith("loss") else quantity)
            soften(ax)
            if ends:
                left, right = ax.get_xlim()
                ax.set_xlim(left, right + (right - left) * (0.04 + 0.022 * max(map(len, ends))))
                ticks_within(ax, left, max(x for x, _, _ in ends.values()))
        figure.canvas.draw()
        for ax, runs in zip(axes, histories.values(), strict=True):
            last = {r["series"]: r for r in rows if r["panel"] == ax.get_title(loc="left")}
            tone_of = {run: colour(run if run in ("finetuned", "scratch") else CYCLE[k % len(CYCLE)])
                       for k, run in enumerate(runs)}  # fmt: skip
            label_ends(ax, {run: (r["x"], r["y"], tone_of[run]) for run, r in last.items()})
        return finish(figure, name=name, alt=f"Training curves. {'; '.join(words)}.", rows=rows)


def dataset_overview(
    *,
    minutes: Mapping[str, float],
    example: ArrayLike,
    rate_hz: float,
    channels: Sequence[str],
    spectra: Mapping[str, tuple[ArrayLike, ArrayLike]],
    name: str = "dataset",
    unit: str = "SD",
) -> Drawing:
    """Who and how much, what it looks like, and how its power is spread.

    Parameters
    ----------
    minutes : mapping of str to float
        Person → minutes of data.
    example : array_like, shape (time, channel)
        A few channels of one recording.
    rate_hz : float
    channels : sequence of str
        Names of the example's channels.
    spectra : mapping of str to (frequencies in Hz, power density)
        Person (or group) → mean spectrum over channels.
    """
    x = np.asarray(example, dtype=float)
    t = np.arange(len(x)) / rate_hz
    rows = [row(name, panel="data", series=p, y=m, y_label="minutes") for p, m in minutes.items()]
    with style():
        figure = new_figure(9.2, 3.4)
        bars, lines, power = figure.subplots(1, 3, width_ratios=[1, 1.7, 1.1])
        people = list(minutes)
        bars.barh(range(len(people)), list(minutes.values()), color=colour("blue"), height=0.62)
        bars.set_yticks(range(len(people)), people, fontsize=8)
        bars.set(xlabel="minutes", ylim=(len(people) - 0.4, -0.6))
        bars.set_title(f"{counted(len(people), 'person', 'people')}, {sum(minutes.values()):.1f} min")
        soften(bars, grid="x")
        # One common gain, so that loud channels look loud
        gain = 4.5 * float(np.median(x.std(0))) or 1.0
        for k, channel in enumerate(channels):
            lines.plot(t, (x[:, k] - x[:, k].mean()) / gain - k, color=colour("ink"), linewidth=0.8)
            rows += [row(name, panel="example", series=channel, x=a, x_label="s", y=b, y_label=unit)
                     for a, b in zip(t, x[:, k], strict=True)]  # fmt: skip
        lines.set_yticks([-k for k in range(len(channels))], channels, fontsize=8)
        lines.set(xlabel="time (s)", xlim=(t[0], t[-1]))
        lines.set_title("Example")
        lines.spines["left"].set_visible(False)
        lines.tick_params(axis="y", length=0)
        for k, (person, (frequency, density)) in enumerate(spectra.items()):
            f, p = np.asarray(frequency, dtype=float), np.asarray(density, dtype=float)
            keep = (f > 0) & (p > 0)
            power.loglog(f[keep], p[keep], color=colour(CYCLE[k % len(CYCLE)]), linewidth=1.1, alpha=0.85)
            rows += [row(name, panel="spectrum", series=person, x=a, x_label="Hz", y=b, y_label=f"{unit}²/Hz")
                     for a, b in zip(f[keep], p[keep], strict=True)]  # fmt: skip
        power.set(xlabel="frequency (Hz)", ylabel=f"{unit}² / Hz")
        power.set_title("Power spectrum of each" if len(spectra) > 1 else "Power spectrum")
        soften(power)
        for axis in (power.xaxis, power.yaxis):
            axis.set_minor_formatter(NullFormatter())
        shortest, longest = min(minutes.values()), max(minutes.values())
        alt = (
            f"{len(people)} people with {shortest:.1f} to {longest:.1f} minutes each; "
            f"{len(channels)} example traces over {t[-1]:.0f} s; power spectra of {len(spectra)}."
        )
        return finish(figure, name=name, alt=alt, rows=rows)
