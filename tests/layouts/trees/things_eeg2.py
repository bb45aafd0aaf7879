"""THINGS-EEG2: the raw recordings (object arrays in .npy) and NICE's preprocessed trials (bare pickles named .npy)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.pickles import Call, numpy1_pickle, put_object_npy
from ..montages import words

EEG = words(
    "Fp1 Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 F2 F4 F6 F8 FT9 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 FT10 T7 C5 C3 C1 Cz "
    "C2 C4 C6 T8 TP9 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 TP10 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 Oz O2"
)
PARTS = {"training": "train", "test": "test"}
TARGET = 99999
NOT_TARGET = rf"^(?!.*{TARGET}).*\d"


def write_raw(root: Path) -> Tree:
    rng = np.random.default_rng(19)
    n = 3000
    recordings, targets = [], {}
    # training image 5 and test image 5 are different pictures; the second session shows training images again
    shown = {
        ("01", "01", "training"): [5, 16540, TARGET, 5, 731],
        ("01", "01", "test"): [5, 200, TARGET, 5, 1],
        ("01", "02", "training"): [16540, 12, 731, TARGET],
        ("10", "01", "test"): [1, 5],
    }
    for (subject, session, which), codes in shown.items():
        volts = np.round(rng.normal(0, 20, (63, n)), 3) * 1e-6
        onsets = [200 + 400 * i for i in range(len(codes))]
        stim = np.zeros((1, n))
        stim[0, onsets] = codes
        raw = {
            "raw_eeg_data": np.concatenate([volts, stim]), "ch_names": [*EEG, "stim"],
            "ch_types": ["eeg"] * 63 + ["stim"], "sfreq": 1000,
        }  # fmt: skip
        put_object_npy(root / f"Raw_data/sub-{subject}/ses-{session}/raw_eeg_{which}.npy", raw)
        said = [(t / 1000, c) for t, c in zip(onsets, codes, strict=True) if c != TARGET]
        targets[subject, session, PARTS[which]] = [t / 1000 for t, c in zip(onsets, codes, strict=True) if c == TARGET]
        piece = Piece(
            values=volts.T * 1e6,
            events=[(t, re.compile(rf"(^|\D)0*{c}$")) for t, c in said],
            events_of=NOT_TARGET,
            stimuli=[f"{which} {c}" for _, c in said],
        )
        recordings.append(
            Expected(
                subject=subject, session=session, part=PARTS[which], modality="eeg", rate_hz=1000, electrodes=EEG,
                kinds=["eeg"] * 63, units=["uV"] * 63, n_samples=[n], pieces=[piece],
            )
        )  # fmt: skip
    behaviour = {"response": np.zeros(10, int), "target_present": np.ones(10, int)}
    put_object_npy(root / "behaviour/sub-01/ses-01/behavioral_data.npy", behaviour)
    mark = root / "executed"
    raw["note"] = Call(os.system, f"touch {mark}")
    put_object_npy(root / "Raw_data/sub-10/ses-02/raw_eeg_test.npy", raw)

    def also(read: list[Recording]) -> None:
        assert not mark.exists()
        for r in read:
            at = targets[r.subject, r.session, r.part]
            # the doll that people had to find is none of the images
            assert not any(e.stimulus_id for e in r.events if any(abs(e.onset_s - t) < 1e-3 for t in at)), (
                r.recording_id
            )

    choices = {"root": root, "variant": "raw"}
    return Tree(source="things_eeg2", choices=choices, recordings=recordings, rejected=[""], also=also)


def write_preprocessed(root: Path) -> Tree:
    rng = np.random.default_rng(20)
    recordings = []
    # condition × repetition
    shapes = {"training": (3, 4), "test": (2, 6)}
    for subject in ("01", "02"):
        for which, (n_conditions, n_repeats) in shapes.items():
            data = np.round(rng.normal(0, 1, (n_conditions, n_repeats, 63, 250)), 4)
            values = {"preprocessed_eeg_data": data, "ch_names": list(EEG), "times": np.arange(250) / 250}
            path = root / f"Preprocessed_data_250Hz/sub-{subject}/preprocessed_eeg_{which}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(numpy1_pickle(values))
            pieces = [
                Piece(values=data[c, r].T, shown=(0.0, f"{which} {c}"))
                for c in range(n_conditions)
                for r in range(n_repeats)
            ]
            recordings.append(
                Expected(
                    # whitened: no µV any more
                    subject=subject, session=None, part=PARTS[which], modality="eeg", rate_hz=250, electrodes=EEG,
                    kinds=["eeg"] * 63, units=["au"] * 63, n_samples=[250] * len(pieces), pieces=pieces,
                )
            )  # fmt: skip
    mark = root / "executed"
    bad = root / "Preprocessed_data_250Hz/sub-03/preprocessed_eeg_test.npy"
    bad.parent.mkdir()
    bad.write_bytes(numpy1_pickle({**values, "note": Call(os.system, f"touch {mark}")}))

    def also(read: list[Recording]) -> None:
        assert not mark.exists()

    choices = {"root": root, "variant": "preprocessed"}
    return Tree(source="things_eeg2", choices=choices, recordings=recordings, rejected=[""], also=also)
