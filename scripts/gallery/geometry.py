"""Figure of representational geometry on simulated truth: what RSA, tRSA and stochastic shape metrics each tell apart.

``python scripts/gallery/geometry.py [folder]`` draws geometry.png (default folder runs/gallery); half a minute. Nine
networks see the same 12 conditions: three share means and noise up to a rotation, three share the means only (their noise
is turned), three share the noise only. And a ring of conditions is seen through a bending that keeps neighbours.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from neurofm.analysis.geometry import compare_rdms, geotopology, rdm
from neurofm.analysis.shape_distance import shape_distance
from neurofm.report.canvas import CYCLE, SEQUENTIAL, colour, new_figure, soften, style

N_CONDITIONS, N_UNITS, PER_KIND = 12, 4, 3
KINDS = ("same", "other noise", "other means")


def networks(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (means, covariances) of three networks of each kind."""
    rng = np.random.default_rng(seed)

    def noise() -> np.ndarray:
        long = rng.standard_normal((N_CONDITIONS, N_UNITS, 1))
        return 0.05 * np.eye(N_UNITS) + long @ long.transpose(0, 2, 1)

    means, covariances = rng.standard_normal((N_CONDITIONS, N_UNITS)), noise()
    out = []
    for kind in KINDS:
        m = rng.standard_normal(means.shape) if kind == "other means" else means
        c = noise() if kind == "other noise" else covariances
        for _ in range(PER_KIND):
            q = np.linalg.qr(rng.standard_normal((N_UNITS, N_UNITS)))[0]
            out.append((m @ q, q.T @ c @ q))
    return out


def ring(bend: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Responses (condition, unit) to conditions on a ring whose far sides are bent towards one another."""
    angle = np.arange(24) / 24 * 2 * np.pi
    place = np.stack([np.cos(angle), np.sin(angle) * (1 - bend)], axis=1)
    units = np.random.default_rng(1).standard_normal((2, 60))
    return place @ units + noise * rng.standard_normal((24, 60))


def main(folder: str = "runs/gallery", n_starts: int = 30) -> dict[str, float]:
    """Compute distances, draw, and return what is told apart."""
    made = networks()
    n = len(made)
    distance = {}
    for alpha in (2.0, 1.0, 0.0):
        d = np.zeros((n, n))
        for i in range(n):
            for j in range(i):
                d[i, j] = d[j, i] = shape_distance(made[i], made[j], alpha=alpha, n_starts=n_starts)
        distance[alpha] = d
    same, noise = slice(0, PER_KIND), slice(PER_KIND, 2 * PER_KIND)
    scores = {
        "means alone: rotated copies": float(distance[2.0][same, same].max()),
        "means alone: other noise": float(distance[2.0][same, noise].max()),
        "Wasserstein: other noise": float(distance[1.0][same, noise].min()),
        "covariances alone: other means": float(distance[0.0][same, 2 * PER_KIND :].max()),
        "covariances alone: other noise": float(distance[0.0][same, noise].min()),
    }
    rng = np.random.default_rng(0)
    levels = np.linspace(0, 0.8, 9)
    curves: dict[str, list[float]] = {"RSA": [], "tRSA": []}
    for bend in levels:
        pairs = [[rdm(ring(b, 0.4, rng), metric="euclidean") for b in (0.0, bend)] for _ in range(10)]
        curves["RSA"].append(float(np.mean([compare_rdms(*p, method="pearson") for p in pairs])))
        curves["tRSA"].append(
            float(
                np.mean(
                    [compare_rdms(*(geotopology(x, low=0.0, high=0.3) for x in p), method="pearson") for p in pairs]
                )
            )
        )
    scores |= {"RSA of the most bent ring": curves["RSA"][-1], "tRSA of the most bent ring": curves["tRSA"][-1]}
    Path(folder).mkdir(parents=True, exist_ok=True)
    with style():
        figure = new_figure(9.0, 5.6)
        grid = figure.add_gridspec(2, 3)
        titles = {2.0: "means alone (α = 2)", 1.0: "Wasserstein (α = 1)", 0.0: "covariances alone (α = 0)"}
        for k, (alpha, d) in enumerate(distance.items()):
            ax = figure.add_subplot(grid[0, k])
            shown = ax.imshow(d, cmap=SEQUENTIAL, vmin=0, interpolation="nearest")
            figure.colorbar(shown, ax=ax, shrink=0.8)
            ticks = [PER_KIND * g + 1 for g in range(len(KINDS))]
            ax.set(title=titles[alpha], xticks=ticks, yticks=ticks)
            ax.set_xticklabels(["same", "noise", "means"])
            ax.set_yticklabels(["same", "noise", "means"], rotation=90, va="center")
        ax = figure.add_subplot(grid[1, 0])
        for name, bend in (("ring", 0.0), ("bent", 0.8)):
            x = ring(bend, 0.0, rng)
            u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
            p = np.concatenate([u[:, :2] * s[:2], u[:1, :2] * s[:2]])
            ax.plot(p[:, 0], p[:, 1], marker="o", markersize=3, color=colour(CYCLE[name == "bent"]), label=name)
        ax.set(title="Conditions on a ring, two networks", xticks=[], yticks=[], aspect="equal")
        ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
        ax = figure.add_subplot(grid[1, 1:])
        for k, (name, values) in enumerate(curves.items()):
            ax.plot(levels, values, marker="o", markersize=3.5, color=colour(CYCLE[k]), label=name)
        ax.set(title="Agreement with the unbent ring", xlabel="bending", ylabel="correlation", ylim=(0, 1))
        ax.legend(frameon=False)
        soften(ax)
        figure.savefig(Path(folder) / "geometry.png", dpi=130, facecolor="#ffffff")
    return scores


if __name__ == "__main__":
    for what, value in main(*sys.argv[1:2]).items():
        print(f"{what:<36} {value:.3f}")
