"""What can be wrong with a dataset, seen at a glance: where sensors are, and which channels are missing where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from neurofm.report.canvas import colour, finish, new_figure, row, soften, style
from neurofm.report.content import Drawing
from neurofm.schema.errors import DataError

# Drawn as an image, so cells are fixed colours with enough contrast on light and dark pages.
STATES = ("missing", "bad", "good")
CELLS = ("#8a93a0", "#d9822b", "#2f7fbf")
LABELLED = 40


def sensor_positions(
    frames: Mapping[str, tuple[ArrayLike, ArrayLike]], *, name: str = "sensors", labels: Sequence[str] = ()
) -> Drawing:
    """Sensors from above, from behind and from the left, one line of panels per coordinate frame.

    Parameters
    ----------
    frames : mapping of str to (positions, bad)
        Coordinate frame → positions of shape (sensor, 3) in metres (x right, y front, z up), and for each the share of
        recordings in which it is bad, shape (sensor,).
    labels : sequence of str
        Names, for the table of numbers; of all frames one after the other.
    """
    views = (("from above", 0, 1), ("from behind", 0, 2), ("from the left", 1, 2))
    rows, words, at = [], [], 0
    with style():
        figure = new_figure(9.2, 3.1 * len(frames))
        grid = figure.subplots(len(frames), 3, squeeze=False)
        for panels, (frame, (positions, bad)) in zip(grid, frames.items(), strict=True):
            xyz, share = np.asarray(positions, dtype=float) * 1000, np.asarray(bad, dtype=float)
            if xyz.ndim != 2 or xyz.shape[1] != 3 or len(share) != len(xyz):
                raise DataError(
                    f"sensors: positions {xyz.shape} and shares of bad {share.shape} do not belong together"
                )
            for ax, (view, i, j) in zip(panels, views, strict=True):
                flip = -1 if view == "from the left" else 1
                for picked, tone, word in ((share <= 0.5, "blue", "good"), (share > 0.5, "orange", "mostly bad")):
                    ax.scatter(flip * xyz[picked, i], xyz[picked, j], s=12, color=colour(tone), label=word, linewidth=0)
                ax.set_aspect("equal")
                ax.set_title(f"{frame}, {view}", fontsize=8.5, fontweight="normal")
                ax.set(xlabel="mm", ylabel="mm" if ax is panels[0] else "")
                soften(ax, grid="both")
            for k, (x, y, z) in enumerate(xyz):
                label = labels[at + k] if labels else str(k)
                rows += [row(name, panel=f"{frame} {axis}", series=label, x=k, y=v, y_label="mm", label=label)
                         for axis, v in (("x", x), ("y", y), ("z", z))]  # fmt: skip
            at += len(xyz)
            words.append(f"{len(xyz)} in the frame '{frame}', {int((share > 0.5).sum())} mostly bad")
        grid[0, -1].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return finish(figure, name=name, alt=f"Sensor positions: {'; '.join(words)}.", rows=rows)


def channel_matrix(
    states: ArrayLike, *, channels: Sequence[str], recordings: Sequence[str], name: str = "channels"
) -> Drawing:
    """Which channel is there, bad or missing in which recording.

    Parameters
    ----------
    states : array_like of int, shape (channel, recording)
        0 missing, 1 bad, 2 good.
    channels, recordings : sequence of str
        Names; written beside the matrix as long as there are at most `LABELLED`.
    """
    x = np.asarray(states)
    if x.shape != (len(channels), len(recordings)):
        raise DataError(f"channels: states {x.shape} of {len(channels)} channels in {len(recordings)} recordings")
    share = [(x == k).mean() if x.size else 0.0 for k in range(3)]
    with style():
        figure = new_figure(9.2, float(np.clip(1.6 + 0.16 * len(channels), 2.6, 9.0)))
        ax = figure.subplots()
        ax.imshow(x, aspect="auto", interpolation="nearest", cmap=ListedColormap(CELLS), vmin=0, vmax=2)
        if len(channels) <= LABELLED:
            ax.set_yticks(range(len(channels)), channels, fontsize=7)
        if len(recordings) <= LABELLED:
            ax.set_xticks(range(len(recordings)), recordings, fontsize=7, rotation=90)
        ax.set(xlabel=f"{len(recordings)} recordings", ylabel=f"{len(channels)} channels")
        ax.legend(
            handles=[Patch(color=c, label=f"{s} {p:.0%}") for c, s, p in zip(CELLS, STATES, share, strict=True)],
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=8,
        )  # fmt: skip
        rows = [row(name, panel=recordings[j], series=channels[i], x=j, y=x[i, j], y_label="0 missing, 1 bad, 2 good",
                    label=STATES[int(x[i, j])]) for i, j in np.ndindex(*x.shape)]  # fmt: skip
        told = ", ".join(f"{p:.0%} {s}" for s, p in zip(STATES, share, strict=True))
        alt = f"{len(channels)} channels in {len(recordings)} recordings: {told}."
        return finish(figure, name=name, alt=alt, rows=rows)
