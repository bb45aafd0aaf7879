"""SEED, SEED-IV and SEED-V: EEG of people who watch film clips (Zheng & Lu 2015; Zheng et al. 2019; Liu et al. 2022).

SEED and SEED-IV are MAT files with one array per clip; the number of the clip is the end of its name. SEED-V is
one continuous file per session, with the clips' times in the authors' tables.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.tree import folder, found, tree_item
from data_prep.layout.trials import named_channels, trial_starts
from data_prep.privacy import starred
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.mat import load_mat, load_once, shapes, stamp_of
from data_prep.readers.mat_struct import numbers
from data_prep.readers.raw_file import inside, open_raw
from data_prep.sources.base import Item, Source
from data_prep.sources.seed_tables import (
    ELECTRODES,
    SEED_IV_CODES,
    SEED_IV_WORDS,
    SEED_V_CODES,
    SEED_V_TIMES_S,
    SEED_V_WORDS,
)
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

VARIANTS = ("seed", "seed_iv", "seed_v")
DATED = re.compile(r"(\d+)_(\d{8})")
NUMBERED = re.compile(r"(\d+)_([123])_(\d{8})")
TRIAL = re.compile(r".*_eeg(\d+)")
RAW_SUFFIXES = {".cnt", ".set", ".fif", ".edf", ".bdf"}
RATE_HZ = 200.0
CITATIONS = {
    "seed": (
        "Zheng & Lu 2015, Investigating critical frequency bands and channels for EEG-based emotion "
        "recognition with deep neural networks, IEEE Transactions on Autonomous Mental Development 7"
    ),
    "seed_iv": (
        "Zheng, Liu, Lu, Lu & Cichocki 2019, EmotionMeter: a multimodal framework for recognizing human "
        "emotions, IEEE Transactions on Cybernetics 49"
    ),
    "seed_v": (
        "Liu, Qiu, Zheng & Lu 2022, Comparing recognition performance and robustness of multimodal deep "
        "learning models for multimodal emotion recognition, IEEE Transactions on Cognitive and Developmental"
        " Systems 14"
    ),
}


class Seed(Source):
    """One recording per person and session, with one event per clip.

    Parameters
    ----------
    root : path
        Folder with ``Preprocessed_EEG`` (seed), ``eeg_raw_data`` (seed_iv) or ``EEG_raw`` (seed_v), or that folder.
    variant : str
        "seed": labels 1, 0 and -1 of label.mat, sessions in the order of their dates; "seed_iv": neutral, sad, fear,
        happy, sessions from the folders; "seed_v": disgust, fear, sad, neutral, happy.
    """

    name = "seed"
    id = "seed"
    licence = "academic use on application, no redistribution"
    modalities = ("eeg",)

    def __init__(self, *, root: str | Path, variant: str = "seed") -> None:
        if variant not in VARIANTS:
            raise ConfigError(f"source 'seed': variant '{variant}' is unknown: {nearest(variant, VARIANTS)}")
        self.root, self.variant = Path(root), variant
        self.id, self.citation = variant, CITATIONS[variant]

    def describe(self) -> dict[str, Any]:
        """Return name and choice."""
        return {**super().describe(), "variant": self.variant}

    def list(self) -> list[Item]:
        """Return one item per session."""
        root = folder(self.root, self.variant.upper().replace("_", "-"))
        if self.variant == "seed_v":
            raws = [
                (p, m) for p in found(root, "**/*") if p.suffix in RAW_SUFFIXES and (m := NUMBERED.fullmatch(p.stem))
            ]
            return [_item(root, p, load_continuous, m[1], m[2]) for p, m in raws]
        dated = [
            (p, m)
            for p in found(root, "**/*.mat")
            if (m := DATED.fullmatch(p.stem)) and "feature" not in p.relative_to(root).as_posix().lower()
        ]
        if self.variant == "seed_iv":
            return [_item(root, p, load_trials, m[1], p.parent.name, "") for p, m in dated]
        items = []
        for path, fits in dated:
            days = sorted(m[2] for p, m in dated if m[1] == fits[1] and p.parent == path.parent)
            labels = path.parent / "label.mat"
            if not labels.exists():
                raise DataError(f"{labels.name}: is missing in {path.parent.name}; it says what the clips are")
            session, name = str(days.index(fits[2]) + 1), labels.relative_to(root).as_posix()
            items.append(_item(root, path, load_trials, fits[1], session, name, beside=[labels]))
        return items


def _item(root: Path, path: Path, load: Any, subject: str, session: str, *facts: str, **rest: Any) -> Item:
    name = starred(path.relative_to(root).as_posix())
    key = f"{name} session {session}"
    return tree_item(root, path, load, subject, session, *facts, subject=subject, session=session, key=key, **rest)


def load_trials(root: Path, name: str, subject: str, session: str, labels: str) -> Recording:
    """Read a session of SEED (with its label file) or SEED-IV: one valid interval per clip.

    Raises
    ------
    DataError
        When a clip has no label, or is not an array of 62 channels.
    """
    path = root / name
    keys = {int(m[1]): (key, shape) for key, shape in shapes(path).items() if (m := TRIAL.fullmatch(key))}
    if not keys:
        raise DataError(f"{starred(path.name)}: has no array whose name ends in _eeg1, _eeg2 …")
    if labels:
        words = {i + 1: str(int(v)) for i, v in enumerate(numbers(load_mat(root / labels, "label")["label"]))}
    elif session not in SEED_IV_CODES:
        raise DataError(f"{starred(path.name)}: lies in folder '{session}', expected 1, 2 or 3: the session")
    else:
        words = {i + 1: SEED_IV_WORDS[c] for i, c in enumerate(SEED_IV_CODES[session])}
    numbered = sorted(keys)
    for number in numbered:
        if keys[number][1][0] != len(ELECTRODES) or number not in words:
            raise DataError(
                f"{starred(path.name)}: clip {number} has shape {keys[number][1]}, expected (62, time) and a number "
                f"up to {len(words)}"
            )
    stamp = stamp_of(path)

    def read(i: int, start: int, stop: int) -> np.ndarray:
        return np.asarray(load_once(path, keys[numbered[i]][0], stamp)[:, start:stop].T, dtype=np.float64)

    lengths = tuple(keys[n][1][1] for n in numbered)
    starts = trial_starts(lengths, RATE_HZ)
    events = tuple(
        Event(
            onset_s=start,
            duration_s=n / RATE_HZ,
            kind="clip",
            label=words[number],
            # SEED shows the same clips in every session
            stimulus_id=str(number) if labels else f"{session}-{number}",
            trial=number - 1,
        )
        for start, n, number in zip(starts, lengths, numbered, strict=True)
    )
    return Recording(
        dataset="seed" if labels else "seed_iv",
        subject=subject,
        session=session,
        modality="eeg",
        streams=(
            Stream(rate_hz=RATE_HZ, channels=named_channels(ELECTRODES), unit="uV", n_samples=lengths, read=read),
        ),
        interval_start_s=starts,
        events=events,
        source_file=starred(name),
        source_sha256=sha256_file(path),
    )


def channel(name: str) -> tuple[str, str] | None:
    """Return name and kind of a channel of SEED-V; None for the mastoids and others."""
    upper = name.strip().upper()
    if upper in ("VEO", "HEO"):
        return upper, "eog"
    return (upper, "eeg") if upper in ELECTRODES else None


def load_continuous(root: Path, name: str, subject: str, session: str) -> Recording:
    """Read a session of SEED-V.

    Raises
    ------
    DataError
        When it cannot be read, or ends before its last clip begins.
    """
    path = root / name
    raw = open_raw(path, channel=channel)
    recording = recording_from_raw(
        raw,
        dataset="seed_v",
        subject=subject,
        session=session,
        modality="eeg",
        source_file=starred(name),
        source_sha256=sha256_file(path),
    )
    clips = zip(*SEED_V_TIMES_S[session], SEED_V_CODES[session], strict=True)
    events = [
        Event(
            onset_s=float(a),
            duration_s=float(b - a),
            kind="clip",
            label=SEED_V_WORDS[code],
            stimulus_id=f"{session}-{i}",
        )
        for i, (a, b, code) in enumerate(clips, start=1)
    ]
    return replace(recording, events=inside(events, raw.n_times / raw.info["sfreq"], Path(starred(path.name))))
