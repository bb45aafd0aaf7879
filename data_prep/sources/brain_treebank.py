"""Brain Treebank (Wang et al. 2024): ten people with depth electrodes watch films; every spoken word is an event.

Voltages lie in one HDF5 file per trial, one dataset per electrode; names, anatomy, triggers and words in tables
beside them. Film time is carried to samples by the triggers, across pauses (see `movie_clock`).
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from data_prep.readers.tables import number_or_nan, stream_rows
from data_prep.sources.base import Item, Source, file_marks
from data_prep.sources.brain_treebank_clock import MovieClock, read_clock
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, read_json, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

TRIAL = re.compile(r"sub_(\d+)_trial(\d+)\.h5")
# All trials are said to be 2048 Hz; the triggers of subject 9 say 1024.
RATES_HZ = (2048.0, 1024.0)
TRIGGER = re.compile(r"(dc|trig)", re.IGNORECASE)


class BrainTreebank(Source):
    """One recording per trial (a film watched by a subject); words on the recording's clock.

    Parameters
    ----------
    root : path
        Folder with ``sub_1_trial000.h5`` … (there or deeper), ``electrode_labels/`` and, for words,
        ``subject_timings/``, ``subject_metadata/`` and ``transcripts/``.
    subjects : list of str, optional
        Numbers to take, e.g. ["1", "2"]; default all.
    words : bool
        Whether words become events; without, only voltages and electrodes are needed.
    features : list of str
        Columns of features.csv that become events of their own kind with their `value`, e.g. ["rms", "pitch"].
    """

    name = "brain_treebank"
    id = "brain_treebank"
    licence = "no licence stated by the release; research use with citation"
    citation = (
        "Wang et al. 2024, Brain Treebank: large-scale intracranial recordings from naturalistic language stimuli, "
        "NeurIPS, arXiv:2411.08343"
    )
    modalities = ("ieeg",)

    def __init__(
        self,
        *,
        root: str | Path,
        subjects: list[str] | None = None,
        words: bool = True,
        features: list[str] | tuple[str, ...] = (),
    ) -> None:
        self.root, self.words, self.features = Path(root).expanduser(), words, tuple(features)
        self.subjects = None if subjects is None else [str(s) for s in subjects]

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            **super().describe(),
            "subjects": self.subjects,
            "words": self.words,
            "features": list(self.features),
        }

    def list(self) -> list[Item]:
        """Return one item per trial."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root to the Brain Treebank")
        found = [(m.group(1), m.group(2), p) for p in self.root.rglob("*.h5") if (m := TRIAL.fullmatch(p.name))]
        numbers = {s for s, _, _ in found}
        for s in self.subjects or ():
            if s not in numbers:
                raise ConfigError(f"source 'brain_treebank' has no subject '{s}': {nearest(s, numbers)}")
        items = []
        for subject, trial, path in sorted(found):
            if self.subjects is not None and subject not in self.subjects:
                continue
            near = [path, *(p for p in tables(self.root, subject, trial).values() if p.exists())]
            items.append(
                Item(
                    key=path.stem,
                    fingerprint=hash_of(file_marks(near)),
                    open=partial(
                        load_trial,
                        self.root,
                        path.relative_to(self.root).as_posix(),
                        self.words or bool(self.features),
                        self.features,
                    ),
                    subject=subject,
                    session=f"trial{trial}",
                    source_file=path.relative_to(self.root).as_posix(),
                    n_bytes=path.stat().st_size,
                )
            )
        return items


def tables(root: Path, subject: str, trial: str) -> dict[str, Path]:
    """Return where the tables of a trial stand."""
    who = f"sub_{subject}"
    return {
        "labels": root / "electrode_labels" / who / "electrode_labels.json",
        "corrupted": root / "corrupted_elec.json",
        "places": root / "localization" / who / "depth-wm.csv",
        "timings": root / "subject_timings" / f"{who}_trial{trial}_timings.csv",
        "metadata": root / "subject_metadata" / f"{who}_trial{trial}_metadata.json",
    }


