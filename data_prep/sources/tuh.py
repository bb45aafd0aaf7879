"""The Temple University Hospital EEG corpora: TUAB, TUEV and TUEG (Obeid & Picone 2016, Front Neurosci 10).

EDF trees whose folders say part and label. Names of channels are stored as ``EEG FP1-REF`` or ``-LE``; here they
are the electrodes, with the reference in the channel table. In TUEV's evaluation part a file's name begins with the
kind of event, so its subject is the folder.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.layout.tree import folder, found, tree_item
from data_prep.privacy import starred
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.raw_file import open_raw
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording

ELECTRODES = (
    "FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T3", "T4", "T5", "T6", "A1", "A2",
    "FZ", "CZ", "PZ", "T1", "T2",
)  # fmt: skip
CHANNEL = re.compile(r"(?:EEG\s+)?([A-Z]+\d*)-(REF|LE)")
PARTS = {"train": "train", "eval": "test"}
LABELS = ("normal", "abnormal")
# codes of TUEV's .rec files: spike and slow wave, generalized and lateralized periodic epileptiform discharges, eye
# movement, artifact, background
EVENTS = {1: "spsw", 2: "gped", 3: "pled", 4: "eyem", 5: "artf", 6: "bckg"}
FILE = re.compile(r"(?P<subject>[^_]+)_(?P<session>s\d+)(?:_(?P<run>\w+))?")
CITATIONS = {
    "tuab": "López et al. 2015, Automated identification of abnormal adult EEGs, IEEE SPMB",
    "tuev": "Harati et al. 2015, Improved EEG event classification using a differential energy feature, IEEE SPMB",
    "tueg": "Obeid & Picone 2016, The Temple University Hospital EEG data corpus, Frontiers in Neuroscience 10",
}


class Tuh(Source):
    """Every EDF file of one corpus.

    Parameters
    ----------
    root : path
        The corpus's folder (with ``edf`` in it) or ``edf`` itself.
    corpus : str
        "tuab": one event over the whole recording, "normal" or "abnormal"; "tuev": events of .rec (or .csv) files,
        one for all channels it was marked on; "tueg": no events.
    """

    name = "tuh"
    id = "tuh"
    licence = "TUH EEG agreement: free on request with a signed form, no redistribution"
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, corpus: str) -> None:
        if corpus not in CITATIONS:
            raise ConfigError(f"source 'tuh': corpus '{corpus}' is unknown: {nearest(corpus, CITATIONS)}")
        self.root, self.corpus = Path(root), corpus
        self.id, self.citation = corpus, CITATIONS[corpus]

    def describe(self) -> dict[str, Any]:
        """Return name and choice."""
        return {**super().describe(), "corpus": self.corpus}

    def list(self) -> list[Item]:
        """Return one item per EDF file."""
        root = folder(self.root, self.corpus.upper())
        items = []
        for path in found(root, "**/*.edf"):
            name = path.relative_to(root).as_posix()
            who = place(name, self.corpus, (root.name, root.parent.name))
            beside = [p for p in (path.with_suffix(".rec"), path.with_suffix(".csv")) if p.exists()]
            facts = (self.corpus, who)
            items.append(
                tree_item(
                    root,
                    path,
                    load,
                    *facts,
                    subject=who.subject,
                    session=who.session,
                    key=starred(name),
                    beside=beside,
                )
            )
        return items


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a file's path says."""

    subject: str
    session: str = ""
    run: str = ""
    part: str = ""
    label: str = ""


