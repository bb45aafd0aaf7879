"""Siena Scalp EEG: 14 people with epilepsy, 47 seizures (Detti 2020, PhysioNet; Detti et al. 2020, Processes 8).

The seizure lists were typed by hand: times of day with dots, colons or both, lines left out, a letter O for a
zero. Times become seconds from the recording's start; what the clock said is not kept.
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

DAY_S = 86400.0
FILE = re.compile(r"(PN\d\d)-(.+)")
NAMED = re.compile(r"file name\s*:?\s*(\S+)", re.IGNORECASE)
TIMED = re.compile(r"(registration|seizure)?\s*(start|end)\s+time\s*:?(.*)", re.IGNORECASE)
CLOCK = re.compile(r"(\d{1,2})\D+(\d{1,2})\D+(\d{1,2})")
# (file, line's end as printed) → as it must have been; the seizure would have lasted an hour longer
MISPRINTS = {("pn00-3.edf", "19.29.29"): "18.29.29"}


class Siena(Source):
    """One recording per EDF file, with events of kind "seizure" from its person's list.

    Parameters
    ----------
    root : path
        Folder with PN00 … in it.
    """

    name = "siena"
    id = "siena"
    licence = "CC BY 4.0"
    citation = (
        "Detti, Vatti & Zabalo Manrique de Lara 2020, EEG synchronization analysis for seizure prediction: a "
        "study on data of noninvasive recordings, Processes 8; Detti 2020, Siena Scalp EEG Database, "
        "PhysioNet"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def list(self) -> list[Item]:
        """Return one item per EDF file."""
        root = folder(self.root, "the Siena scalp EEG set")
        items = []
        for path in found(root, "**/PN*.edf"):
            if who := FILE.fullmatch(path.stem):
                beside = [p for p in (path.parent / f"Seizures-list-{who[1]}.txt",) if p.exists()]
                items.append(tree_item(root, path, load, who[1], who[2], subject=who[1], beside=beside))
        return items


def channel(name: str) -> tuple[str, str] | None:
    """Return name and kind of a channel: electrodes are called ``EEG …``; pulse, oxygen and markers are left out."""
    upper = name.strip().upper()
    if "EKG" in upper or "ECG" in upper:
        return name.strip(), "ecg"
    return (name.strip(), "eeg") if upper.startswith("EEG ") else None


def load(root: Path, name: str, subject: str, run: str) -> Recording:
    """Read one file with its seizures.

    Raises
    ------
    DataError
        When its person has no list, or a seizure lies outside of it.
    """
    path = root / name
    table = path.parent / f"Seizures-list-{subject}.txt"
    if not table.exists():
        raise DataError(f"{path.name}: {table.name} is missing beside it, so its seizures are unknown")
    raw = open_raw(path, channel=channel)
    started = raw.info["meas_date"]
    began_s = None if started is None else float(started.hour * 3600 + started.minute * 60 + started.second)
    recording = recording_from_raw(
        raw,
        dataset="siena",
        subject=subject,
        run=run,
        modality="eeg",
        source_file=name,
        source_sha256=sha256_file(path),
    )
    files = [p.name for p in found(path.parent, "PN*.edf")]
    spans = seizures(table, path.name, began_s, alone=len(files) == 1)
    events = [Event(onset_s=a, duration_s=b - a, kind="seizure", label="seizure") for a, b in spans]
    return replace(recording, events=inside(events, raw.n_times / raw.info["sfreq"], path))


def clock_s(text: str) -> float | None:
    """Return a time of day in seconds, whatever stands between its numbers; None when there are not three."""
    fits = CLOCK.search(text)
    return None if fits is None else float(int(fits[1]) * 3600 + int(fits[2]) * 60 + int(fits[3]))


def seizures(table: Path, file: str, began_s: float | None = None, *, alone: bool = False) -> list[tuple[float, float]]:
    """Return (start, stop) of a file's seizures in seconds from its start.

    Parameters
    ----------
    table : Path
        The person's list.
    file : str
        Name of the EDF file.
    began_s : float, optional
        Time of day at which the file itself begins, for entries that lack the line.

    alone : bool
        The file is its person's only one, so that every entry is about it, however its name was typed.

    Raises
    ------
    DataError
        When a line's time cannot be read, or a seizure has no start or no end.
    """
    wanted = file.lower()
    here, start = "", None
    registered: dict[str, float] = {}
    found_spans: list[tuple[float, float]] = []
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if named := NAMED.match(text):
            # a letter O was typed for the zero of PN06
            here, start = re.sub(r"(?<=^pn)o", "0", named[1].lower()), None
            continue
        timed = TIMED.match(text)
        if timed is None or (here != wanted and not alone):
            continue
        printed = timed[3].strip()
        at = clock_s(MISPRINTS.get((here, printed), printed))
        if at is None:
            raise DataError(f"{table.name}: '{text}' is no time of day")
        what, side = (timed[1] or "seizure").lower(), timed[2].lower()
        if what == "registration":
            registered.setdefault(side, at)
        elif side == "start":
            start = at
        else:
            zero = registered.get("start", began_s)
            if start is None or zero is None:
                raise DataError(
                    f"{table.name}: '{text}' has no {'seizure' if start is None else 'registration'} start before it"
                )
            # recordings shorter than a day: an earlier time of day is the next day's
            onset = (start - zero) % DAY_S
            found_spans.append((onset, onset + (at - start) % DAY_S))
            start = None
    return found_spans
