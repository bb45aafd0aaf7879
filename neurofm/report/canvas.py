"""The common look of figures: palette, axes, direct labels, and SVG that follows the page's light or dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from neurofm.report.content import Drawing

# Okabe & Ito (2008), darkened where white paper asks for it; each has a lighter twin for dark pages
PALETTE = {
    "blue": ("#0072b1", "#56b4e9"),
    "orange": ("#c85200", "#f0a050"),
    "green": ("#00795c", "#3cc79a"),
    "purple": ("#a8457f", "#dd8fc0"),
    "gold": ("#8f6a00", "#e6c229"),
    "ink": ("#1b2028", "#e8eaed"),
    "muted": ("#646c78", "#9aa3af"),
    "grid": ("#dfe3e8", "#333a44"),
}
CYCLE = ("blue", "orange", "green", "purple", "gold")
ROLE = {
    "finetuned": "blue", "model": "blue", "scratch": "orange", "ridge": "muted", "var1": "muted", "lda": "muted",
    "true": "ink", "predicted": "blue", "ridge_own": "gold", "probe": "green", "ceiling": "muted",
}  # fmt: skip
# Light paper to the deep end of the blue; both ends keep a contrast to the cell text chosen by `cell_ink`
SEQUENTIAL = LinearSegmentedColormap.from_list("neurofm", ["#f2f6fa", "#9ecae6", "#3c8dc0", "#0b4f86", "#062f55"])
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
    "axes.edgecolor": PALETTE["muted"][0], "axes.labelcolor": PALETTE["ink"][0], "text.color": PALETTE["ink"][0],
    "axes.titlecolor": PALETTE["ink"][0], "xtick.color": PALETTE["muted"][0], "ytick.color": PALETTE["muted"][0],
    "xtick.labelcolor": PALETTE["ink"][0], "ytick.labelcolor": PALETTE["ink"][0], "xtick.major.size": 3.0,
    "ytick.major.size": 3.0, "lines.linewidth": 1.8, "lines.solid_capstyle": "round", "svg.fonttype": "path",
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none", "path.simplify": True,
}  # fmt: skip


def colour(name: str, place: int = 0) -> str:
    """Light-theme hex of a palette name or a series' role; unknown series take the cycle's colour at `place`."""
    return PALETTE[name if name in PALETTE else ROLE.get(name, CYCLE[place % len(CYCLE)])][0]


def style() -> Any:
    """Context in which figures are made; leaves the user's own matplotlib settings alone."""
    return matplotlib.rc_context(_STYLE)


