"""ZuCo 1.0 and 2.0: EEG of people who read sentences (Hollenstein et al. 2018, Scientific Data 5; 2020, LREC).

A MAT file per person and task with a struct array ``sentenceData``: version 5 in ZuCo 1.0, version 7.3 (HDF5, arrays
transposed, references instead of values) in 2.0. Where a sentence was not recorded its ``word`` is no struct.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.tree import folder, found, tree_item
from data_prep.layout.trials import named_channels, trial_starts
from data_prep.readers.mat import MAT_ERRORS, is_hdf5, load_once, stamp_of
from data_prep.readers.mat_struct import cells, field, text
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

FILE = re.compile(r"results(?P<subject>[A-Z0-9]+)_(?P<task>SR|NR|TSR)")
RATE_HZ = 500.0
FIELDS = ("content", "rawData", "word")
# index → signal, shape (time, channel)
Signals = Callable[[int, int, int], np.ndarray]


class Zuco(Source):
    """One recording per person and task, one valid interval and one event per sentence that was recorded.

    Rejected electrodes are missing values. An event's label is the sentence; its stimulus is made from the words
    alone, so a sentence that is read twice, or by two people, has one.

    Parameters
    ----------
    root : path
        Folder with results???_NR.mat and the like, or above.
    exclude : list of str
        Persons to leave out; default YMH, as the authors do.
    """

    name = "zuco"
    id = "zuco"
    licence = "CC BY 4.0"
    citation = (
        "Hollenstein et al. 2018, ZuCo, a simultaneous EEG and eye-tracking resource for natural sentence "
        "reading, Scientific Data 5; Hollenstein et al. 2020, ZuCo 2.0, LREC"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, exclude: list[str] | tuple[str, ...] = ("YMH",)) -> None:
        self.root, self.exclude = Path(root), list(exclude)

    def describe(self) -> dict[str, Any]:
        """Return name and choice."""
        return {**super().describe(), "exclude": self.exclude}

    def list(self) -> list[Item]:
        """Return one item per file."""
        root = folder(self.root, "ZuCo")
        named = [(p, m) for p in found(root, "**/results*.mat") if (m := FILE.fullmatch(p.stem))]
        return [
            tree_item(root, p, load, m["subject"], m["task"], subject=m["subject"])
            for p, m in named
            if m["subject"] not in self.exclude
        ]


def load(root: Path, name: str, subject: str, task: str) -> Recording:
    """Read one person's sentences of one task.

    Raises
    ------
    DataError
        When the file is built otherwise, or no sentence was recorded.
    """
    path = root / name
    sentences, signals = _hdf5(path) if is_hdf5(path) else _matlab(path)
    recorded = [(i, words, shape) for i, (words, shape) in enumerate(sentences) if shape is not None]
    if not recorded:
        raise DataError(f"{path.name}: no sentence was recorded")
    widths = {shape[1] for _, _, shape in recorded}
    if len(widths) != 1:
        raise DataError(f"{path.name}: its sentences have {' and '.join(map(str, sorted(widths)))} channels")
    lengths = tuple(shape[0] for _, _, shape in recorded)
    starts = trial_starts(lengths, RATE_HZ)
    events = tuple(
        Event(
            onset_s=start,
            duration_s=n / RATE_HZ,
            kind="sentence",
            label=words,
            stimulus_id=sentence_id(words),
            trial=i,
        )
        for start, n, (i, words, _) in zip(starts, lengths, recorded, strict=True)
    )

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        return signals(recorded[interval][0], start, stop)

    channels = named_channels([f"ch{i + 1:03d}" for i in range(widths.pop())])
    return Recording(
        dataset="zuco",
        subject=subject,
        task=task,
        modality="eeg",
        streams=(Stream(rate_hz=RATE_HZ, channels=channels, unit="uV", n_samples=lengths, read=read),),
        interval_start_s=starts,
        events=events,
        source_file=name,
        source_sha256=sha256_file(path),
    )


def sentence_id(words: str) -> str:
    """Return a name made from a sentence alone."""
    return "sentence-" + hashlib.sha256(" ".join(words.split()).encode()).hexdigest()[:12]


Sentences = list[tuple[str, tuple[int, int] | None]]


def _matlab(path: Path) -> tuple[Sentences, Signals]:
    """Return sentences with the shape (time, channel) of their signals, None = not recorded; and the signals."""
    where = f"{path.name}: sentenceData"
    sentences: Sentences = []
    arrays: list[np.ndarray] = []
    for entry in cells(load_once(path, "sentenceData", stamp_of(path))):
        words, raw, word = (field(entry, name, where) for name in FIELDS)
        x = np.asarray(raw).T
        there = getattr(getattr(word, "dtype", None), "names", None) is not None
        kept = there and x.ndim == 2 and x.dtype.kind in "fiu" and x.size > 1 and np.isfinite(x).any()
        sentences.append((text(words), (x.shape[0], x.shape[1]) if kept else None))
        arrays.append(x)
    return sentences, lambda i, start, stop: arrays[i][start:stop].astype(np.float64)


def _hdf5(path: Path) -> tuple[Sentences, Signals]:
    """As `_matlab`, of a file of version 7.3."""
    import h5py

    def signals(i: int, start: int, stop: int) -> np.ndarray:
        with h5py.File(path, "r") as f:
            return np.asarray(f[f["sentenceData"]["rawData"][i].flat[0]][start:stop], dtype=np.float64)

    sentences: Sentences = []
    try:
        with h5py.File(path, "r") as f:
            if "sentenceData" not in f:
                raise DataError(f"{path.name}: has no variable 'sentenceData': {nearest('sentenceData', f)}")
            table = f["sentenceData"]
            for name in FIELDS:
                if name not in table:
                    raise DataError(f"{path.name}: sentenceData has no field '{name}': {nearest(name, table)}")
            for words, raw, word in zip(*(table[name][:].ravel() for name in FIELDS), strict=True):
                codes = np.asarray(f[words]).ravel()
                x = f[raw]
                there = isinstance(f[word], h5py.Group) and x.ndim == 2 and x.size > 1 and x.dtype.kind == "f"
                sentence = codes.astype("<u2").tobytes().decode("utf-16-le") if codes.dtype == np.uint16 else ""
                kept = there and any(np.isfinite(x[a : a + 500]).any() for a in range(0, len(x), 500))
                sentences.append((sentence, (x.shape[0], x.shape[1]) if kept else None))
    except MAT_ERRORS as error:
        raise DataError(f"{path.name}: is not a whole MATLAB file ({' '.join(str(error).split())[:200]})") from error
    return sentences, signals
