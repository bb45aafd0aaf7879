"""BCI Competition IV 2a: the GDF files with their separate labels, and the BNCI MAT files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..expected import Expected, Piece, Tree
from ..formats.gdf import put_gdf
from ..montages import words

RATE = 250
EEG = words("Fz FC3 FC1 FCz FC2 FC4 C5 C3 C1 Cz C2 C4 C6 CP3 CP1 CPz CP2 CP4 P1 Pz P2 POz")
NAMED = {"Fz", "C3", "Cz", "C4", "Pz"}
# the files name five electrodes and call all the others "EEG"
IN_FILE = [f"EEG-{n}" if n in NAMED else "EEG" for n in EEG] + ["EOG-left", "EOG-central", "EOG-right"]
CLASSES = ["left hand", "right hand", "feet", "tongue"]
CUES = r"hand|feet|foot|tongue"
LIMIT_UV = 100.0
GAP = 100
CUE_AT = 2 * RATE
EYES = {0: 276, 1: 277, 2: 1072}


def runs_of(events: list[tuple[int, int]]) -> list[tuple[float, str]]:
    """(trial start, class from 1) → the cue, two seconds into the trial."""
    return [((at + CUE_AT) / RATE, CLASSES[y - 1]) for at, y in events]


def session_gdf(
    path: Path, rng: np.random.Generator, *, labels: list[int], hidden: bool, saturated: bool = False
) -> list[Piece]:
    """Write three EOG blocks and two runs of two trials, parted by lost samples; return the runs."""
    lengths = [500, 500, 500, 4000, 4100]
    counts = np.full((sum(lengths) + 4 * GAP, 25), -32768, np.int16)
    events, pieces, at, left = [], [], 0, list(labels)
    for b, n in enumerate(lengths):
        block = rng.integers(-8000, 8000, (n, 25)).astype(np.int16)
        asked = (block[:, :22] + 0.5) * LIMIT_UV / 32767.5
        events.append((at, 32766, 0))
        if b in EYES:
            events.append((at, EYES[b], n))
        else:
            trials = [(t, left.pop(0)) for t in (50, 2000)]
            for i, (t, y) in enumerate(trials):
                if i == 1:
                    events.append((at + t, 1023, 1875))
                events += [(at + t, 768, 1875), (at + t + CUE_AT, 783 if hidden else 768 + y, 313)]
            if saturated:
                # one sample of one electrode at the limit looks like the filling between runs
                block[1500, 5] = -32768
                asked[1500, 5] = np.nan
            pieces.append(Piece(values=asked, events=runs_of(trials), events_of=CUES))
        counts[at : at + n] = block
        at += n + GAP
    put_gdf(path, counts, rate_hz=RATE, names=IN_FILE, limit_uv=LIMIT_UV, events=events)
    return pieces


def expected(subject: str, part: str, pieces: list[Piece]) -> Expected:
    return Expected(
        subject=subject, session=None, part=part, modality="eeg", rate_hz=RATE, electrodes=EEG,
        kinds=["eeg"] * 22, units=["uV"] * 22, pieces=pieces,
    )  # fmt: skip


def write_gdf(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(1)
    recordings = []
    (root / "true_labels").mkdir()
    for subject in ("A01", "A09"):
        for letter, part in (("T", "train"), ("E", "test")):
            # the classes of the E files stand only in the MAT files, in the order of the cues
            labels = [int(y) for y in rng.permutation(4) + 1]
            savemat(root / f"true_labels/{subject}{letter}.mat", {"classlabel": np.array(labels, np.uint8)[:, None]})
            path = root / f"BCICIV_2a_gdf/{subject}{letter}.gdf"
            recordings.append(expected(subject, part, session_gdf(path, rng, labels=labels, hidden=letter == "E")))
    return Tree(source="bci_iv_2a", choices={"root": root}, recordings=recordings)


def write_gdf_saturated(root: Path) -> Tree:
    rng = np.random.default_rng(2)
    path = root / "BCICIV_2a_gdf/A03T.gdf"
    pieces = session_gdf(path, rng, labels=[2, 1, 4, 3], hidden=False, saturated=True)
    return Tree(source="bci_iv_2a", choices={"root": root}, recordings=[expected("A03", "train", pieces)])


def write_mat(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(3)
    recordings = []
    # A04T lost two of its three EOG blocks: its first run is the second struct, not the fourth
    for name, part, n_eog in (("A01T", "train", 3), ("A01E", "test", 3), ("A04T", "train", 1)):
        structs, pieces = [], []
        for b in range(n_eog + 6):
            run = b >= n_eog
            x = np.round(rng.normal(0, 12, (3300 + 10 * b if run else 500, 25)), 3)
            trials = [(t, int(rng.integers(1, 5))) for t in (30, 1700)] if run else []
            structs.append(
                {
                    "X": x,
                    "trial": np.array([[t + 1.0] for t, _ in trials]).reshape(-1, 1),
                    "y": np.array([[float(y)] for _, y in trials]).reshape(-1, 1),
                    "fs": 250.0,
                    "classes": np.array(CLASSES, dtype=object)[None],
                    "artifacts": np.array([[0.0], [1.0]])[: len(trials)].reshape(-1, 1),
                    "gender": "male",
                    "age": 22.0,
                }
            )
            if run:
                pieces.append(Piece(values=x[:, :22], events=runs_of(trials), events_of=CUES))
        cell = np.empty((1, len(structs)), dtype=object)
        cell[0] = structs
        savemat(root / f"{name}.mat", {"data": cell})
        recordings.append(expected(name[:3], part, pieces))
    return Tree(source="bci_iv_2a", choices={"root": root}, recordings=recordings)