def new_figure(width: float = 6.6, height: float = 3.4) -> Figure:
    """Make an empty figure in inches that no global state (pyplot) knows of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def soften(ax: Axes, *, grid: Literal["x", "y", "both"] = "y") -> None:
    """Thin grid behind the data in one direction."""
    ax.set_axisbelow(True)
    ax.grid(axis=grid, color=PALETTE["grid"][0], linewidth=0.7)


def label_ends(ax: Axes, ends: Mapping[str, tuple[float, float, str]], *, size: float = 8.5) -> None:
    """Write each series' name beside its last point, moved apart so that no two overlap.

    Parameters
    ----------
    ends : mapping of str to (x, y, hex colour)
        In data units; the axes' limits must be final.
    """
    low, high = ax.get_ylim()
    line = (high - low) * size / 72 * 1.25 / (ax.get_window_extent().height / ax.figure.dpi or 1)
    order = sorted(ends, key=lambda name: ends[name][1])
    half = {name: line * (1 + name.count("\n")) / 2 for name in ends}
    places: list[float] = []
    for k, name in enumerate(order):
        y = ends[name][1]
        places.append(max(y, places[-1] + half[order[k - 1]] + half[name]) if places else y)
    if places:
        # The stack is centred on where the labels want to be, then kept inside the axes
        shift = float(np.mean([ends[n][1] for n in order]) - np.mean(places))
        shift = max(shift, low + half[order[0]] - places[0])
        shift = min(shift, high - half[order[-1]] - places[-1])
        places = [p + shift for p in places]
    # One column at the furthest end, so that no name lies on another series' interval
    x = max((end[0] for end in ends.values()), default=0.0)
    for name, y in zip(order, places, strict=True):
        tone = ends[name][2]
        ax.annotate(
            name, (x, y), xytext=(6, 0), textcoords="offset points", color=tone, fontsize=size, va="center",
            annotation_clip=False,
        )  # fmt: skip


def room_for_ends(ax: Axes, names: Iterable[str], end: float, *, size: float = 8.5) -> None:
    """Move the right limit so far out that the names of `label_ends`, written from `end` on, lie inside the axes.

    The figure must have been drawn once, so that the axes have their size.
    """
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    probe = ax.text(0, 0, "", fontsize=size)
    widths = []
    for name in names:
        probe.set_text(name)
        widths.append(probe.get_window_extent(renderer).width)
    probe.remove()
    # the offset of the names, and a little air
    share = (max(widths, default=0.0) + 10 / 72 * ax.figure.dpi) / ax.get_window_extent().width
    low = ax.get_xlim()[0]
    share = min(share, 0.75)
    ax.set_xlim(low, (end - low * share) / (1 - share))


def ticks_within(ax: Axes, low: float, high: float) -> None:
    """Keep the x ticks that stand at data, none under the room left for labels; the limits stay as they are."""
    limit = ax.get_xlim()
    ax.set_xticks([t for t in ax.get_xticks() if low - 1e-9 <= t <= high + 1e-9])
    ax.set_xlim(limit)


def cell_ink(share: float) -> str:
    """Text colour on a cell of `SEQUENTIAL` at this share of its range; fixed, since cells do not follow the theme."""
    return "#fdfefe" if share > 0.45 else "#1a1f27"


def row(figure: str, **values: Any) -> dict[str, Any]:
    """One plotted point for the table "report_figures"."""
    empty = {"panel": "", "series": "", "x": np.nan, "x_label": "", "y": np.nan, "y_label": "", "low": np.nan,
             "high": np.nan, "label": ""}  # fmt: skip
    numbers = {k: float(v) if k in ("x", "y", "low", "high") else str(v) for k, v in values.items()}
    return {"figure": figure, **empty, **numbers}


def finish(figure: Figure, *, name: str, alt: str, rows: Iterable[Mapping[str, Any]]) -> Drawing:
    """Turn a matplotlib figure into a `Drawing`: themed inline SVG, PNG, text alternative and its numbers."""
    buffer = io.StringIO()
    # A fixed salt makes equal figures equal bytes
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=110, facecolor="#ffffff", metadata={"Software": None})
    return Drawing(
        name=name, svg=_themed(buffer.getvalue(), name, alt), png=png.getvalue(), alt=alt, rows=[dict(r) for r in rows]
    )


def _themed(svg: str, name: str, alt: str) -> str:
    from html import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for key, (light, _) in PALETTE.items():
        svg = re.sub(re.escape(light), f"var(--{key})", svg, flags=re.IGNORECASE)
    # matplotlib names clips and markers by a hash of floats whose last bits vary; by order of appearance they do not
    hashed = list(dict.fromkeys(re.findall(r'\bid="([a-zA-Z][0-9a-f]{10})"', svg)))
    for k, old in enumerate(sorted(hashed, key=svg.index)):
        svg = re.sub(rf"\b{old}\b", f"part-{k}", svg)
    # Several drawings share one page, so every id carries the drawing's name
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href|href)="#', rf'\1="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg).group(1))  # type: ignore[union-attr]
    # Letters stay readable: a narrow page scrolls the drawing instead of shrinking it below this
    size = f"max-width:{width * 1.35:.0f}px;min-width:{width * 0.95:.0f}px"
    opening = f'<svg role="img" aria-label="{escape(alt, quote=True)}" style="{size}" '
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", opening, 1).strip()


def limits(values: Sequence[float], *, pad: float = 0.08) -> tuple[float, float]:
    """Axis limits around finite values with some air."""
    x = np.asarray([v for v in values if np.isfinite(v)], dtype=float)
    if not len(x):
        return 0.0, 1.0
    span = max(float(x.max() - x.min()), 1e-6)
    return float(x.min() - pad * span), float(x.max() + pad * span)
