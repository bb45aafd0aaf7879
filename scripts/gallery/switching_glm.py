"""Figure of the prior-informed switching GLM on simulated truth: states, and which couplings belong to each.

``python scripts/gallery/switching_glm.py [folder]`` prepares `sim_switching`, fits its training trials from the shards, and
draws what the test trials say to switching_glm.png in the folder (default runs/gallery). About two minutes of one core.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

from data_prep.pipeline import prepare
from data_prep.sources.sim_switching import BIN_S, basis, parameters
from neurofm.analysis.switching_fit import fit_switching_glm, sign_auroc
from neurofm.analysis.switching_glm import align_states, posterior_states
from neurofm.data.dataset import Dataset
from neurofm.report.canvas import CYCLE, colour, new_figure, soften, style


def read(dataset: Dataset, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (trial, bin, unit) and true states (trial, bin) of a part."""
    (r,) = dataset.select(part=part)
    counts = np.stack([dataset.read_interval(r, i) for i in range(len(dataset.valid(r)))])
    states = [dataset.read_stream(r, a, b, stream="true_state")[0][:, 0] for a, b in dataset.valid(r)]
    return counts, np.stack(states).astype(int)


def main(folder: str = "runs/gallery", **choices: int) -> dict[str, float]:
    """Fit, draw, and return the scores of the test trials."""
    with tempfile.TemporaryDirectory() as shards:
        prepare(source={"name": "sim_switching", **choices}, out=shards, dask="none", progress=False, segment_s=None)
        dataset = Dataset(shards, bin_s=BIN_S)
        (train, _), (test, states) = read(dataset, "train"), read(dataset, "test")
        source = dataset.manifest.prep["source"]
    n_states, truth = source["n_states"], parameters(source)
    scores, fits, fit = {}, {}, None
    for prior, n_rounds in (("gaussian", 12), ("one_hot", 8)):
        fit = fit_switching_glm(
            train, n_states=n_states, basis=basis(), prior=prior, n_rounds=n_rounds, stay=source["stay"], start=fit
        )
        found = fit.posterior(test)
        order, accuracy = align_states(states, found.argmax(-1), n_states=n_states)
        scores[f"{prior} accuracy"] = accuracy
        scores[f"{prior} sign AUROC"] = sign_auroc(fit.weights[order], truth["adjacency"])
        fits[prior] = (found[..., order], fit.weights[order])
    exact = posterior_states(
        test, bias=truth["bias"], weights=truth["weights"], transition=truth["transition"], basis=basis()
    )
    scores["true parameters accuracy"] = float((exact.argmax(-1) == states).mean())
    guess = np.random.default_rng(0).integers(n_states, size=states.shape)
    scores["guess accuracy"] = align_states(states, guess, n_states=n_states)[1]
    Path(folder).mkdir(parents=True, exist_ok=True)
    draw(Path(folder) / "switching_glm.png", states, fits, truth, scores)
    return scores


def draw(path: Path, states: np.ndarray, fits: dict, truth: dict, scores: dict[str, float]) -> None:  # type: ignore[type-arg]
    """Draw states of one trial, agreement, and couplings of each state."""
    posterior, weights = fits["one_hot"]
    n_states = len(weights)
    with style():
        figure = new_figure(9.0, 6.4)
        grid = figure.add_gridspec(3, n_states, height_ratios=[1.0, 1.1, 1.1])
        ax = figure.add_subplot(grid[0, : max(1, n_states - 2)])
        shown = min(600, states.shape[1])
        t = np.arange(shown) * BIN_S
        for s in range(n_states):
            tone = colour(CYCLE[s % len(CYCLE)])
            ax.fill_between(t, s, s + 0.85 * posterior[0, :shown, s], color=tone, linewidth=0)
        ax.step(t, states[0, :shown] + 0.42, color=colour("ink"), linewidth=0.9, where="post")
        ax.set(
            title="A test trial: true state (line), posterior (filled)", xlabel="s", yticks=np.arange(n_states) + 0.4
        )
        ax.set_yticklabels([f"state {s + 1}" for s in range(n_states)])
        ax = figure.add_subplot(grid[0, max(1, n_states - 2) :])
        bars = {k.removesuffix(" accuracy"): v for k, v in scores.items() if k.endswith("accuracy")}
        tones = [colour("muted") if k in ("guess", "true parameters") else colour("blue") for k in bars]
        ax.barh(list(bars), list(bars.values()), color=tones, height=0.6)
        for i, v in enumerate(bars.values()):
            ax.text(v - 0.02, i, f"{v:.3f}", va="center", ha="right", color="#fdfefe", fontsize=8)
        ax.set(title="State accuracy, test", xlim=(0, 1))
        soften(ax, grid="x")
        limit = float(np.abs(truth["weights"]).max())
        for row, (name, w) in enumerate((("true", truth["weights"]), ("one-hot fit", weights)), 1):
            for s in range(n_states):
                ax = figure.add_subplot(grid[row, s])
                ax.imshow(w[s], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
                ax.set(xticks=[], yticks=[], title=f"state {s + 1}" if row == 1 else "")
                ax.set_xlabel("from" if row == 2 else "")
                ax.set_ylabel(f"{name}, to" if s == 0 else "")
        figure.suptitle(
            f"Couplings by state: sign AUROC {scores['one_hot sign AUROC']:.3f} (one-hot), "
            f"{scores['gaussian sign AUROC']:.3f} (Gaussian)", fontsize=10,
        )  # fmt: skip
        figure.savefig(path, dpi=130, facecolor="#ffffff")


if __name__ == "__main__":
    for what, value in main(*sys.argv[1:2]).items():
        print(f"{what:<28} {value:.3f}")
