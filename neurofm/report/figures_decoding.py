"""Decoded trials: the confusion matrix and accuracy over the course of the trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from neurofm.benchmarks.adapted.trial_decoders import TimeResolved
from neurofm.report.canvas import (
    SEQUENTIAL,
    cell_ink,
    colour,
    finish,
    label_ends,
    new_figure,
    row,
    soften,
    style,
    ticks_within,
)
from neurofm.report.content import Drawing


def confusion_matrix(matrices: Mapping[str, ArrayLike], *, classes: Sequence[str], name: str = "confusion") -> Drawing:
    """Draw one matrix per decoder: share of each true class (row) that was given each label, with its count.

    Parameters
    ----------
    matrices : mapping of str to array_like, shape (class, class)
        Decoder → counts; rows true, columns predicted.
    """
    rows, words = [], []
    with style():
        figure = new_figure(3.5 * len(matrices) + 0.4, 3.5)
        axes = figure.subplots(1, len(matrices), sharey=True, squeeze=False).ravel()
        for ax, (decoder, counts) in zip(axes, matrices.items(), strict=True):
            n = np.asarray(counts)
            share = n / np.maximum(n.sum(1, keepdims=True), 1)
            # Squares, not an image: they stay vectors, crisp on any screen
            ax.pcolormesh(share[::-1], cmap=SEQUENTIAL, vmin=0, vmax=1, edgecolors="none")
            for i, j in np.ndindex(*n.shape):
                ax.text(j + 0.5, len(n) - i - 0.5, f"{100 * share[i, j]:.0f} %\n({n[i, j]})", ha="center", va="center",
                        fontsize=8, color=cell_ink(share[i, j]), fontweight="bold" if i == j else "normal")  # fmt: skip
                rows.append(row(name, panel=decoder, series=classes[i], x=j, x_label=classes[j], y=share[i, j],
                                y_label="share of the true class", label=str(n[i, j])))  # fmt: skip
            balanced = float(np.mean(np.diag(share)[n.sum(1) > 0]))
            words.append(f"{decoder} {balanced:.3f}")
            ax.set_title(f"{decoder}: balanced accuracy {balanced:.3f}", fontsize=9)
            ax.set_xticks(np.arange(len(n)) + 0.5, classes)
            ax.set_yticks(np.arange(len(n)) + 0.5, list(classes)[::-1])
            ax.set(xlabel="decoded", aspect="equal")
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
        axes[0].set_ylabel("true")
        alt = f"Confusion matrices over {', '.join(classes)}; balanced accuracy: {'; '.join(words)}."
        return finish(figure, name=name, alt=alt, rows=rows)


def time_resolved_accuracy(
    curves: Mapping[str, TimeResolved],
    *,
    name: str = "time-resolved",
    event: str = "movement onset",
    tones: Mapping[str, str] | None = None,
) -> Drawing:
    """Accuracy of sub-window decoders at the END of their window, with the permutation band and the event's line.

    Drawn at the end, since that is the moment at which a decoder could have known.
    """
    first = next(iter(curves.values()))
    rows = []
    with style():
        figure = new_figure(7.2, 3.5)
        ax = figure.subplots()
        ax.fill_between(
            first.stop_s, first.chance_low, first.chance_high, color=colour("muted"), alpha=0.22, linewidth=0
        )
        ax.plot(first.stop_s, first.chance_mean, color=colour("muted"), linewidth=1.0)
        ax.axvline(0, color=colour("ink"), linewidth=1.0, linestyle=(0, (2, 2)))
        ends = {"chance, 95 %": (first.stop_s[-1], float(first.chance_mean[-1]), colour("muted"))}
        top = 0.0
        for k, (decoder, c) in enumerate(curves.items()):
            tone = colour((tones or {}).get(decoder, decoder), k)
            ax.fill_between(c.stop_s, c.low, c.high, color=tone, alpha=0.13, linewidth=0)
            ax.plot(c.stop_s, c.accuracy, color=tone, marker="o", markersize=4.5)
            ends[decoder] = (c.stop_s[-1], float(c.accuracy[-1]), tone)
            top = max(top, float(c.high.max()))
            for i, stop in enumerate(c.stop_s):
                at = {"series": decoder, "x": stop, "x_label": "end of window (s)", "y_label": "accuracy"}
                note = f"window from {c.start_s[i]:.3f} s; permutation p = {c.p[i]:.3g}"
                rows.append(row(name, y=c.accuracy[i], low=c.low[i], high=c.high[i], label=note, **at))
                band = {"y": c.chance_mean[i], "low": c.chance_low[i], "high": c.chance_high[i]}
                rows.append(row(name, panel="chance", **band, **at))
        span = float(first.stop_s[-1] - first.stop_s[0])
        ax.set(ylim=(0, min(1.0, top + 0.08)), xlim=(first.stop_s[0] - 0.02 * span, first.stop_s[-1] + 0.27 * span))
        ax.text(0, 0.985, f" {event}", transform=ax.get_xaxis_transform(), va="top", fontsize=8.5)
        width_s = float(first.stop_s[0] - first.start_s[0])
        ax.set(xlabel=f"end of the {1000 * width_s:.0f} ms window (s)", ylabel="accuracy")
        ax.set_title(f"When can the label be read? ({first.n} test trials)")
        soften(ax)
        ticks_within(ax, float(first.start_s[0]), float(first.stop_s[-1]))
        figure.canvas.draw()
        label_ends(ax, ends)
        before = {d: c.accuracy[c.stop_s <= 1e-9] for d, c in curves.items()}
        said = "; ".join(
            f"{d} at most {before[d].max():.2f} before {event} and {c.accuracy.max():.2f} at best"
            for d, c in curves.items() if len(before[d])
        )  # fmt: skip
        return finish(figure, name=name, alt=f"Accuracy of decoders of sub-windows over time: {said}.", rows=rows)