def load_trial(root: Path, name: str, words: bool, features: tuple[str, ...]) -> Recording:
    """Open one trial.

    Raises
    ------
    DataError
        When labels and datasets do not fit, or a table that words need is missing.
    """
    path = root / name
    found = TRIAL.fullmatch(path.name)
    assert found is not None
    subject, trial = found.groups()
    files = tables(root, subject, trial)
    channels, keys = electrodes(files, subject)
    with open_hdf5(path) as f:
        lacking = [k for k in keys if k not in f]
        if lacking:
            raise DataError(f"{name}: dataset '{lacking[0]}' is missing ({len(keys)} electrodes have a label)")
        lengths = {f[k].shape for k in keys}
    if len(lengths) != 1 or len(shape := lengths.pop()) != 1:
        raise DataError(f"{name}: electrodes differ in shape, expected one dimension of one length")
    clock = read_clock(files["timings"]) if files["timings"].exists() else None
    rate_hz = RATES_HZ[0] if clock is None else clock.rate_hz(RATES_HZ)
    events: tuple[Event, ...] = ()
    if words:
        if clock is None:
            raise DataError(f"{name}: '{files['timings'].name}' is missing; fetch subject_timings, or set words=false")
        events = word_events(root, files["metadata"], clock, rate_hz, shape[0], features)
    return Recording(
        dataset="brain_treebank",
        subject=subject,
        session=f"trial{trial}",
        task="movie",
        modality="ieeg",
        streams=(
            Stream(rate_hz=rate_hz, channels=channels, n_samples=(shape[0],), read=partial(_read, path, tuple(keys))),
        ),
        events=events,
        source_file=name,
        source_sha256=sha256_file(path),
    )


def _read(path: Path, keys: tuple[str, ...], interval: int, start: int, stop: int) -> np.ndarray:
    out = np.empty((stop - start, len(keys)))
    with open_hdf5(path) as f:
        for i, key in enumerate(keys):
            out[:, i] = f[key][start:stop]
    return out


def electrodes(files: dict[str, Path], subject: str) -> tuple[tuple[Channel, ...], list[str]]:
    """Return the electrodes and their datasets; triggers, and datasets beyond the labels, are left out.

    The position in the list of labels is the number of the dataset. Positions are the L, I, P voxels (1 mm) of
    depth-wm.csv, in metres, in a frame of that name: axes to the left, down and back, of the subject's own brain.
    """
    labels = [clean(str(n)) for n in read_json(files["labels"])]
    listed = read_json(files["corrupted"]) if files["corrupted"].exists() else {}
    corrupted = {clean(str(n)) for key in (f"sub_{subject}", f"subject{subject}") for n in listed.get(key, ())}
    places: dict[str, dict[str, str]] = {}
    if files["places"].exists():
        places = {clean(row["Electrode"] or ""): row for row in stream_rows(files["places"], "Electrode")}
    channels, keys = [], []
    for i, label in enumerate(labels):
        if TRIGGER.match(label):
            continue
        row = places.get(label, {})
        left, down, back = (number_or_nan(row.get(axis)) / 1000 for axis in "LIP")
        channels.append(
            Channel(
                name=label,
                kind="seeg",
                x=left,
                y=down,
                z=back,
                frame="lip" if math.isfinite(left) else "",
                region=(row.get("DesikanKilliany") or "").strip(),
                bad=label in corrupted,
                reason="listed in corrupted_elec.json" if label in corrupted else "",
            )
        )
        keys.append(f"data/electrode_{i}")
    return tuple(channels), keys


def clean(label: str) -> str:
    """Return an electrode's name without the marks that some tables put on it."""
    return re.sub(r"[*#]", "", label).strip()


def _feature(name: str, text: str, same: dict[str, Any]) -> Event:
    """Return a column's value at a word: a number as the event's value, a word such as NOUN as its label."""
    truth = {"true": 1.0, "false": 0.0}.get(text.lower())
    value = number_or_nan(text) if truth is None else truth
    return Event(kind=name, value=value, **(same if not text or math.isfinite(value) else {**same, "label": text}))


def word_events(
    root: Path, metadata: Path, clock: MovieClock, rate_hz: float, n_samples: int, features: tuple[str, ...]
) -> tuple[Event, ...]:
    """Return the words that were heard while recording.

    `stimulus_id` is the film, `value` the word's time in it, `trial` its row in the transcript, `block` its
    sentence. A word after the last trigger is left out: nobody knows when, or whether, it was played.
    """
    movie = str(read_json(metadata).get("filename", ""))
    path = root / "transcripts" / movie / "features.csv"
    if not movie or Path(movie).name != movie or not path.exists():
        raise DataError(f"transcripts/{movie}/features.csv is missing; fetch the transcripts, or set words=false")
    events = []
    sentence = -1
    for i, row in enumerate(stream_rows(path, "start", "end", "text", *features)):
        sentence += (row.get("is_onset") or "").lower() in ("1", "1.0", "true")
        start, end = number_or_nan(row["start"]), number_or_nan(row["end"])
        if not math.isfinite(start) or start > clock.movie_s[-1]:
            continue
        sample = round(clock.sample_of(start, rate_hz))
        if not 0 <= sample < n_samples:
            continue
        duration = max(end - start, 0.0) if math.isfinite(end) else 0.0
        same: dict[str, Any] = {
            "onset_s": sample / rate_hz,
            "duration_s": duration,
            "label": (row["text"] or "").strip(),
            "stimulus_id": movie,
            "trial": i,
            "block": sentence,
        }
        events.append(Event(kind="word", value=start, **same))
        events += [_feature(name, (row[name] or "").strip(), same) for name in features]
    return tuple(events)
