"""The sidecars of a BIDS recording: which there are, its events, and where its electrodes are.

After the Brain Imaging Data Structure specification 1.10 (events: "Task events"; electrodes and coordsystem: "EEG",
"iEEG"). participants.tsv and scans.tsv (ages, sexes, dates) are never read here.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.privacy import is_code
from data_prep.readers.from_mne import Note
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Event

ABSENT = ("", "n/a", "N/A", "nan", "NaN")
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


class Place(NamedTuple):
    """Position of an electrode in metres, and the frame it is in."""

    x: float
    y: float
    z: float
    frame: str


def find_sidecar(root: Path, file: Path, suffix: str) -> Path | None:
    """Return the nearest file ``*_<suffix>`` whose entities are all among those of `file` (inheritance principle).

    Parameters
    ----------
    root, file : Path
        Of the dataset and of the recording.
    suffix : str
        ``events.tsv``, ``eeg.json`` …
    """
    mine = set(file.name.split(".")[0].split("_"))
    folder = file.parent
    while True:
        found = [
            p
            for p in sorted(folder.glob(f"*{suffix}"))
            if p.name == suffix or set(p.name.removesuffix(f"_{suffix}").split("_")) <= mine
        ]
        if found:
            return max(found, key=lambda p: len(p.name))
        if folder == root or folder == folder.parent:
            return None
        folder = folder.parent


def require_sidecars(root: Path, file: Path, datatype: str) -> None:
    """Check that the sidecars are there without which the values cannot be understood.

    Raises
    ------
    DataError
        That names the first one missing.
    """
    needed = [f"{datatype}.json"] + (["channels.tsv"] if datatype == "ieeg" else [])
    for suffix in needed:
        if find_sidecar(root, file, suffix) is None:
            raise DataError(
                f"its sidecar *_{suffix} is missing, which BIDS requires; add it, or pass source.sidecars=optional"
            )


def read_tsv(path: Path) -> list[dict[str, str]]:
    """Read a table of tab-separated values.

    Raises
    ------
    DataError
        When a row has another length than the header.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            rows = [r for r in csv.reader(f, delimiter="\t", quoting=csv.QUOTE_NONE) if r]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: is not readable as UTF-8 text ({error})") from error
    if not rows:
        raise DataError(f"{path.name}: is empty, expected a header")
    for i, row in enumerate(rows[1:], 2):
        if len(row) != len(rows[0]):
            raise DataError(f"{path.name}: line {i} has {len(row)} fields, its header has {len(rows[0])}")
    return [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def events_of_table(path: Path, *, levels: Collection[str] = ()) -> tuple[tuple[Event, ...], list[Note]]:
    """Read events.tsv: trial_type → label, value → value, stim_file → stimulus_id.

    Parameters
    ----------
    path : Path
        The table.
    levels : collection of str
        Trial types that events.json describes: a text of several words is a label only when it is one of them, since
        it may be a note about a person otherwise.

    Returns
    -------
    events : tuple of Event
        Trials numbered by onset. Rows before the recording (negative onset) and rows that say nothing are left out.
    bad : list of Note
        Rows whose type begins with "bad": spans that are not valid.

    Raises
    ------
    DataError
        When a column is missing or a time is no number.
    """
    rows = read_tsv(path)
    for column in ("onset", "duration"):
        if rows and column not in rows[0]:
            raise DataError(f"{path.name}: column '{column}' is missing, which BIDS requires")
    found, bad = [], []
    for line, row in enumerate(rows, 2):
        onset = _number(row["onset"], f"{path.name}: onset in line {line}")
        duration = _number(row["duration"], f"{path.name}: duration in line {line}")
        if math.isnan(onset):
            continue
        duration = 0.0 if math.isnan(duration) else duration
        text, stimulus = _present(row.get("trial_type")), _present(row.get("stim_file"))
        code = _present(row.get("value"))
        if text.lower().startswith("bad"):
            bad.append((onset, duration, text))
            continue
        label = next((t for t in (text, code) if t and (is_code(t) or t in levels)), "")
        if onset < 0 or not (label or stimulus):
            continue
        value = float(code) if _is_number(code) else math.nan
        found.append(Event(onset_s=onset, duration_s=duration, kind="annotation", label=label, value=value,
                           stimulus_id=stimulus))  # fmt: skip
    found.sort(key=lambda e: e.onset_s)
    return tuple(replace(e, trial=i) for i, e in enumerate(found)), bad


def levels_of(path: Path | None) -> set[str]:
    """Return the trial types that events.json describes."""
    if path is None:
        return set()
    levels = read_sidecar(path).get("trial_type", {})
    return set(levels.get("Levels", {})) if isinstance(levels, Mapping) else set()


def places(root: Path, file: Path) -> dict[str, Place]:
    """Return the positions in electrodes.tsv, by channel name; of several coordinate systems an MNI one comes first.

    Raises
    ------
    DataError
        When there is an electrodes.tsv without the coordsystem.json that says what its numbers mean.
    """
    tables = _electrode_tables(root, file)
    if not tables:
        return {}
    best = min(tables, key=lambda p: (not _is_mni(_space(p)), p.name))
    space = _space(best)
    name = best.name.removesuffix("electrodes.tsv") + "coordsystem.json"
    about = best.with_name(name) if best.with_name(name).exists() else find_sidecar(root, best, "coordsystem.json")
    if about is None:
        raise DataError(f"{best.name}: the coordsystem.json that says what its numbers mean is missing")
    facts = read_sidecar(about)
    system = _first(facts, "CoordinateSystem")
    factor = METRES.get(_first(facts, "CoordinateUnits"))
    if factor is None:  # pixels, or not said: numbers without a meaning
        return {}
    frame = frame_of(space or system) if not system or system == "Other" else frame_of(system)
    found = {}
    for row in read_tsv(best):
        x, y, z = (_number(row.get(axis, ""), f"{best.name}: {axis} of {row.get('name')}") for axis in "xyz")
        found[row.get("name", "")] = Place(x * factor, y * factor, z * factor, frame)
    return found


def frame_of(system: str) -> str:
    """Return the name of a coordinate frame as in the channel table."""
    if _is_mni(system):
        return "mni"
    return {"CapTrak": "head", "ElektaNeuromag": "head", "": "unknown", "Other": "unknown"}.get(system, system.lower())


def read_sidecar(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    DataError
        When it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name}: is not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.name}: expected a JSON object")
    return content


def _electrode_tables(root: Path, file: Path) -> list[Path]:
    mine = set(file.name.split(".")[0].split("_"))
    return [
        p
        for p in sorted(file.parent.glob("*electrodes.tsv"))
        if {e for e in p.name.split("_")[:-1] if not e.startswith("space-")} <= mine
    ]


def _space(path: Path) -> str:
    return next((e.removeprefix("space-") for e in path.name.split("_") if e.startswith("space-")), "")


def _is_mni(space: str) -> bool:
    return space.lower().startswith(("mni", "fsaverage", "icbm"))


def _first(facts: Mapping[str, Any], ending: str) -> str:
    """Return iEEGCoordinateSystem, EEGCoordinateSystem … whichever is there."""
    return next((str(v) for k, v in sorted(facts.items()) if k.endswith(ending) and v not in ABSENT), "")


def _present(text: str | None) -> str:
    return "" if text is None or text.strip() in ABSENT else text.strip()


def _number(text: str, what: str) -> float:
    if text.strip() in ABSENT:
        return math.nan
    if not _is_number(text):
        raise DataError(f"{what} is no number")  # not quoted: it may be a note
    return float(text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
