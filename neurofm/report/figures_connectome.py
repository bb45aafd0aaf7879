"""Directed maps between channels: the matrix, and the strongest links as arrows where the channels are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch
from numpy.typing import ArrayLike, NDArray

from neurofm.report.canvas import PALETTE, SEQUENTIAL, colour, finish, new_figure, row, style
from neurofm.report.content import Drawing
from neurofm.schema.errors import DataError

RIGHT, WRONG = "blue", "orange"


def connectome(
    weights: ArrayLike,
    *,
    names: Sequence[str],
    positions: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    n_links: int | None = None,
    name: str = "connectome",
    quantity: str = "influence",
) -> Drawing:
    """Draw a directed map: a matrix on the left, its strongest links seen from above on the right.

    Parameters
    ----------
    weights : array_like, shape (from, to)
        Not negative; the diagonal is not drawn.
    names : sequence of str
        Of the channels.
    positions : array_like, shape (channel, 3), optional
        Metres, x to the right and y to the front. Where one is unknown, all channels stand on a circle in order.
    truth : array_like, shape (from, to), bool, optional
        Links that are known to be there: dots in the matrix, and the colour of the arrows.
    n_links : int, optional
        Arrows drawn; default as many as `truth` has, else two per channel.
    name, quantity : str
        Of the drawing, and of what the weights are.
    """
    w = np.asarray(weights, dtype=np.float64)
    C = len(names)
    if w.shape != (C, C) or not np.isfinite(w).all() or (w < 0).any():
        raise DataError(f"connectome: weights {w.shape} must be finite, not negative, and ({C}, {C}) as the names")
    linked = None if truth is None else np.asarray(truth, dtype=bool)
    if linked is not None and linked.shape != w.shape:
        raise DataError(f"connectome: truth {linked.shape} must have the shape of the weights, {w.shape}")
    w = np.where(np.eye(C, dtype=bool), 0.0, w)
    n_links = min((2 * C if linked is None else int(linked.sum())) if n_links is None else n_links, C * (C - 1))
    order = np.argsort(-w, axis=None, kind="stable")[:n_links]
    strongest = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, w.shape), strict=True) if i != j]
    with style():
        figure = new_figure(7.4, 3.6)
        left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.05])
        _matrix(left, w, names, linked, quantity)
        _arrows(right, w, names, _places(positions, C), linked, strongest)
        rows = [
            row(
                name, panel="matrix", series=f"{names[i]} → {names[j]}", x=i, x_label="from", y=w[i, j],
                y_label=quantity, label="" if linked is None else ("linked" if linked[i, j] else "not linked"),
            )
            for i in range(C) for j in range(C) if i != j
        ]  # fmt: skip
        right_share = ""
        if linked is not None and strongest:
            right_share = f" {sum(linked[i, j] for i, j in strongest)} of them are planted."
        alt = (
            f"Directed {quantity} between {C} channels as a matrix, and its {len(strongest)} strongest links as arrows "
            f"from the channel that acts to the one acted upon.{right_share}"
        )
        return finish(figure, name=name, alt=alt, rows=rows)


def _matrix(ax: Axes, w: NDArray, names: Sequence[str], linked: NDArray | None, quantity: str) -> None:
    top = w.max() or 1.0
    ax.imshow(np.where(np.eye(len(w), dtype=bool), np.nan, w), cmap=SEQUENTIAL, vmin=0, vmax=top)
    if linked is not None:
        to, of = np.nonzero(linked.T)
        # a dark rim on a light dot can be seen on both ends of the scale
        ax.scatter(to, of, s=9, c="#ffffff", edgecolors="#1b2028", linewidths=0.6)
    step = max(1, len(names) // 16)
    at = range(0, len(names), step)
    ax.set_xticks(at, [names[k] for k in at], rotation=90, fontsize=6.5)
    ax.set_yticks(at, [names[k] for k in at], fontsize=6.5)
    ax.set_xlabel("to")
    ax.set_ylabel("from")
    ax.set_title(f"{quantity[:1].upper()}{quantity[1:]}" + ("" if linked is None else " (dots: planted links)"))


def _arrows(
    ax: Axes,
    w: NDArray,
    names: Sequence[str],
    places: NDArray,
    linked: NDArray | None,
    strongest: Sequence[tuple[int, int]],
) -> None:
    reach = float(np.abs(places).max()) or 1.0
    top = w.max() or 1.0
    ax.add_patch(Circle((0, 0), 1.28 * reach, fill=False, edgecolor=PALETTE["grid"][0], linewidth=1.2))
    ax.plot([-0.1 * reach, 0, 0.1 * reach], [1.28 * reach, 1.4 * reach, 1.28 * reach], color=PALETTE["grid"][0], lw=1.2)
    for i, j in strongest[::-1]:
        tone = colour(RIGHT if linked is None or linked[i, j] else WRONG)
        ax.add_patch(
            FancyArrowPatch(
                tuple(places[i]), tuple(places[j]), connectionstyle="arc3,rad=0.12", arrowstyle="-|>", mutation_scale=7,
                shrinkA=5, shrinkB=6, linewidth=0.4 + 1.8 * w[i, j] / top, color=tone, alpha=0.85,
            )
        )  # fmt: skip
    out = w.sum(1) / (w.sum(1).max() or 1.0)
    ax.scatter(
        places[:, 0],
        places[:, 1],
        s=46,
        c=out,
        cmap=SEQUENTIAL,
        vmin=0,
        vmax=1,
        edgecolors=PALETTE["muted"][0],
        zorder=3,
    )
    for place, label in zip(places, names, strict=True):
        away = place / (np.hypot(*place) or 1.0) * 0.13 * reach
        ax.annotate(label, place + away, ha="center", va="center", fontsize=6.5, color=PALETTE["ink"][0])
    ax.set_xlim(-1.45 * reach, 1.45 * reach)
    ax.set_ylim(-1.45 * reach, 1.6 * reach)
    ax.set_aspect("equal")
    ax.axis("off")
    if linked is None:
        title = f"{len(strongest)} strongest, from above"
    else:
        n = sum(bool(linked[i, j]) for i, j in strongest)
        title = f"{len(strongest)} strongest: {n} planted (blue),\n{len(strongest) - n} not (orange)"
    ax.set_title(title)


def _places(positions: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return where channels are drawn, (channel, 2), centred."""
    if positions is not None:
        p = np.asarray(positions, dtype=np.float64)
        if p.shape != (n, 3):
            raise DataError(f"connectome: positions {p.shape} must be ({n}, 3)")
        flat = p[:, :2]
        if np.isfinite(flat).all() and np.ptp(flat, axis=0).max() > 0:
            return flat - (flat.max(0) + flat.min(0)) / 2
    angle = 2 * np.pi * np.arange(n) / max(n, 1)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1)
