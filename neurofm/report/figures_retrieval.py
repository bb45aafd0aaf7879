"""Retrieval drawn: accuracy over repetitions, parts of the signal, and what was found for what was shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from neurofm.report.canvas import colour, finish, label_ends, new_figure, row, soften, style
from neurofm.report.content import Drawing


def repetition_curves(
    curves: Mapping[str, Mapping[int, Sequence[float]]], *, chance: float, oracle: Mapping[int, float] | None = None,
    name: str = "repetitions",
) -> Drawing:  # fmt: skip
    """Top-1 against the number of averaged repetitions: mean over people, the range of people behind it.

    Parameters
    ----------
    curves : mapping of str to mapping of int to sequence of float
        Decoder → repetitions → top-1 of each person.
    chance : float
        One over the number of candidates.
    oracle : mapping of int to float, optional
        The best that is possible, where it is known.
    """
    rows, said = [], []
    with style():
        figure = new_figure(6.8, 3.6)
        ax = figure.subplots()
        ax.axhline(chance, color=colour("muted"), linewidth=1.0, linestyle=(0, (2, 2)))
        ends = {}
        for k, (decoder, points) in enumerate(curves.items()):
            n = sorted(points)
            mean = [float(np.mean(points[i])) for i in n]
            tone = colour(decoder, k)
            ax.fill_between(
                n, [min(points[i]) for i in n], [max(points[i]) for i in n], color=tone, alpha=0.13, linewidth=0
            )
            ax.plot(n, mean, color=tone, marker="o", markersize=4)
            ends[decoder] = (float(n[-1]), mean[-1], tone)
            said.append(f"{decoder} {mean[0]:.3f} to {mean[-1]:.3f}")
            rows += [
                row(name, series=decoder, x=i, x_label="averaged repetitions", y=m, y_label="top-1", low=min(points[i]),
                    high=max(points[i])) for i, m in zip(n, mean, strict=True)
            ]  # fmt: skip
        if oracle:
            n = sorted(oracle)
            ax.plot(n, [oracle[i] for i in n], color=colour("ink"), linewidth=1.2, linestyle=(0, (5, 2)))
            ends["best possible"] = (float(n[-1]), oracle[n[-1]], colour("ink"))
            rows += [row(name, series="best possible", x=i, x_label="averaged repetitions", y=oracle[i], y_label="top-1")
                     for i in n]  # fmt: skip
        last = max(x for x, _, _ in ends.values())
        first = min(min(p) for p in curves.values())
        ax.set(
            xscale="log", xlim=(first * 0.9, last * 2.6), ylim=(0, 1.02), xlabel="averaged repetitions", ylabel="top-1"
        )
        ticks = sorted({i for p in curves.values() for i in p})
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.minorticks_off()
        soften(ax)
        figure.canvas.draw()
        label_ends(ax, ends)
        return finish(figure, name=name, alt=f"Top-1 over averaged repetitions: {'; '.join(said)}.", rows=rows)


def parts_of_signal(
    resolved: Mapping[str, Mapping[tuple[str, str], float]], *, chance: float, name: str = "parts"
) -> Drawing:
    """Top-1 when only a part of the signal is there: pieces of time, parts of the head, frequency bands."""
    titles = {"time": "only this time", "only": "only these electrodes", "without": "without these electrodes",
              "band": "only these frequencies"}  # fmt: skip
    kinds = [k for k in titles if any(k == kind for parts in resolved.values() for kind, _ in parts)]
    rows = []
    with style():
        figure = new_figure(7.4, 2.0 + 1.5 * len(kinds))
        axes = figure.subplots(len(kinds), 1, squeeze=False).ravel()
        for ax, kind in zip(axes, kinds, strict=True):
            parts = list(dict.fromkeys(p for found in resolved.values() for k, p in found if k == kind))
            width = 0.8 / len(resolved)
            for j, (decoder, found) in enumerate(resolved.items()):
                y = [found.get((kind, p), np.nan) for p in parts]
                ax.bar(np.arange(len(parts)) + (j - (len(resolved) - 1) / 2) * width, y, width * 0.92,
                       color=colour(decoder, j), label=decoder)  # fmt: skip
                rows += [row(name, panel=kind, series=decoder, x=i, x_label=p, y=v, y_label="top-1")
                         for i, (p, v) in enumerate(zip(parts, y, strict=True))]  # fmt: skip
            ax.axhline(chance, color=colour("muted"), linewidth=1.0, linestyle=(0, (2, 2)))
            few = parts if len(parts) <= 6 else [p if i % (len(parts) // 5) == 0 else "" for i, p in enumerate(parts)]
            ax.set_xticks(range(len(parts)), few, fontsize=7.5)
            ax.set(ylabel="top-1", title=titles[kind])
            soften(ax)
        # above the bars, which may reach the top
        axes[0].legend(frameon=False, fontsize=7.5, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=2)
        return finish(figure, name=name, alt="Top-1 retrieval from parts of the signal, by decoder.", rows=rows)


def panels(
    shown: Sequence[tuple[str, Sequence[str]]], pictures: Mapping[str, Path], *, right: Mapping[str, str],
    name: str = "panels",
) -> Drawing:  # fmt: skip
    """What was shown (left) and the first candidates found, as pictures where there are files, else by name.

    Parameters
    ----------
    shown : sequence of (stimulus, candidates)
        Queries spread evenly over their ranks, the best and the worst among them.
    pictures : mapping of str to Path
        Candidate or stimulus → image file.
    right : mapping of str to str
        Stimulus → the candidate that would have been right.
    """
    from matplotlib.image import imread

    n = 1 + max(len(c) for _, c in shown)
    rows = []
    with style():
        # names alone need one line each
        height = 1.45 if any(k in pictures for s, found in shown for k in (s, *found)) else 0.36
        figure = new_figure(1.25 * n + 0.4, height * len(shown) + 0.3)
        axes = figure.subplots(len(shown), n, squeeze=False)
        for i, (stimulus, candidates) in enumerate(shown):
            for j, key in enumerate([stimulus, *candidates]):
                ax = axes[i, j]
                path = pictures.get(key)
                if path is not None:
                    ax.imshow(imread(path), aspect="equal", interpolation="nearest")
                else:
                    ax.text(0.5, 0.5, key.rsplit("/", 1)[-1][:22], ha="center", va="center", fontsize=6.5, wrap=True,
                            transform=ax.transAxes)  # fmt: skip
                hit = j > 0 and key == right.get(stimulus, stimulus)
                ax.spines[:].set_visible(True)
                ax.spines[:].set_color(colour("green") if hit else colour("ink" if j == 0 else "grid"))
                ax.spines[:].set_linewidth(2.4 if hit else 1.0)
                ax.set(xticks=[], yticks=[])
                if i == 0:
                    ax.set_title("shown" if j == 0 else f"found {j}", fontsize=8)
                rows.append(
                    row(name, panel=stimulus, series="shown" if j == 0 else "found", x=j, y=float(hit), label=key)
                )
            for ax in axes[i, 1 + len(candidates) :]:
                ax.set_axis_off()
        alt = f"{len(shown)} queries with the candidates found first; the right one is framed in green."
        return finish(figure, name=name, alt=alt, rows=rows)
