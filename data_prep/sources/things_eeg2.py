"""THINGS-EEG2: ten people, four sessions, 16,540 training and 200 test images (Gifford et al. 2022, NeuroImage 264).

The files are pickles with the suffix .npy; large arrays in them are mapped, not loaded. The raw ones are continuous
at 1000 Hz in volts, with a trigger channel; those of NICE (Song et al. 2024, ICLR) are cut around the images and
whitened, so they have no unit. Conditions are numbered from 1 in the order of ``image_metadata.npy``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.tree import folder as _folder
from data_prep.layout.tree import found, tree_item
from data_prep.layout.trials import named_channels, trial_starts
from data_prep.readers.safe_pickle import load_npy
from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

VARIANTS = {
    "raw": re.compile(r"(?:.*/)?sub-(?P<subject>[^/]+)/ses-(?P<session>[^/]+)/raw_eeg_(?P<part>training|test)\.npy"),
    "preprocessed": re.compile(r"(?:.*/)?sub-(?P<subject>[^/]+)/preprocessed_eeg_(?P<part>training|test)\.npy"),
}
PARTS = {"training": "train", "test": "test"}
TARGET = 99999
SCAN = 1 << 20


class ThingsEeg2(Source):
    """One recording per person, session and official part (raw), or per person and part (preprocessed).

    Events of kind "image" have the concept as label and the file's name as stimulus; without
    ``image_metadata.npy`` under `root`, the condition's number. Raw recordings also have events of kind "target":
    the catch trials.

    Parameters
    ----------
    root : path
        Folder with ``Raw_data`` or ``Preprocessed_data_250Hz``, or above it.
    variant : str
        "preprocessed" or "raw".
    """

    name = "things_eeg2"
    id = "things_eeg2"
    licence = "CC BY 4.0"
    citation = (
        "Gifford, Dwivedi, Roig & Cichy 2022, A large and rich EEG dataset for modeling human visual object "
        "recognition, NeuroImage 264"
    )
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, variant: str = "preprocessed") -> None:
        if variant not in VARIANTS:
            raise ConfigError(f"source 'things_eeg2': variant '{variant}' is unknown: {nearest(variant, VARIANTS)}")
        self.root, self.variant = Path(root), variant

    def describe(self) -> dict[str, Any]:
        """Return name and choice."""
        return {**super().describe(), "variant": self.variant}

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Return the images of ``image_metadata.npy``; their files stay where the user keeps the image set.

        Where ``other_images/<concept>/`` stands beside it (THINGS' own folders), the images of tested concepts that nobody
        was shown are listed as well, as part "gallery": what class centres are made of.
        """
        root = _folder(self.root, "THINGS-EEG2")
        names = found(root, "**/image_metadata.npy")[:1]
        rows = []
        for part, where in (("training", "training_images"), ("test", "test_images")):
            images = Images(root, names[0].relative_to(root).as_posix() if names else "", part)
            rows += [
                {
                    "stimulus_id": file, "concept": concept, "kind": "image", "part": images.part,
                    "file": f"{where}/{concept}/{file}", "caption": concept_word(concept),
                }
                for concept, file in zip(images.concepts, images.files, strict=True)
            ]  # fmt: skip
        return [*rows, *(other_images(names[0].parent, rows) if names else ())]

    def list(self) -> list[Item]:
        """Return one item per .npy file of the variant."""
        root = _folder(self.root, "THINGS-EEG2")
        names = found(root, "**/image_metadata.npy")[:1]
        metadata = names[0].relative_to(root).as_posix() if names else ""
        items = []
        for path in found(root, "**/sub-*/**/*.npy"):
            who = VARIANTS[self.variant].fullmatch(path.relative_to(root).as_posix())
            if who is not None:
                load = load_raw if self.variant == "raw" else load_preprocessed
                facts, session = who.groupdict(), who.groupdict().get("session", "")
                items.append(
                    tree_item(
                        root, path, load, facts, metadata, subject=facts["subject"], session=session, beside=names
                    )
                )
        return items


