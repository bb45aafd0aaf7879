"""PhysioNet motor imagery (eegmmidb 1.0.0): one EDF+ a run, whose codes change their meaning with the run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ..expected import Expected, Tree
from ..formats.edf import microvolts, put_edf
from ..montages import words

# as in the files: width 4, filled with dots
NAMES = words(
    "Fc5. Fc3. Fc1. Fcz. Fc2. Fc4. Fc6. C5.. C3.. C1.. Cz.. C2.. C4.. C6.. Cp5. Cp3. Cp1. Cpz. Cp2. Cp4. Cp6. Fp1. "
    "Fpz. Fp2. Af7. Af3. Afz. Af4. Af8. F7.. F5.. F3.. F1.. Fz.. F2.. F4.. F6.. F8.. Ft7. Ft8. T7.. T8.. T9.. T10. "
    "Tp7. Tp8. P7.. P5.. P3.. P1.. Pz.. P2.. P4.. P6.. P8.. Po7. Po3. Poz. Po4. Po8. O1.. Oz.. O2.. Iz.."
)
SIDES = (re.compile(r"(?i)\bleft\b(?!.*right)"), re.compile(r"(?i)\bright\b(?!.*left)"))
BOTH = (re.compile(r"(?i)fists"), re.compile(r"(?i)feet"))
MEANING = {3: SIDES, 4: SIDES, 5: BOTH, 6: BOTH, 7: SIDES, 14: BOTH}
REST = re.compile(r"(?i)rest|eyes")


def write(root: Path) -> Tree:
    rng = np.random.default_rng(4)
    recordings = []
    runs = [("S001", r) for r in (1, 2, 3, 4, 5, 6)] + [("S109", 7), ("S109", 14)]
    for subject, run in runs:
        resting = run < 3
        n_s = 4 if resting else 13
        values = microvolts(rng, n_s * 160, 64)
        # rest and tasks in turn; the last task ends with the file
        notes = [(0.0, 4.0, "T0")] if resting else [(0.0, 4.2, "T0"), (4.2, 4.1, "T2"), (8.3, 4.2, "T1")]
        path = root / f"files/{subject}/{subject}R{run:02d}.edf"
        put_edf(path, values, rate_hz=160, names=NAMES, notes=notes, record_s=1)
        path.with_name(path.name + ".event").write_bytes(b"\x00\x04\x00\x00")
        meaning = {"T0": REST}
        if not resting:
            meaning |= dict(zip(("T1", "T2"), MEANING[run], strict=True))
        recordings.append(
            Expected(
                subject=subject, session="", run=f"{run:02d}", part="", modality="eeg", rate_hz=160, electrodes=NAMES,
                kinds=["eeg"] * 64, units=["uV"] * 64, n_samples=[n_s * 160], values={0: values},
                events=[(onset, meaning[text]) for onset, _, text in notes],
            )
        )  # fmt: skip
    # the files of S088, S092 and S100 were sampled at 128 Hz and their codes do not fit the protocol
    path = root / "files/S088/S088R03.edf"
    put_edf(path, microvolts(rng, 4 * 128, 64), rate_hz=128, names=NAMES, notes=[(0.0, 4.0, "T0")], record_s=1)
    path.with_name(path.name + ".event").write_bytes(b"\x00\x04\x00\x00")
    return Tree(source="physionet_mi", choices={"root": root}, recordings=recordings, rejected=["128"])
