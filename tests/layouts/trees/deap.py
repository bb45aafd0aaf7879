"""DEAP, the preprocessed Python files: Python 2's pickles, which are read without running anything in them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.pickles import hostile, numpy1_pickle, python2_pickle
from ..montages import words

EEG = words(
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
RATE, BASELINE_S, N = 128, 3, 8064
SCALES = ("valence", "arousal", "dominance", "liking")


def subject_data(rng: np.random.Generator, n_trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return data (trial, 40 channels, 63 s) and ratings (trial, 4)."""
    return np.round(rng.normal(0, 10, (n_trials, 40, N)), 3), np.round(rng.uniform(1, 9, (n_trials, 4)), 2)


def write(root: Path) -> Tree:
    rng = np.random.default_rng(14)
    folder = root / "data_preprocessed_python"
    folder.mkdir()
    recordings = []
    for subject in ("01", "32"):
        data, labels = subject_data(rng, 3)
        (folder / f"s{subject}.dat").write_bytes(python2_pickle({"labels": labels, "data": data}))
        pieces = [
            Piece(
                values=x[:32].T, ratings=dict(zip(SCALES, map(float, y), strict=True)),
                # the video begins after three seconds; trial i is video i for everyone
                shown=(float(BASELINE_S), f"video {k}"),
            )
            for k, (x, y) in enumerate(zip(data, labels, strict=True))
        ]  # fmt: skip
        recordings.append(
            Expected(
                subject=re.compile(rf"(^|\D){subject}$"), session=None, file=f"s{subject}.dat", part="", modality="eeg", rate_hz=RATE,
                electrodes=EEG, kinds=["eeg"] * 32, units=["uV"] * 32, n_samples=[N] * 3, pieces=pieces,
            )
        )  # fmt: skip
    return Tree(source="deap", choices={"root": root}, recordings=recordings)


def write_hostile(root: Path) -> Tree:
    """Files that are whole but for one more value, which calls a function when a plain unpickler meets it."""
    rng = np.random.default_rng(15)
    folder = root / "data_preprocessed_python"
    folder.mkdir()
    mark = root / "executed"
    made = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    calls = [
        ("os", "system", f"touch {mark}"), ("posix", "system", f"touch {mark}"), ("__builtin__", "eval", made),
        ("builtins", "eval", made), ("numpy", "load", str(folder / "s01.dat")),
    ]  # fmt: skip
    for k, call in enumerate(calls, 1):
        data, labels = subject_data(rng, 1)
        opcodes = hostile(*call)
        (folder / f"s{k:02d}.dat").write_bytes(python2_pickle({"labels": labels, "data": data}, opcodes))

    # an array of Python objects is none of numbers, even if it holds nothing else
    data, labels = subject_data(rng, 1)
    objects = {"labels": labels, "data": data.astype(object)}
    (folder / f"s{len(calls) + 1:02d}.dat").write_bytes(numpy1_pickle(objects, 2))

    def also(read: list[Recording]) -> None:
        assert not mark.exists()

    return Tree(source="deap", choices={"root": root}, recordings=[], rejected=[""] * (len(calls) + 1), also=also)
