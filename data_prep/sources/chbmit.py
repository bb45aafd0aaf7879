"""CHB-MIT: long scalp EEG of 23 children and young people with epilepsy (Shoeb 2009, MIT; PhysioNet).

Seizures stand in a summary per case. Case chb21 is the same girl as chb01, a year and a half later.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from data_prep.layout.tree import folder, found, tree_item
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.raw_file import inside, open_raw
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording

# case → the person it is under another number
SAME_PERSON = {"chb21": "chb01"}
FILE = re.compile(r"(?P<case>chb\d\d)(?P<run>[a-z]?_\d+\+?)")
NAMED = re.compile(r"file name:\s*(\S+)", re.IGNORECASE)
TIME = re.compile(r"seizure\s*(?:\d+\s*)?(start|end) time:\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
NUMBER = re.compile(r"number of seizures in file:\s*(\d+)", re.IGNORECASE)
OTHER_KINDS = {"ECG": "ecg", "EKG": "ecg", "VNS": "misc", "LOC": "eog", "ROC": "eog", "EMG": "emg"}


class ChbMit(Source):
    """One recording per EDF file; a case that is a known person under another number is a session of that person.

    Events of kind "seizure" come from ``chbNN-summary.txt``; files that it does not name have none.

    Parameters
    ----------
    root : path
        Folder with chb01 … in it.
    """

    name = "chbmit"
    id = "chbmit"
    licence = "Open Data Commons Attribution Licence 1.0 (ODC-By)"
    citation = (
        "Shoeb 2009, Application of machine learning to epileptic seizure onset detection and treatment, PhD "
        "thesis, MIT; Goldberger et al. 2000, PhysioBank, PhysioToolkit, and PhysioNet, Circulation 101"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def list(self) -> list[Item]:
        """Return one item per EDF file."""
        root = folder(self.root, "CHB-MIT")
        items = []
        for path in found(root, "**/chb*.edf"):
            if who := FILE.fullmatch(path.stem):
                summary = path.parent / f"{who['case']}-summary.txt"
                subject = SAME_PERSON.get(who["case"], who["case"])
                session = who["case"] if subject != who["case"] else ""
                # "chb02_16+" continues "chb02_16"; the sign is lost in keys
                run = who["run"].removeprefix("_").replace("+", "plus")
                beside = [summary] if summary.exists() else []
                items.append(
                    tree_item(root, path, load, subject, session, run, subject=subject, session=session, beside=beside)
                )
        return items


def channel(name: str) -> tuple[str, str] | None:
    """Return name and kind of a channel; None for the placeholders called "-" and ".".

    T8-P8 is stored twice with the same signal; the first one is read.
    """
    plain = name.strip()
    if not plain.strip("-. "):
        return None
    return plain, next((k for start, k in OTHER_KINDS.items() if plain.upper().startswith(start)), "eeg")


def load(root: Path, name: str, subject: str, session: str, run: str) -> Recording:
    """Read one file with its seizures.

    Raises
    ------
    DataError
        When its case has no summary, or a seizure lies outside of it.
    """
    path = root / name
    case = session or subject
    summary = path.parent / f"{case}-summary.txt"
    if not summary.exists():
        raise DataError(f"{path.name}: {summary.name} is missing beside it, so its seizures are unknown")
    raw = open_raw(path, channel=channel)
    recording = recording_from_raw(
        raw,
        dataset="chbmit",
        subject=subject,
        session=session,
        run=run,
        modality="eeg",
        source_file=name,
        source_sha256=sha256_file(path),
    )
    spans = seizures(summary).get(path.name.lower(), [])
    events = [Event(onset_s=a, duration_s=b - a, kind="seizure", label="seizure") for a, b in spans]
    return replace(recording, events=inside(events, raw.n_times / raw.info["sfreq"], path))


def seizures(summary: Path) -> dict[str, list[tuple[float, float]]]:
    """Return file name (lower case) → (start, stop) of its seizures in seconds, from a case's summary.

    Raises
    ------
    DataError
        When starts, ends and announced numbers do not fit together.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    announced: dict[str, int] = {}
    file, start = "", None
    for line in summary.read_text(encoding="utf-8", errors="replace").splitlines():
        if named := NAMED.match(line.strip()):
            file, start = named[1].lower(), None
            spans.setdefault(file, [])
        elif number := NUMBER.match(line.strip()):
            announced[file] = int(number[1])
        elif time := TIME.match(line.strip()):
            if time[1].lower() == "start":
                start = float(time[2])
            elif start is None or not file or float(time[2]) <= start:
                raise DataError(f"{summary.name}: '{line.strip()}' has no start before it")
            else:
                spans[file].append((start, float(time[2])))
                start = None
    for file, n in announced.items():
        if n != len(spans.get(file, [])):
            raise DataError(f"{summary.name}: announces {n} seizures in {file} and gives {len(spans.get(file, []))}")
    return spans
