"""DEAP: 32 people, 40 music videos, four ratings each (Koelstra et al. 2012, IEEE Trans Affective Computing 3).

The preprocessed files, as pickles of Python 2 (``s01.dat``) or MAT files (``s01.mat``): 40 trials of 63 s at 128 Hz, of
which the first 3 s are before the video. Trials are in the order of the videos, not of presentation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.ratings import rated
from data_prep.layout.tree import folder, found, tree_item
from data_prep.layout.trials import covariate, named_channels, trial_starts
from data_prep.readers.mat import load_once, stamp_of
from data_prep.readers.safe_pickle import load_pickle
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Recording, Stream

EEG = (
    "Fp1", "AF3", "F3", "F7", "FC5", "FC1", "C3", "T7", "CP5", "CP1", "P3", "P7", "PO3", "O1", "Oz", "Pz", "Fp2", "AF4",
    "Fz", "F4", "F8", "FC6", "FC2", "Cz", "C4", "T8", "CP6", "CP2", "P4", "P8", "PO4", "O2",
)  # fmt: skip
OTHERS = (
    ("hEOG", "eog", "uV"), ("vEOG", "eog", "uV"), ("zEMG", "emg", "uV"), ("tEMG", "emg", "uV"), ("GSR", "gsr", "au"),
    ("resp", "resp", "au"), ("plethysmograph", "misc", "au"), ("temperature", "temperature", "au"),
)  # fmt: skip
RATINGS = ("valence", "arousal", "dominance", "liking")
FILE = re.compile(r"s\d\d")
RATE_HZ = 128.0
BEFORE_S = 3.0
MIDDLE = 5.0


class Deap(Source):
    """One recording per person, one valid interval per video, with the three seconds before it.

    Parameters
    ----------
    root : path
        Folder with s01.dat … or s01.mat …, or above it; with both, the .dat files are read.
    rating : str
        "valence", "arousal", "dominance" or "liking": the value (1 to 9) of the videos' events (kind "clip"); their
        label is "high" above 5. All four ratings are there as events of their own kind, without a label.
    """

    name = "deap"
    id = "deap"
    licence = "academic use on application (EULA), no redistribution"
    citation = (
        "Koelstra et al. 2012, DEAP: a database for emotion analysis using physiological signals, IEEE "
        "Transactions on Affective Computing 3"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, rating: str = "valence") -> None:
        if rating not in RATINGS:
            raise ConfigError(f"source 'deap': rating '{rating}' is unknown: {nearest(rating, RATINGS)}")
        self.root, self.rating = Path(root), rating

    def describe(self) -> dict[str, Any]:
        """Return name and choice."""
        return {**super().describe(), "rating": self.rating}

    def list(self) -> list[Item]:
        """Return one item per person."""
        root = folder(self.root, "DEAP")
        files = [p for p in found(root, "**/s*.dat") if FILE.fullmatch(p.stem)]
        files = files or [p for p in found(root, "**/s*.mat") if FILE.fullmatch(p.stem)]
        return [tree_item(root, p, load, self.rating, subject=p.stem) for p in files]


def load(root: Path, name: str, rating: str) -> Recording:
    """Read one person.

    Raises
    ------
    DataError
        When the file asks for more than numbers, or the arrays are not those of DEAP.
    """
    path = root / name
    if path.suffix == ".mat":
        data, labels = (load_once(path, key, stamp_of(path)) for key in ("data", "labels"))
    else:
        content = load_pickle(path)
        if not isinstance(content, dict) or not {"data", "labels"} <= set(content):
            raise DataError(f"{path.name}: is no dictionary with 'data' and 'labels'")
        data, labels = content["data"], content["labels"]
    data, labels = np.asanyarray(data), np.asarray(labels)
    n_channels = len(EEG) + len(OTHERS)
    if data.ndim != 3 or data.shape[1] != n_channels or labels.shape != (len(data), len(RATINGS)):
        raise DataError(
            f"{path.name}: data has shape {data.shape}, labels {labels.shape}; expected (trial, {n_channels}, time) "
            f"and (trial, {len(RATINGS)})"
        )
    if data.dtype.kind not in "fiu" or labels.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: holds values of type {data.dtype} and {labels.dtype}, expected numbers")
    lengths = (data.shape[2],) * len(data)
    starts = trial_starts(lengths, RATE_HZ)
    video_s = data.shape[2] / RATE_HZ - BEFORE_S

    def eeg(i: int, start: int, stop: int) -> np.ndarray:
        return data[i, : len(EEG), start:stop].T.astype(np.float64)

    def others(i: int, start: int, stop: int) -> np.ndarray:
        return data[i, len(EEG) :, start:stop].T.astype(np.float64)

    channels = named_channels(EEG, reference="average")
    beside = [Channel(name=n, kind=kind, unit=unit) for n, kind, unit in OTHERS]
    events = tuple(
        event
        for i, t in enumerate(starts)
        for event in rated(
            t + BEFORE_S, video_s, dict(zip(RATINGS, labels[i], strict=True)), scale=rating, middle=MIDDLE,
            stimulus=i + 1, trial=i,
        )
    )  # fmt: skip
    return Recording(
        dataset="deap",
        subject=path.stem,
        modality="eeg",
        streams=(
            Stream(rate_hz=RATE_HZ, channels=channels, unit="uV", n_samples=lengths, read=eeg),
            covariate(beside, rate_hz=RATE_HZ, n_samples=lengths, read=others),
        ),
        interval_start_s=starts,
        events=events,
        source_file=name,
        source_sha256=sha256_file(path),
    )