def place(name: str, corpus: str, above: tuple[str, str] = ("", "")) -> Place:
    """Return subject, session, run, part and label of a file.

    Parameters
    ----------
    name : str
        Path relative to the root.
    corpus : str
        "tuab", "tuev" or "tueg".
    above : tuple of str
        Names of the root and the folder it is in, for a root that is itself ``edf/train``.
    """
    path = PurePosixPath(name)
    folders = (above[1], above[0], *path.parts[:-1])
    part = next((PARTS[f] for f in reversed(folders) if f in PARTS), "")
    label = next((f for f in reversed(folders) if f in LABELS), "") if corpus == "tuab" else ""
    if corpus == "tuev":
        subject = folders[-1]
        run = "_".join(t for t in path.stem.split("_") if t and t != subject)
        return Place(subject=subject, run=run, part=part)
    who = FILE.fullmatch(path.stem)
    if who is None:
        return Place(subject=path.stem.split("_")[0], run="_".join(path.stem.split("_")[1:]), part=part, label=label)
    return Place(subject=who["subject"], session=who["session"], run=who["run"] or "", part=part, label=label)


def electrode(name: str) -> tuple[str, str] | None:
    """Return electrode and kind of a channel's name, None for what is no scalp or ear electrode."""
    fits = CHANNEL.fullmatch(name.strip().upper())
    return (fits[1], "eeg") if fits and fits[1] in ELECTRODES else None


def load(root: Path, name: str, corpus: str, who: Place) -> Recording:
    """Read one file with its labels.

    Raises
    ------
    DataError
        When it cannot be read, has no electrode of the corpus, or its folder says no label.
    """
    path = root / name
    if corpus == "tuab" and not who.label:
        raise DataError(f"{path.name}: lies in no folder 'normal' or 'abnormal', so it has no label")
    references = {fits[2] for c in open_raw(path).ch_names if (fits := CHANNEL.fullmatch(c.strip().upper()))}
    recording = recording_from_raw(
        open_raw(path, channel=electrode),
        dataset=corpus,
        subject=who.subject,
        session=who.session,
        run=who.run,
        modality="eeg",
        source_file=starred(name),
        source_sha256=sha256_file(path),
    )
    signal = recording.signal
    reference = references.pop() if len(references) == 1 else ""
    length_s = recording.valid[-1][1]
    events: tuple[Event, ...] = ()
    if corpus == "tuab":
        events = (Event(onset_s=0.0, duration_s=length_s, kind="recording", label=who.label, trial=0),)
    elif corpus == "tuev":
        events = marked(path, length_s)
    signal = replace(signal, channels=tuple(replace(c, reference=reference) for c in signal.channels))
    return replace(recording.with_signal(signal), events=events, part=who.part)


def marked(path: Path, length_s: float) -> tuple[Event, ...]:
    """Return the events of the .rec or .csv file beside an EDF file.

    Spans are clipped to the recording, what lies beyond its end is left out, and a span marked on several
    channels of the bipolar montage is one event.

    Raises
    ------
    DataError
        When there is no such file, or a line of it is not what it should be.
    """
    rec, table = path.with_suffix(".rec"), path.with_suffix(".csv")
    if rec.exists():
        rows = rec_rows(rec)
    elif table.exists():
        rows = csv_rows(table)
    else:
        raise DataError(f"{path.name}: has no {rec.name} beside it, so it has no events")
    spans = sorted({(max(a, 0.0), min(b, length_s), label) for a, b, label in rows if a < length_s and b > 0})
    return tuple(
        Event(onset_s=a, duration_s=b - a, kind="marked", label=label, trial=i) for i, (a, b, label) in enumerate(spans)
    )


def rec_rows(path: Path) -> list[tuple[float, float, str]]:
    """Return (start, stop, label) of a .rec file: lines of channel, start, stop, code, without a header."""
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            _, start, stop, code = (float(x) for x in line.split(","))
            rows.append((start, stop, EVENTS[int(code)]))
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{path.name}: line {number} is '{line.strip()[:60]}', expected channel,start,stop,code with a code "
                "from 1 to 6"
            ) from error
    return rows


def csv_rows(path: Path) -> list[tuple[float, float, str]]:
    """Return (start, stop, label) of a .csv file with the columns start_time, stop_time and label."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return [
            (float(r["start_time"]), float(r["stop_time"]), r["label"].strip().lower())
            for r in csv.DictReader(x for x in lines if x.strip() and not x.startswith("#"))
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path.name}: is not a table with the columns start_time, stop_time and label") from error
