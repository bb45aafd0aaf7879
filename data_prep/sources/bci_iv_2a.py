"""BCI competition IV, set 2a: four imagined movements, nine people, two sessions (Tangermann et al. 2012).

Two forms are about. GDF files, with the labels of the evaluation sessions in separate MAT files: mne knows only
five of the electrodes' names and fills the gaps between runs with the smallest value the file can hold. MAT
files of BNCI Horizon 2020: a struct per run, those without trials being eye movements for calibration.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.layout.tree import folder, found, tree_item
from data_prep.layout.trials import covariate, named_channels, trial_starts
from data_prep.readers.from_mne import notes_of, recording_from_raw
from data_prep.readers.mat import load_mat, shapes
from data_prep.readers.mat_struct import cells, field, numbers, text
from data_prep.readers.raw_file import open_raw
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

if TYPE_CHECKING:
    from mne.io import BaseRaw

EEG = (
    "Fz", "FC3", "FC1", "FCz", "FC2", "FC4", "C5", "C3", "C1", "Cz", "C2", "C4", "C6", "CP3", "CP1", "CPz", "CP2",
    "CP4", "P1", "Pz", "P2", "POz",
)  # fmt: skip
EOG = ("EOG1", "EOG2", "EOG3")
LABELS = {1: "left hand", 2: "right hand", 3: "feet", 4: "tongue"}
CUES = {"769": 1, "770": 2, "771": 3, "772": 4, "783": 0}
REJECTED = "1023"
OTHER = {"276": "eyes open", "277": "eyes closed", "1072": "eye movements"}
PARTS = {"T": "train", "E": "test"}
FILE = re.compile(r"(A\d\d)([TE])", re.IGNORECASE)
CUE_S = 2.0
IMAGERY_S = 4.0
RATE_HZ = 250.0
SCAN_S = 60.0


class BciIv2a(Source):
    """One recording per person and session; session T is the official training part, E the test part.

    Events of kind "cue", or "rejected cue" where an expert saw an artifact in the trial, last from the cue to the
    end of the imagery (4 s). The three EOG channels are covariates.

    Parameters
    ----------
    root : path
        Folder with A01T.gdf … and A01E.mat …, or with the MAT files of BNCI Horizon 2020.
    """

    name = "bci_iv_2a"
    id = "bci_iv_2a"
    licence = "free for research with registration; the copy of BNCI Horizon 2020 CC BY-ND 4.0"
    citation = "Tangermann et al. 2012, Review of the BCI competition IV, Frontiers in Neuroscience 6"
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path) -> None:
        self.root = Path(root)

    def list(self) -> list[Item]:
        """Return one item per session."""
        root = folder(self.root, "BCI competition IV 2a")
        named = {p: m for p in found(root, "**/*.gdf", "**/*.mat") if (m := FILE.fullmatch(p.stem))}
        recordings = {p for p in named if p.suffix == ".gdf"}
        with_gdf = {p.stem.upper() for p in recordings}
        labels = {p.stem.upper(): p for p in named if p.suffix == ".mat" and p.stem.upper() in with_gdf}
        recordings |= {p for p in named if p.suffix == ".mat" and p.stem.upper() not in with_gdf}
        items = []
        for path in sorted(recordings):
            who = (named[path][1].upper(), named[path][2].upper())
            beside = [labels[path.stem.upper()]] if path.stem.upper() in labels else []
            facts = (who, beside[0].relative_to(root).as_posix() if beside else "")
            load = load_gdf if path.suffix == ".gdf" else load_bnci
            items.append(tree_item(root, path, load, *facts, subject=who[0], session=who[1], beside=beside))
        return items


def load_gdf(root: Path, name: str, who: tuple[str, str], labels: str) -> Recording:
    """Read a GDF session with its label file.

    Raises
    ------
    DataError
        When it has not the 25 channels, or its labels do not fit its trials.
    """
    path = root / name
    classes = None
    if labels:
        classes = [int(c) for c in numbers(load_mat(root / labels, "classlabel")["classlabel"])]
    raw = open_raw(path)
    recording = recording_of(named(raw, path.name), who, classes, path.name)
    return replace(recording, source_file=name, source_sha256=sha256_file(path))


def named(raw: BaseRaw, file: str) -> BaseRaw:
    """Name the channels by their place, since the file names only five electrodes."""
    if len(raw.ch_names) != len(EEG) + len(EOG):
        raise DataError(f"{file}: has {len(raw.ch_names)} channels, expected 22 EEG and 3 EOG")
    raw.rename_channels(dict(zip(raw.ch_names, (*EEG, *EOG), strict=True)), verbose="error")
    raw.set_channel_types({**dict.fromkeys(EEG, "eeg"), **dict.fromkeys(EOG, "eog")}, verbose="error")
    return raw


def recording_of(raw: BaseRaw, who: tuple[str, str], classes: list[int] | None, file: str) -> Recording:
    """Return a named GDF recording with its cues; `classes` are the labels of all trials, None = in the file."""
    notes = notes_of(raw)
    spans = gaps(raw)
    raw.set_annotations(None)
    raw.annotations.append([a for a, _ in spans], [b - a for a, b in spans], ["BAD_gap"] * len(spans))
    recording = recording_from_raw(raw, dataset="bci_iv_2a", subject=who[0], session=who[1], modality="eeg")
    cues = [(onset, CUES[code]) for onset, _, code in notes if code in CUES]
    if classes is not None:
        if len(classes) != len(cues):
            raise DataError(f"{file}: has {len(cues)} trials, its label file {len(classes)}")
        cues = [(onset, c) for (onset, _), c in zip(cues, classes, strict=True)]
    rejected = [onset for onset, _, code in notes if code == REJECTED]
    events = []
    for trial, (onset, c) in enumerate(cues):
        # the mark of a rejected trial stands at the trial's start, two seconds before its cue
        bad = any(-0.5 < onset - r < CUE_S + 0.5 for r in rejected)
        events.append(cue_event(onset, c, rejected=bad, trial=trial, file=file))
    events += [
        Event(onset_s=onset, duration_s=length, kind="block", label=OTHER[code])
        for onset, length, code in notes
        if code in OTHER
    ]
    return replace(recording, events=tuple(sorted(events, key=lambda e: e.onset_s)), part=PARTS[who[1]])


def cue_event(onset_s: float, number: int, *, rejected: bool, trial: int, file: str, block: int = -1) -> Event:
    """Return the event of a cue; class 0 = unknown."""
    if number not in (0, *LABELS):
        raise DataError(f"{file}: trial {trial} has the class {number}, expected 1 to 4")
    return Event(
        onset_s=onset_s,
        duration_s=IMAGERY_S,
        kind="rejected cue" if rejected else "cue",
        label=LABELS.get(number, "unknown"),
        trial=trial,
        block=block,
    )


def gaps(raw: BaseRaw) -> list[tuple[float, float]]:
    """Return the spans (start_s, stop_s) in which every channel stays at its smallest value, or is not a number.

    Single samples at the limit are saturation and no gap.
    """
    rate, step = raw.info["sfreq"], round(SCAN_S * raw.info["sfreq"])
    blocks = range(0, raw.n_times, step)
    smallest = np.full((len(raw.ch_names), 1), np.inf)
    for a in blocks:
        x = raw.get_data(start=a, stop=min(a + step, raw.n_times), verbose="error")
        smallest = np.fmin(smallest, np.fmin.reduce(x, axis=1)[:, None])
    stuck = np.zeros(raw.n_times + 2, dtype=bool)
    for a in blocks:
        x = raw.get_data(start=a, stop=min(a + step, raw.n_times), verbose="error")
        stuck[a + 1 : a + 1 + x.shape[1]] = ((x == smallest) | ~np.isfinite(x)).all(axis=0)
    edges = np.flatnonzero(np.diff(stuck.astype(np.int8)))
    return [(float(a / rate), float(b / rate)) for a, b in edges.reshape(-1, 2) if b - a > 1]


def load_bnci(root: Path, name: str, who: tuple[str, str], _: str) -> Recording:
    """Read a MAT session: one valid interval per run that has trials, laid out one after the other.

    Raises
    ------
    DataError
        When it is built otherwise, or no run has trials.
    """
    path = root / name
    if "data" not in shapes(path):
        raise DataError(f"{path.name}: has no variable 'data'; labels alone, without {path.stem}.gdf, are no recording")
    runs, classes, starts_at, rejected = [], [], [], []
    for block, run in enumerate(cells(load_mat(path, "data")["data"])):
        where = f"{path.name}: run {block + 1}"
        at = numbers(field(run, "trial", where))
        if not len(at):
            continue
        x, rate_hz = np.asarray(field(run, "X", where)), float(numbers(field(run, "fs", where))[0])
        if x.ndim != 2 or x.shape[1] != len(EEG) + len(EOG) or rate_hz != RATE_HZ:
            raise DataError(f"{where} has shape {x.shape} at {rate_hz:g} Hz, expected (time, 25) at {RATE_HZ:g} Hz")
        names = [text(c).lower() for c in cells(field(run, "classes", where))]
        labels = [int(c) for c in numbers(field(run, "y", where))]
        if names and names != [LABELS[c] for c in sorted(LABELS)]:
            raise DataError(f"{where} names the classes {', '.join(names)}, expected {', '.join(LABELS.values())}")
        bad = numbers(field(run, "artifacts", where)) if "artifacts" in (fields_of(run) or ()) else np.zeros(len(at))
        if not len(labels) == len(at) == len(bad):
            raise DataError(f"{where} has {len(at)} trials, {len(labels)} classes and {len(bad)} artifact marks")
        runs.append(x)
        classes.append(labels)
        starts_at.append(at)
        rejected.append(bad)
    if not runs:
        raise DataError(f"{path.name}: no run has a trial")
    lengths = tuple(len(x) for x in runs)
    starts = trial_starts(lengths, RATE_HZ)
    first = list(accumulate((len(c) for c in classes), initial=0))
    # trial starts are counted from 1
    events = tuple(
        cue_event(
            start + (at - 1) / RATE_HZ + CUE_S, c, rejected=bool(bad), trial=first[r] + i, file=path.name, block=r
        )
        for r, start in enumerate(starts)
        for i, (at, c, bad) in enumerate(zip(starts_at[r], classes[r], rejected[r], strict=True))
    )

    def eeg(i: int, start: int, stop: int) -> np.ndarray:
        return np.asarray(runs[i][start:stop, : len(EEG)], dtype=np.float64)

    def eog(i: int, start: int, stop: int) -> np.ndarray:
        return np.asarray(runs[i][start:stop, len(EEG) :], dtype=np.float64)

    channels = named_channels(EEG, reference="left mastoid")
    return Recording(
        dataset="bci_iv_2a",
        subject=who[0],
        session=who[1],
        modality="eeg",
        streams=(
            Stream(rate_hz=RATE_HZ, channels=channels, unit="uV", n_samples=lengths, read=eeg),
            covariate(named_channels(EOG, kind="eog"), rate_hz=RATE_HZ, n_samples=lengths, read=eog),
        ),
        interval_start_s=starts,
        events=events,
        part=PARTS[who[1]],
        source_file=name,
        source_sha256=sha256_file(path),
    )


def fields_of(value: Any) -> tuple[str, ...] | None:
    """Return the field names of a struct."""
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype == object:
        value = value.reshape(-1)[0]
    return getattr(getattr(value, "dtype", None), "names", None)
