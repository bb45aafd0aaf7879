"""DREAMER: one MAT file of nested structs with everyone in it, time first."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..montages import words

EEG = words("AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4")
N_SUBJECTS, N_TRIALS = 23, 3


def column(items: list[np.ndarray]) -> np.ndarray:
    """Return a MATLAB cell of n × 1."""
    cell = np.empty((len(items), 1), dtype=object)
    cell[:, 0] = items
    return cell


def write(root: Path) -> Tree:
    from scipy.io import savemat

    rng = np.random.default_rng(16)
    data, recordings = np.empty((1, N_SUBJECTS), dtype=object), []
    for s in range(N_SUBJECTS):
        # counts of the converter: a large offset under a small signal
        stimuli = [4200 + 0.5 * rng.integers(-80, 80, (256 + 16 * k + s, 14)) for k in range(N_TRIALS)]
        baseline = [4200 + 0.5 * rng.integers(-80, 80, (128, 14)) for _ in range(N_TRIALS)]
        ecg = {
            name: column([2048 + rng.integers(-90, 90, (2 * len(x), 2)).astype(float) for x in like])
            for name, like in (("baseline", baseline), ("stimuli", stimuli))
        }
        scores = {w: rng.integers(1, 6, (N_TRIALS, 1)) for w in ("Valence", "Arousal", "Dominance")}
        data[0, s] = {
            "Age": "22",
            "Gender": "male",
            "EEG": {"baseline": column(baseline), "stimuli": column(stimuli)},
            "ECG": ecg,
            **{f"Score{w}": v.astype(np.uint8) for w, v in scores.items()},
        }
        pieces = [
            Piece(
                values=stimuli[k], shown=(0.0, f"video {k}"),
                ratings={w.lower(): float(v[k, 0]) for w, v in scores.items()},
            )
            for k in range(N_TRIALS)
        ]  # fmt: skip
        recordings.append(
            Expected(
                subject=re.compile(rf"(^|\D)0*{s + 1}$"), session=None, part="", modality="eeg", rate_hz=128,
                electrodes=EEG, kinds=["eeg"] * 14, pieces=pieces,
            )
        )  # fmt: skip
    names = np.empty((1, 14), dtype=object)
    names[0] = EEG
    root_struct = {
        "Data": data, "EEG_SamplingRate": 128.0, "ECG_SamplingRate": 256.0, "EEG_Electrodes": names,
        "noOfSubjects": float(N_SUBJECTS), "noOfVideoSequences": float(N_TRIALS), "Disclaimer": "as is", "Version": "1.0.2",
    }  # fmt: skip
    savemat(root / "DREAMER.mat", {"DREAMER": root_struct})

    def also(read: list[Recording]) -> None:
        assert len({r.subject for r in read}) == N_SUBJECTS

    return Tree(source="dreamer", choices={"root": root}, recordings=recordings, also=also)
