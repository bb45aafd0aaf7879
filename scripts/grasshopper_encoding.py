"""How well the grasshopper's spikes follow from the sound it heard: python scripts/grasshopper_encoding.py [RUNS …].

Counts per bin from the modulation of the last 50 ms (1 kHz), five contiguous folds with 50 ms left out on either side;
correlation of counts predicted and found. Ridge is the reference (r .46 and .37 at 2 ms, .44 and .33 at 5 ms); a Poisson
model with a quadratic term, and one that sees the cell's own spikes before the bin too; the same with the stimulus shifted
by half the recording is chance. RUNS are folders of networks (`experiment=grasshopper_encoding`), a fold each, scored on the
same fifths; `scripts/evidence_spikes.sh` with PARTS=grasshopper trains them.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import Ridge

from data_prep.sources.grasshopper import DURATION_S, ENVELOPE_HZ, envelope, load, read_stimulus
from neurofm.benchmarks.baselines.poisson_glm import PoissonGlm
from neurofm.benchmarks.population.metrics import bits_per_spike
from neurofm.data.dataset import Dataset
from neurofm.data.storage.events import bin_counts
from neurofm.hub.load import load_model
from neurofm.schema.batch import NeuralBatch, StreamValues
from neurofm.schema.recording import EventStream

HISTORY_S, N_FOLDS = 0.05, 5


def taps(values: np.ndarray, n_bins: int, per_bin: int, n_taps: int) -> np.ndarray:
    """Return the last `n_taps` samples up to the end of each bin, (bin, tap); zeros before the beginning."""
    padded = np.concatenate([np.zeros(n_taps), values])
    last = per_bin * np.arange(1, n_bins + 1)
    return padded[last[:, None] + np.arange(n_taps)]


def across(x: np.ndarray, y: np.ndarray, margin: int, fit: Callable[[np.ndarray, np.ndarray], object]) -> np.ndarray:
    """Predict every fifth from the others; features are scaled on what is learned from."""
    said = np.zeros(len(y))
    for test in np.array_split(np.arange(len(y)), N_FOLDS):
        train = np.r_[0 : max(test[0] - margin, 0), min(test[-1] + 1 + margin, len(y)) : len(y)]
        mean, scale = x[train].mean(0), np.maximum(x[train].std(0), 1e-9)
        model = fit((x[train] - mean) / scale, y[train])
        said[test] = np.ravel(model.predict((x[test] - mean) / scale))  # type: ignore[attr-defined]
    return said


def show(run: object, bin_s: float, name: str, said: np.ndarray, y: np.ndarray) -> None:
    """Print correlation and bits per spike over the recording, and the correlation in each fifth."""
    bits = float("nan") if name.startswith("ridge") else bits_per_spike(said[:, None], y[:, None])
    of_folds = zip(np.array_split(said, N_FOLDS), np.array_split(y, N_FOLDS), strict=True)
    each = " ".join(f"{np.corrcoef(a, b)[0, 1]:6.3f}" for a, b in of_folds)
    r = np.corrcoef(said, y)[0, 1]
    print(f"stimulus {run}, {1000 * bin_s:g} ms, {name:<32} {r:6.3f} {bits:6.3f}   {each}", flush=True)


def of_network(folder: Path) -> tuple[str, float, int, np.ndarray, np.ndarray]:
    """Return sound, bin, fold, and counts predicted and found in the fold, of one trained network.

    It reads the ten seconds as one window; each bin is told from what came before it.
    """
    loaded = load_model(folder)
    data = loaded.card["provenance"]["data"]
    run, bin_s, fold = str(data["select"]["run"]), float(data["bin_s"]), int(data["split"]["fold"])
    dataset = Dataset(data["path"], bin_s=bin_s)
    (r,) = dataset.select(run=run)
    y = dataset.read_interval(r, 0)
    heard, time_s = dataset.read_stream(r, 0.0, DURATION_S, stream="modulation")
    batch = NeuralBatch(
        signal=torch.from_numpy(y.T[None].astype(np.float32)), channel_mask=torch.ones(1, 1, dtype=torch.bool),
        time_mask=torch.ones(1, len(y), dtype=torch.bool), rate_hz=1 / bin_s, channel_ids=torch.ones(1, 1, dtype=torch.long),
        streams={
            "modulation": StreamValues(
                torch.from_numpy(heard)[None].float(), torch.from_numpy(time_s)[None], torch.ones(1, len(heard), dtype=torch.bool)
            )
        },
    )  # fmt: skip
    with torch.inference_mode():
        said = loaded.objective.predict(loaded.model, batch)[0, 0].double().numpy()
    test = np.array_split(np.arange(len(y)), N_FOLDS)[fold]
    return run, bin_s, fold, said[test], y[test, 0].astype(float)


def networks(runs: str) -> None:
    """Print a line per recording and bin width of the networks under a folder."""
    found: dict[tuple[str, float], dict[int, tuple[np.ndarray, np.ndarray]]] = defaultdict(dict)
    for card in sorted(Path(runs).glob("**/card.json")):
        run, bin_s, fold, said, y = of_network(card.parent)
        if fold in found[run, bin_s]:
            raise SystemExit(f"{runs}: holds two networks of stimulus {run}, {bin_s:g} s, fold {fold}")
        found[run, bin_s][fold] = said, y
    if any(len(folds) < N_FOLDS for folds in found.values()):
        raise SystemExit(f"{runs}: does not hold all {N_FOLDS} folds of each stimulus and bin")
    for (run, bin_s), folds in sorted(found.items()):
        said, y = (np.concatenate([folds[k][i] for k in sorted(folds)]) for i in (0, 1))
        show(run, bin_s, runs, said, y)


def main() -> None:
    """Print a line per recording, bin width and method."""
    print(f"{'':<50} r      bits/spike  r in each fifth")
    for bin_s in (0.002, 0.005):
        for run in (1, 2):
            spikes = load(run).first
            assert isinstance(spikes, EventStream)
            time_s, unit = spikes.read(0, 0.0, DURATION_S)
            n, per_bin = round(DURATION_S / bin_s), round(bin_s * ENVELOPE_HZ)
            y = bin_counts(time_s, unit, start_s=0, n_bins=n, bin_s=bin_s, n_units=1)[:, 0].astype(float)
            heard = envelope(read_stimulus(run))
            heard = (heard - heard.mean()) / heard.std()
            n_taps, margin = round(HISTORY_S * ENVELOPE_HZ), round(HISTORY_S / bin_s)
            x = taps(heard, n, per_bin, n_taps)
            shifted = taps(np.roll(heard, len(heard) // 2), n, per_bin, n_taps)
            # own spikes in the bins before, up to 20 ms
            back = round(0.02 / bin_s)
            own = np.stack([np.r_[np.zeros(k), y[:-k]] for k in range(1, back + 1)], axis=1)

            def ridge(a: np.ndarray, b: np.ndarray) -> object:
                return Ridge(alpha=100.0).fit(a, b)

            def poisson(a: np.ndarray, b: np.ndarray) -> object:
                return PoissonGlm(alpha=0.01).fit(a, b[:, None])

            for name, features, fit in (
                ("ridge", x, ridge),
                ("Poisson", np.c_[x, x**2], poisson),
                ("Poisson with own spikes", np.c_[x, x**2, own], poisson),
                ("ridge, stimulus shifted", shifted, ridge),
            ):
                said = across(features, y, margin, fit)
                show(run, bin_s, name, said, y)
    for runs in sys.argv[1:]:
        networks(runs)


if __name__ == "__main__":
    main()
