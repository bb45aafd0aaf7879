"""Siena scalp EEG 1.0.0: seizures given by the clock on the wall, in lists typed by hand."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import numpy as np

from ..expected import Expected, Piece, Tree
from ..formats.edf import microvolts, put_edf
from ..montages import words

RATE = 512
NAMES = [
    f"EEG {n}"
    for n in words("Fp1 F3 C3 P3 O1 F7 T3 T5 Fc1 Fc5 Cp1 Cp5 F9 Fz Cz Pz Fp2 F4 C4 P4 O2 F8 T4 T6 Fc2 Fc6 Cp2 Cp6 F10")
]
SEIZURE = re.compile(r"(?i)seizure")
HEAD = "Data Sampling Rate: 512 Hz\n*************************\n\n"

# person → what its list says after the head, and file → (start on the wall, seconds, seizures from the start)
PEOPLE: dict[str, tuple[str, dict[str, tuple[str, int, list[tuple[int, int]]]]]] = {
    "PN00": (
        "Seizure n 1\nFile name: PN00-1.edf\nRegistration start time: 19.39.33\nRegistration end time:  19.39.53\n"
        "Seizure start time: 19.39.38\nSeizure end time: 19.39.45\n\n"
        # its end is printed one hour late
        "Seizure n 3\nFile name: PN00-3.edf\nRegistration start time: 18.28.19\nRegistration end time: 18.29.39\n"
        "Seizure start time: 18.28.29\nSeizure end time: 19.29.29\n",
        {"PN00-1": ("19:39:33", 20, [(5, 12)]), "PN00-3": ("18:28:19", 80, [(10, 70)])},
    ),
    "PN01": (
        "Seizure n 1\nFile name: PN01-1.edf\nRegistration start time: 19.00.44\nRegistration end time: 19.01.04\n"
        "Start time: 19.00.54\nEnd time: 19.01.00\n",
        {"PN01-1": ("19:00:44", 20, [(10, 16)])},
    ),
    "PN06": (
        # the letter O for the digit
        "Seizure n 1\nFile name: PNO6-1.edf\nRegistration start time: 04:21:22\nRegistration end time: 04:21:42\n"
        "Seizure start time: 04:21:25\nSeizure end time: 04:21:31\n",
        {"PN06-1": ("04:21:22", 20, [(3, 9)])},
    ),
    "PN10": (
        "Seizure n 4\nFile name: PN10-4.5.6.edf\nRegistration start time: 12.11.08\nRegistration end time: 12.11.38\n"
        "Seizure start time: 12.11.10\nSeizure end time: 12.11.13\n\n"
        "Seizure n 5\nFile name: PN10-4.5.6.edf\nRegistration start time: 12.11.08\nRegistration end time: 12.11.38\n"
        "Seizure start time: 12.11.18\nSeizure end time: 12.11.22\n\n"
        "Seizure n 6\nFile name: PN10-4.5.6.edf\nRegistration start time: 12.11.08\nRegistration end time: 12.11.38\n"
        "Seizure start time: 12.11.28\nSeizure end time: 12.11.33\n",
        {"PN10-4.5.6": ("12:11:08", 30, [(2, 5), (10, 14), (20, 25)])},
    ),
    "PN12": (
        # points and colons mixed; the second block has no registration lines
        "Seizure n 1\nFile name: PN12-1.2.edf\nRegistration start time: 16.13.20\nRegistration end time: 16.13.50\n"
        "Seizure start time: 16:13.23\nSeizure end time: 16.13:29\n\n"
        "Seizure n 2\nFile name: PN12-1.2.edf\nSeizure start time: 16.13.40\nSeizure end time: 16.13.46\n",
        {"PN12-1.2": ("16:13:20", 30, [(3, 9), (20, 26)])},
    ),
    "PN13": (
        "Seizure n 1\nFile name: PN13-1.edf\nRegistration start time: 23.59.50\nRegistration end time: 00.00.10\n"
        "Seizure start time: 23.59.58\nSeizure end time: 00.00.04\n",
        {"PN13-1": ("23:59:50", 20, [(8, 14)])},
    ),
    "PN16": (
        "Seizure n 1\nFile name: PN16-1.edf\nRegistration start time: 23.59.50\nRegistration end time: 00.00.10\n"
        "Seizure start time: 00.00.02\nSeizure end time: 00.00.07\n",
        {"PN16-1": ("23:59:50", 20, [(12, 17)])},
    ),
}


def write(root: Path) -> Tree:
    rng = np.random.default_rng(10)
    recordings = []
    for person, (text, files) in PEOPLE.items():
        for name, (wall, n_s, seizures) in files.items():
            values = microvolts(rng, n_s * RATE, 29)
            put_edf(
                root / f"{person}/{name}.edf", values, rate_hz=RATE, names=NAMES, record_s=1,
                others=[("EKG EKG", microvolts(rng, n_s * RATE, 1)[:, 0], RATE)],
                start=datetime.time.fromisoformat(wall),
            )  # fmt: skip
            events = [(float(a), SEIZURE, float(b - a)) for a, b in seizures]
            recordings.append(
                Expected(
                    subject=person, session=None, file=f"{name}.edf", part="", modality="eeg", rate_hz=RATE,
                    electrodes=NAMES, kinds=["eeg"] * 29, units=["uV"] * 29, n_samples=[n_s * RATE],
                    pieces=[Piece(values=values, events=events, events_of=SEIZURE.pattern)],
                )
            )  # fmt: skip
        (root / f"{person}/Seizures-list-{person}.txt").write_text(HEAD + text)
    (root / "subject_info.csv").write_text("patient_id,age_years,gender\nPN00,55,Male\nPN01,46,Male\n")
    return Tree(source="siena", choices={"root": root}, recordings=recordings)