def other_images(image_set: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the images under ``other_images`` whose concept is tested and that are not among `rows`.

    A folder is called as the concept, with or without its number: ``00012_baby_buggy`` or ``baby_buggy``.
    """
    tested = {re.sub(r"^\d+_", "", r["concept"]): r["concept"] for r in rows if r["part"] == "test"}
    shown = {r["stimulus_id"] for r in rows}
    found = []
    for path in sorted((image_set / "other_images").glob("*/*")):
        concept = tested.get(re.sub(r"^\d+_", "", path.parent.name))
        if concept and path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.name not in shown:
            found.append(
                {
                    "stimulus_id": path.name, "concept": concept, "kind": "image", "part": "gallery",
                    "file": path.relative_to(image_set).as_posix(), "caption": concept_word(concept),
                }
            )  # fmt: skip
    return found


def content_of(path: Path, *fields: str) -> dict[str, Any]:
    """Return the dictionary in a file.

    Raises
    ------
    DataError
        When it is none, or a field is missing.
    """
    value = load_npy(path)
    if not isinstance(value, dict):
        raise DataError(f"{path.name}: holds a {type(value).__name__}, expected a dictionary")
    for field in fields:
        if field not in value:
            raise DataError(f"{path.name}: has no field '{field}': {nearest(field, value)}")
    return value


def concept_word(concept: str) -> str:
    """``00012_baby_buggy`` → ``baby buggy``."""
    return re.sub(r"^\d+_", "", concept).replace("_", " ")


class Images:
    """Names of the images of one part, by condition number.

    Parameters
    ----------
    root : Path
    metadata : str
        Path of image_metadata.npy relative to it; "" = there is none.
    part : str
        "training" or "test".
    """

    def __init__(self, root: Path, metadata: str, part: str) -> None:
        self.part = PARTS[part]
        self.concepts: list[str] = []
        self.files: list[str] = []
        if metadata:
            concepts, files = f"{self.part}_img_concepts", f"{self.part}_img_files"
            content = content_of(root / metadata, concepts, files)
            self.concepts, self.files = [str(c) for c in content[concepts]], [str(f) for f in content[files]]

    def event(self, onset_s: float, code: int, trial: int, duration_s: float = 0.0) -> Event:
        """Return the event of a condition.

        Raises
        ------
        DataError
            When there is no such condition.
        """
        label, stimulus = str(code), f"{self.part}-{code}"
        if self.files:
            if not 1 <= code <= len(self.files):
                raise DataError(f"condition {code} is not among the {len(self.files)} images of image_metadata.npy")
            label, stimulus = self.concepts[code - 1], self.files[code - 1]
        return Event(
            onset_s=onset_s, duration_s=duration_s, kind="image", label=label, stimulus_id=stimulus, trial=trial
        )


def load_preprocessed(root: Path, name: str, who: dict[str, str], metadata: str) -> Recording:
    """Read one part of one person: array (condition, repetition, channel, time)."""
    path = root / name
    content = content_of(path, "preprocessed_eeg_data", "ch_names", "times")
    values, times = content["preprocessed_eeg_data"], np.asarray(content["times"], dtype=np.float64)
    if not isinstance(values, np.ndarray) or values.ndim != 4 or values.shape[2] != len(content["ch_names"]):
        raise DataError(
            f"{path.name}: preprocessed_eeg_data has shape {np.shape(values)}, expected (condition, repetition, "
            f"{len(content['ch_names'])} channels, time)"
        )
    n_conditions, n_repetitions, _, n_samples = values.shape
    if len(times) < n_samples or n_samples < 2:
        raise DataError(f"{path.name}: has {len(times)} times for {n_samples} samples")
    # data cut to begin at the image's onset may stand beside the whole time axis
    times = times[len(times) - n_samples :]
    rate_hz = float(round((n_samples - 1) / (times[-1] - times[0]), 6))
    lengths = (n_samples,) * (n_conditions * n_repetitions)
    starts = trial_starts(lengths, rate_hz)
    images = Images(root, metadata, who["part"])
    first_s = float(times[0])
    events = tuple(
        images.event(t - first_s, i // n_repetitions + 1, i, n_samples / rate_hz + first_s)
        for i, t in enumerate(starts)
    )

    def read(i: int, start: int, stop: int) -> np.ndarray:
        return values[i // n_repetitions, i % n_repetitions, :, start:stop].T.astype(np.float64)

    stream = Stream(
        rate_hz=rate_hz,
        channels=named_channels([str(c) for c in content["ch_names"]], unit="au"),
        unit="au",
        n_samples=lengths,
        read=read,
    )
    return Recording(
        dataset="things_eeg2",
        subject=who["subject"],
        run=PARTS[who["part"]],
        modality="eeg",
        streams=(stream,),
        interval_start_s=starts,
        events=events,
        part=PARTS[who["part"]],
        source_file=name,
        source_sha256=sha256_file(path),
    )


def load_raw(root: Path, name: str, who: dict[str, str], metadata: str) -> Recording:
    """Read one part of one session: array (channel, time) in volts, the triggers among the channels."""
    path = root / name
    content = content_of(path, "raw_eeg_data", "ch_names", "ch_types", "sfreq")
    values, rate_hz = content["raw_eeg_data"], float(content["sfreq"])
    names, types = [str(c) for c in content["ch_names"]], [str(t) for t in content["ch_types"]]
    if not isinstance(values, np.ndarray) or values.ndim != 2 or not len(values) == len(names) == len(types):
        raise DataError(
            f"{path.name}: raw_eeg_data has shape {np.shape(values)}, expected ({len(names)} channels, time); "
            f"there are {len(types)} channel types"
        )
    if "stim" not in types:
        raise DataError(f"{path.name}: has no channel of type 'stim', so there are no events")
    picks = [i for i, t in enumerate(types) if t == "eeg"]
    images = Images(root, metadata, who["part"])
    events = tuple(
        Event(onset_s=at / rate_hz, kind="target", label="target", trial=trial)
        if code == TARGET
        else images.event(at / rate_hz, code, trial)
        for trial, (at, code) in enumerate(triggers(values[types.index("stim")]))
    )

    def read(_: int, start: int, stop: int) -> np.ndarray:
        return values[picks, start:stop].T * 1e6

    stream = Stream(
        rate_hz=rate_hz,
        channels=named_channels([names[i] for i in picks]),
        unit="uV",
        n_samples=(values.shape[1],),
        read=read,
    )
    return Recording(
        dataset="things_eeg2",
        subject=who["subject"],
        session=who["session"],
        run=PARTS[who["part"]],
        modality="eeg",
        streams=(stream,),
        events=events,
        part=PARTS[who["part"]],
        source_file=name,
        source_sha256=sha256_file(path),
    )


def triggers(channel: np.ndarray) -> list[tuple[int, int]]:
    """Return (sample, code) wherever a trigger channel begins to show a code other than 0."""
    found_at: list[tuple[int, int]] = []
    before = 0
    for a in range(0, len(channel), SCAN):
        codes = np.asarray(channel[a : a + SCAN]).astype(np.int64)
        last = np.concatenate([[before], codes[:-1]])
        found_at += [(a + int(i), int(codes[i])) for i in np.flatnonzero((codes != 0) & (codes != last))]
        before = int(codes[-1])
    return found_at
