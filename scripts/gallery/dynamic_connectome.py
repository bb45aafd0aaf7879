"""Figure of dynamic functional connectomes on simulated truth: networks, when they are active, and in which animals.

``python scripts/gallery/dynamic_connectome.py [folder]`` draws dynamic_connectome.png (default folder runs/gallery). Six
animals, 24 cells in three groups; each group follows a common signal in its own third of the time, with a strength that is
the animal's own; every animal lacks some cells. Seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neurofm.analysis.dynamic_connectome import affinities, communities, factorise
from neurofm.report.canvas import CYCLE, colour, new_figure, soften, style

RATE_HZ, DURATION_S, N_ANIMALS, N_GROUPS, GROUP = 3.0, 600.0, 6, 3, 8


def simulate(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Return traces per animal (NaN columns: not recorded), group of each cell, gate (group, time), strengths."""
    rng = np.random.default_rng(seed)
    n, t = round(RATE_HZ * DURATION_S), np.arange(round(RATE_HZ * DURATION_S)) / RATE_HZ
    group = np.repeat(np.arange(N_GROUPS), GROUP)
    centre = (np.arange(N_GROUPS) + 0.5) * DURATION_S / N_GROUPS
    gate = np.exp(-0.5 * ((t - centre[:, None]) / (DURATION_S / 9)) ** 2)
    strength = rng.uniform(0.4, 1.6, (N_ANIMALS, N_GROUPS))
    traces = []
    for a in range(N_ANIMALS):
        x = 0.35 * np.cumsum(rng.standard_normal((n, len(group))), axis=0) / np.sqrt(RATE_HZ) * 0.3
        for g in range(N_GROUPS):
            common = np.sin(2 * np.pi * t / 14 + rng.uniform(0, 6)) + 0.5 * np.sin(
                2 * np.pi * t / 9 + rng.uniform(0, 6)
            )
            x[:, group == g] += strength[a, g] * (gate[g] * common)[:, None]
        x += 0.1 * rng.standard_normal(x.shape)
        x[:, rng.choice(len(group), 3, replace=False)] = np.nan
        traces.append(x)
    return traces, group, gate, strength


def tensor_of(traces: list[np.ndarray], block_s: float = 10.0) -> np.ndarray:
    """Return affinities (animal, pair, block), NaN for pairs of which a cell was not recorded."""
    out = []
    for x in traces:
        there = np.isfinite(x).all(0)
        found = affinities(np.where(there, x, 0.0), rate_hz=RATE_HZ, block_s=block_s)
        i, j = np.triu_indices(x.shape[1], 1)
        out.append(np.where((there[i] & there[j])[:, None], found, np.nan))
    return np.stack(out)


def main(folder: str = "runs/gallery") -> dict[str, float]:
    """Factorise, draw, and return how well truth is found."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score

    traces, group, gate, strength = simulate()
    found = factorise(tensor_of(traces), rank=N_GROUPS)
    blocks = gate.reshape(N_GROUPS, found.course.shape[1], -1).mean(-1)
    agreement = np.corrcoef(blocks, found.course)[:N_GROUPS, N_GROUPS:]
    _, order = linear_sum_assignment(-agreement)
    total = sum(found.network[k] for k in order)
    scores = {
        "course, correlation with the gate": float(np.mean(agreement[range(N_GROUPS), order])),
        "groups of cells, adjusted Rand index": float(
            adjusted_rand_score(group, communities(total, n_groups=N_GROUPS))
        ),
        "strength in animals, correlation": float(
            np.mean([np.corrcoef(strength[:, g], found.animal[k])[0, 1] for g, k in enumerate(order)])
        ),
        "affinities explained": found.explained,
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    with style():
        figure = new_figure(9.0, 5.4)
        grid = figure.add_gridspec(2, N_GROUPS, height_ratios=[1.2, 1.0])
        for g, k in enumerate(order):
            ax = figure.add_subplot(grid[0, g])
            ax.imshow(found.network[k], cmap="Blues", vmin=0, interpolation="nearest")
            for edge in range(GROUP, len(group), GROUP):
                ax.axhline(edge - 0.5, color=colour("muted"), linewidth=0.6)
                ax.axvline(edge - 0.5, color=colour("muted"), linewidth=0.6)
            ax.set(title=f"network {g + 1}", xlabel="cell", ylabel="cell" if g == 0 else "", xticks=[], yticks=[])
        ax = figure.add_subplot(grid[1, : N_GROUPS - 1])
        t = (np.arange(blocks.shape[1]) + 0.5) * DURATION_S / blocks.shape[1]
        for g, k in enumerate(order):
            ax.plot(t, found.course[k], color=colour(CYCLE[g]), label=f"network {g + 1}")
            ax.plot(t, blocks[g] ** 2 / (blocks[g] ** 2).max(), color=colour(CYCLE[g]), linestyle=":", linewidth=1.2)
        ax.set(title="Course found (line) and true gate, squared (dotted)", xlabel="s")
        soften(ax)
        ax = figure.add_subplot(grid[1, N_GROUPS - 1])
        for g, k in enumerate(order):
            ax.scatter(strength[:, g], found.animal[k] / found.animal[k].max(), color=colour(CYCLE[g]), s=22)
        ax.set(title="Animals", xlabel="true strength", ylabel="found, relative")
        soften(ax)
        figure.savefig(Path(folder) / "dynamic_connectome.png", dpi=130, facecolor="#ffffff")
    return scores


if __name__ == "__main__":
    for what, value in main(*sys.argv[1:2]).items():
        print(f"{what:<40} {value:.3f}")
