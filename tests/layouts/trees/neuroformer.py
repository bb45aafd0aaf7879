"""Neuroformer's mouse visual cortex: arrays (neuron, bin of 10 ms) of counts, behaviour every 50 ms, stimulus frames.

Two kinds of folder: virtual navigation (``.npy``) and repeated clips (a pickled dict, trial → counts, beside a torch
file of the clips). Frames are 20 a second. `root` holds what the published folder holds.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..expected import Expected, Tree
from ._nwb import Truth

BIN_S, BEHAVIOUR_S = 0.01, 0.05


def _counts(n_neurons: int, n_bins: int, *, seed: int) -> np.ndarray:
    """Return counts, mostly zero, sometimes two in a bin; stored as float64."""
    return np.random.default_rng(seed).poisson(0.1, (n_neurons, n_bins)).astype(float)


def _events(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one event per count: start of the bin in seconds, and the neuron."""
    neuron, bins = np.nonzero(counts)
    n = counts[neuron, bins].astype(int)
    times, units = np.repeat(bins * BIN_S, n), np.repeat(neuron, n)
    order = np.lexsort((units, times))
    return times[order], units[order]


def _navigation(root: Path, name: str, *, n_neurons: int, n_bins: int, seed: int) -> np.ndarray:
    folder = root / f"VisNav_VR_Expt/{name}VRDataset/NF_1.5"
    folder.mkdir(parents=True)
    counts = _counts(n_neurons, n_bins, seed=seed)
    rng = np.random.default_rng(seed + 1)
    n_slow = n_bins * 10 // 50
    np.save(folder / "spikerates_dt_0.01.npy", counts)
    for behaviour in ("behavior_speed", "phi", "th"):
        np.save(folder / f"{behaviour}_dt_0.05.npy", rng.normal(size=n_slow))
    np.save(folder / "stimulus.npy", rng.integers(0, 255, (n_slow, 1, 8, 14)).astype(np.uint8))
    (folder.parent / "selection.csv").write_text("\n".join(str(i + 1) for i in range(0, n_neurons, 2)) + "\n")
    return counts


def _tree(root: Path, recordings: list[Expected]) -> Tree:
    return Tree(source="neuroformer", choices={"root": root}, recordings=recordings)


def write_medial(root: Path) -> Tree:
    """More neurons than bins: axes are told by the file, not by which is longer."""
    _navigation(root, "Medial", n_neurons=120, n_bins=100, seed=1)
    return _tree(root, [Expected(subject=None, session=None, task=None, kinds=["unit"] * 120, duration_s=[1.0])])


def write_lateral(root: Path) -> Tree:
    _navigation(root, "Lateral", n_neurons=12, n_bins=2000, seed=3)
    return _tree(root, [Expected(subject=None, session=None, task=None, kinds=["unit"] * 12, duration_s=[20.0])])


def _clips(root: Path) -> dict[int, np.ndarray]:
    """Write 60 trials: 1–20 saw clip 0, 21–40 clip 1, 41–60 clip 2."""
    folder = root / "Combo3_V1AL"
    folder.mkdir(parents=True)
    counts = {t: _counts(9, 320, seed=100 + t) for t in range(1, 61)}
    (folder / "Combo3_V1AL.pkl").write_bytes(pickle.dumps(counts, protocol=4))
    frames = torch.arange(3 * 64 * 8 * 14, dtype=torch.float32).reshape(3, 64, 1, 8, 14)
    torch.save(frames, folder / "Combo3_V1AL_stimulus.pt")
    return counts


def write_clips(root: Path) -> Tree:
    """One recording with a trial per key of the pickle."""
    _clips(root)
    return _tree(root, [Expected(subject=None, session=None, task=None, kinds=["unit"] * 9, duration_s=[3.2] * 60)])


class _Command:
    """Pickles as a call of a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.system, (self.command,)


def command_in_pickle(root: Path) -> Tree:
    """Clips with a pickle that makes the file `executed` in `root` when it is opened in the usual way."""
    _clips(root)
    content = {1: _counts(9, 320, seed=1), 2: _Command(f"touch '{root / 'executed'}'")}
    (root / "Combo3_V1AL/Combo3_V1AL.pkl").write_bytes(pickle.dumps(content))
    return _tree(root, [])


def spikes(root: Path) -> tuple[Tree, dict[str, Truth]]:
    """The one navigation set in the tree → for its one interval (20 s) the time of each count's bin, and the neuron.

    Times are bin starts in seconds from the recording's start, sorted, ties in order of neuron; a count of two is two
    events. The key is the folder's name, "Lateral": what the subject is called is the reader's choice.
    """
    counts = _navigation(root, "Lateral", n_neurons=12, n_bins=2000, seed=3)
    return _tree(root, [Expected(subject=None, session=None, kinds=["unit"] * 12)]), {"Lateral": [_events(counts)]}


def spikes_of_clips(root: Path) -> tuple[Tree, dict[str, Truth]]:
    """As `spikes`, key "V1AL": one entry per trial in order of trial number, times in seconds from the *trial's* start."""
    counts = _clips(root)
    tree = _tree(root, [Expected(subject=None, session=None, kinds=["unit"] * 9)])
    return tree, {"V1AL": [_events(counts[t]) for t in sorted(counts)]}
