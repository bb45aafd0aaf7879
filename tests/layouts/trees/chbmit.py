"""CHB-MIT 1.0.0: EDF files by case, seizures in a text summary a case."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree
from ..formats.edf import microvolts, put_edf
from ..montages import words
from ..pieces import electrode

# T8-P8 stands twice
PAIRS = words(
    "FP1-F7 F7-T7 T7-P7 P7-O1 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2 FP2-F8 F8-T8 T8-P8 P8-O2 FZ-CZ CZ-PZ "
    "P7-T7 T7-FT9 FT9-FT10 FT10-T8 T8-P8"
)
UNIQUE = list(dict.fromkeys(PAIRS))
CHANGED = [*PAIRS[:4], "-", *PAIRS[4:8], "-", *PAIRS[8:12], "-", *PAIRS[12:16], "-", *PAIRS[16:18], "-", *PAIRS[18:]]
SEIZURE = re.compile(r"(?i)seizure")
RATE, LENGTH_S = 256, 10

# case → (files of its summary, files it leaves out, whether it gives the hours, "Seizure n" or "Seizure")
# file → (channels, seizures in seconds from its start)
CASES: dict[str, tuple[dict[str, tuple[list[str], list[tuple[int, int]]]], list[str], bool, bool]] = {
    "chb01": ({"chb01_01": (PAIRS, []), "chb01_03": (PAIRS, [(3, 7)])}, [], True, False),
    "chb02": ({"chb02_16": (PAIRS, [(1, 4)]), "chb02_16+": (PAIRS, [(1, 2), (5, 9)])}, [], True, True),
    "chb04": ({"chb04_01": (PAIRS, []), "chb04_28": ([*CHANGED, "ECG"], [(2, 8)])}, [], True, True),
    "chb07": ({"chb07_18": (PAIRS, []), "chb07_19": (PAIRS, [(4, 6)])}, [], True, False),
    "chb09": ({"chb09_08": ([*PAIRS, "VNS"], [(3, 5)])}, [], True, True),
    "chb17": ({"chb17a_03": (PAIRS, [(2, 5)])}, [], True, False),
    "chb21": ({"chb21_19": (PAIRS, [(6, 9)])}, [], True, False),
    "chb24": ({"chb24_01": (PAIRS, [(2, 3), (6, 8)])}, ["chb24_02"], False, True),
}


def summary(case: str) -> str:
    """Return the text that tells of a case's files."""
    files, _, hours, numbered = CASES[case]
    lines, before = ["Data Sampling Rate: 256 Hz", "*************************"], None
    for i, (name, (channels, seizures)) in enumerate(files.items()):
        if channels != before:
            lines += ["", "Channels in EDF Files:" if before is None else "Channels changed:", "*" * 22]
            lines += [f"Channel {k}: {c}" for k, c in enumerate(channels, 1)]
            before = channels
        lines += ["", f"File Name: {name}.edf"]
        # the hours run on over midnight
        lines += [f"File Start Time: {23 + i}:42:54", f"File End Time: {23 + i}:43:04"] if hours else []
        lines.append(f"Number of Seizures in File: {len(seizures)}")
        for k, (a, b) in enumerate(seizures, 1):
            n = f"{k} " if numbered else ""
            lines += [f"Seizure {n}Start Time: {a} seconds", f"Seizure {n}End Time: {b} seconds"]
    return "\n".join(lines) + "\n"


def write(root: Path) -> Tree:
    rng = np.random.default_rng(9)
    recordings, listed, with_seizures = [], [], ["chb07/chb07_18.edf"]
    for case, (told, untold, _, _) in CASES.items():
        for name, (channels, seizures) in {**told, **{n: (PAIRS, []) for n in untold}}.items():
            values = microvolts(rng, LENGTH_S * RATE, len(channels))
            doubled = [i for i, c in enumerate(channels) if c == "T8-P8"]
            values[:, doubled[1]] = values[:, doubled[0]]
            put_edf(root / f"{case}/{name}.edf", values, rate_hz=RATE, names=channels, record_s=1)
            listed.append(f"{case}/{name}.edf")
            if seizures:
                (root / f"{case}/{name}.edf.seizures").write_bytes(bytes([0, 236, 0, 0]))
                with_seizures += [] if case == "chb07" else [listed[-1]]
            piece = Piece(
                values=values[:, [channels.index(c) for c in UNIQUE]],
                electrodes=[electrode(c) for c in UNIQUE],
                events=[(float(a), SEIZURE, float(b - a)) for a, b in seizures],
                events_of=SEIZURE.pattern,
            )
            recordings.append(
                Expected(
                    # one girl came twice, a year and a half apart
                    subject="chb01" if case == "chb21" else case,
                    session=None, file=f"{name}.edf", part="", modality="eeg", rate_hz=RATE, electrodes=UNIQUE,
                    n_samples=[LENGTH_S * RATE], pieces=[piece],
                )
            )  # fmt: skip
        (root / f"{case}/{case}-summary.txt").write_text(summary(case))
    (root / "RECORDS").write_text("".join(f"{n}\n" for n in listed))
    # as published: it names the eighteenth file of case 7, the summary the nineteenth
    (root / "RECORDS-WITH-SEIZURES").write_text("".join(f"{n}\n" for n in sorted(with_seizures)))
    (root / "SUBJECT-INFO").write_text("Case\tGender\tAge (years)\nchb01\tF\t11\nchb21\tF\t13\n")

    def also(read: list[Recording]) -> None:
        sessions = {Path(r.source_file).name: r.session for r in read if r.subject == "chb01"}
        assert sessions["chb01_01.edf"] == sessions["chb01_03.edf"] != sessions["chb21_19.edf"]
        for recording in read:
            assert {c.kind for c in recording.signal.channels} == {"eeg"}, recording.recording_id
            assert {c.unit for c in recording.signal.channels} == {"uV"}, recording.recording_id

    return Tree(source="chbmit", choices={"root": root}, recordings=recordings, also=also)
