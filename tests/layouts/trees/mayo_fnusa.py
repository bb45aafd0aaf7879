"""MAYO and FNUSA (Nejedly et al. 2020): one .mat per clip (key ``data``, 1 × 15000, 5 kHz) and ``segments.csv``.

A patient is a recording, a clip an interval. The unit of the values is stated nowhere, so they are as stored. What
the four classes are called is the reader's choice: `test_other_layouts` asks that calls and clips stay together.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy.io import savemat

from ..expected import Expected, Tree

RATE_HZ, N_SAMPLES = 5000.0, 15000
POWER_LINE, NOISE, PATHOLOGICAL, PHYSIOLOGICAL = range(4)
COLUMNS = ["index", "segment_id", "patient_id", "category_id", "reviewer_id", "channel", "electrode_type"]


def _table(path: Path, clips: list[tuple[str, int, int]], *, suffix: str = "") -> None:
    """Write (segment, patient, category) rows; reviewers, channels and electrode types take turns."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for i, (segment, patient, category) in enumerate(clips):
            kind = ("depth", "strip")[i % 2]
            rows.writerow([i, segment + suffix, patient, category, 1 + i % 3, f"e{i % 5}_{i % 2}", kind])


def _clip(path: Path, number: int) -> np.ndarray:
    """Write a clip whose median tells its number; returned as (time, channel)."""
    values = 100.0 * number + np.random.default_rng(number).normal(scale=5.0, size=(1, N_SAMPLES))
    savemat(path, {"data": values})
    return values.T


def _clips(patients: list[int], categories: list[int], *, first: int = 0) -> list[tuple[str, int, int]]:
    """Two clips of each class for each patient, patients interleaved in the table."""
    cells = [(p, c) for _ in range(2) for c in categories for p in patients]
    return [(f"{first + i:06d}", p, c) for i, (p, c) in enumerate(cells)]


def _write(root: Path, *, site: str, table: Path, folder: Path, patients: list[int], suffix: str = "") -> Tree:
    folder.mkdir(parents=True)
    clips = _clips(patients, [NOISE, PATHOLOGICAL, PHYSIOLOGICAL], first=120)
    _table(table, clips, suffix=suffix)
    values: dict[int, list[np.ndarray]] = {p: [] for p in patients}
    for segment, patient, _ in clips:
        values[patient].append(_clip(folder / f"{segment}.mat", int(segment)))
    (folder / "000000.mat").write_bytes((folder / f"{clips[0][0]}.mat").read_bytes())  # in no row of the table
    return Tree(
        source="mayo_fnusa",
        choices={"root": root, "site": site},
        recordings=[
            Expected(
                subject=str(p),
                session=None,
                modality="ieeg",
                rate_hz=RATE_HZ,
                n_samples=[N_SAMPLES] * len(v),
                values={0: v[0], 3: v[3], 5: v[5]},
            )
            for p, v in values.items()
        ],
    )


def write_mayo(root: Path) -> Tree:
    """The table beside the folder of clips."""
    folder = root / "MAYO"
    return _write(root, site="mayo", table=folder / "segments.csv", folder=folder / "DATASET_MAYO", patients=[0, 18, 3])


def write_fnusa(root: Path) -> Tree:
    """As unzipped: the table among the clips; ``segment_id`` with its suffix."""
    folder = root / "DATASET_FNUSA"
    return _write(root, site="fnusa", table=folder / "segments.csv", folder=folder, patients=[1, 13], suffix=".mat")


def write_object_array(root: Path) -> Tree:
    """A cell array where numbers belong."""
    folder = root / "DATASET_MAYO"
    folder.mkdir()
    _table(folder / "segments.csv", [("000001", 0, NOISE), ("000777", 9, NOISE)])
    values = _clip(folder / "000001.mat", 1)
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.zeros(3), "text"
    savemat(folder / "000777.mat", {"data": cells})
    return Tree(
        source="mayo_fnusa",
        choices={"root": root, "site": "mayo"},
        recordings=[Expected(subject="0", session=None, n_samples=[N_SAMPLES], values={0: values})],
        rejected=["000777"],
    )


def clips(root: Path, *, constant: bool = False, without_file: bool = False) -> tuple[Tree, dict[int, int]]:
    """One MAYO patient with all four classes, and the class of each clip by the hundreds of its median.

    `constant`: clip 2 has no variance (its median still tells its number); `without_file`: clip 1 has a row only.
    """
    folder = root / "DATASET_MAYO"
    folder.mkdir()
    table = _clips([7], [POWER_LINE, NOISE, PATHOLOGICAL, PHYSIOLOGICAL])
    _table(folder / "segments.csv", table)
    for segment, _, _ in table:
        _clip(folder / f"{segment}.mat", int(segment))
    if constant:
        savemat(folder / "000002.mat", {"data": np.full((1, N_SAMPLES), 200.0)})
    if without_file:
        (folder / "000001.mat").unlink()
    tree = Tree(source="mayo_fnusa", choices={"root": root, "site": "mayo"}, recordings=[])
    return tree, {int(segment): category for segment, _, category in table}
