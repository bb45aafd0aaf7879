"""Training curves from metrics.csv."""

from __future__ import annotations

import re
from pathlib import Path

from neurofm.training.loggers import read_metrics

# the levels and branches of one figure share a panel
_ONE_OF_MANY = re.compile(r"(_b\d+)?_\d+$")
_SKIP = ("train/skipped_steps",)


def plot_training(metrics_csv: Path, out: Path) -> Path:
    """Draw one panel per metric (training and validation together), learning rate and speed; return `out`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(metrics_csv)
    columns = sorted({k for row in rows for k in row} - {"step", *_SKIP})
    panels: dict[str, list[str]] = {}
    for column in columns:
        part, _, metric = column.rpartition("/")
        panels.setdefault(column if part == "speed" else _ONE_OF_MANY.sub("", metric), []).append(column)
    order = sorted(panels, key=lambda p: (p != "loss", p == "lr" or p.startswith("speed/"), p))
    n_columns = min(3, max(1, len(order)))
    n_rows = max(1, -(-len(order) // n_columns))
    figure = Figure(figsize=(4.2 * n_columns, 2.8 * n_rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, panel in enumerate(order):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        for column in panels[panel]:
            points = [(row["step"], row[column]) for row in rows if column in row]
            validation = column.startswith("val/")
            axes.plot(
                *zip(*points, strict=True),
                label="validation" if validation else "training",
                color="#c44e52" if validation else "#4c72b0",
                marker="o" if validation else None,
                markersize=3,
                linewidth=1.2,
            )
        axes.set_title(panel.removeprefix("speed/").replace("_", " "), fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        if len(panels[panel]) == 2:
            axes.legend(frameon=False, fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    return out
