"""Natural Speech of Broderick et al. 2018: 19 people hear an audiobook in 20 runs, 128 EEG channels at 128 Hz.

Audio, text and word times are not part of the public release; where a user has them (``private/align1.json`` as the
aligner Gentle writes it) words and phonemes become events. The scale of the values is not stated: they are handed on
as µV, and the stage `unit_repair` judges them.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.layout.montage import eeg_channels
from data_prep.readers.mat import read_mat
from data_prep.sources.base import Item, file_marks
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of, read_json, sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

FILE = re.compile(r"(Subject\d+)_Run(\d+)\.mat")
N_EEG = 128


def items(root: Path, subjects: tuple[str, ...] | None) -> list[Item]:
    """Return one item per subject and run; other experiments of the release have the same file names."""
    base = next((p for p in (root / "Natural Speech" / "EEG", root / "EEG") if p.is_dir()), root)
    found = []
    for path in sorted(base.glob("Subject*/Subject*_Run*.mat")):
        match = FILE.fullmatch(path.name)
        if match is None:
            continue
        subject, run = match.groups()
        files = [p for p in (path, alignment_file(root, run)) if p.exists()]
        found.append(
            Item(
                key=f"{subject}_run-{run}",
                fingerprint=hash_of(file_marks(files)),
                open=partial(load, root, path.relative_to(root).as_posix()),
                subject=subject,
                source_file=path.relative_to(root).as_posix(),
                n_bytes=path.stat().st_size,
            )
        )
    return found


def alignment_file(root: Path, run: str) -> Path:
    """Return where the word times of a run stand, if anywhere."""
    return root / "private" / f"align{run}.json"


def load(root: Path, name: str) -> Recording:
    """Open one run.

    Raises
    ------
    DataError
        When it is not 128 channels with a rate.
    """
    path = root / name
    match = FILE.fullmatch(path.name)
    assert match is not None
    subject, run = match.groups()
    values, rate = read_mat(path, "eegData"), read_mat(path, "fs")
    if values.ndim != 2 or values.shape[1] != N_EEG or rate.size != 1:
        raise DataError(f"{name}: 'eegData' has shape {values.shape}, expected (time, {N_EEG}), with one rate 'fs'")
    rate_hz = float(rate.ravel()[0])
    channels = eeg_channels("biosemi128")
    streams = [Stream.from_arrays([values], rate_hz=rate_hz, channels=channels, unit="uV")]
    mastoids = read_mat(path, "mastoids")
    if mastoids.shape == (len(values), 2):
        names = tuple(Channel(name=f"mastoid{i}", kind="misc", unit="uV") for i in (1, 2))
        streams.append(
            Stream.from_arrays(
                [mastoids], rate_hz=rate_hz, channels=names, unit="uV", name="covariate", role="covariate"
            )
        )
    audio = f"audio{run}.wav"
    sound = Event(
        onset_s=0.0,
        duration_s=len(values) / rate_hz,
        kind="sound",
        label=audio,
        value=0.0,
        stimulus_id=audio,
        trial=0,
    )
    aligned = alignment_file(root, run)
    spoken = spoken_events(aligned, audio) if aligned.exists() else ()
    return Recording(
        dataset="broderick2019",
        subject=subject,
        task="natural-speech",
        run=run,
        modality="eeg",
        streams=tuple(streams),
        events=(sound, *spoken),
        source_file=name,
        source_sha256=sha256_file(path),
    )


def spoken_events(path: Path, audio: str) -> tuple[Event, ...]:
    """Read words and phonemes that the aligner found; `trial` is the word's place in the text.

    Raises
    ------
    DataError
        When the file is no list of words.
    """
    content = read_json(path)
    words = content.get("words") if isinstance(content, dict) else None
    if not isinstance(words, list):
        raise DataError(f"{path.name}: holds no list 'words'")
    events = []
    for i, word in enumerate(words):
        if word.get("case") != "success":
            continue
        start, end = float(word["start"]), float(word["end"])
        same: dict[str, Any] = {"stimulus_id": audio, "trial": i}
        events.append(
            Event(onset_s=start, duration_s=end - start, kind="word", label=str(word["word"]), value=start, **same)
        )
        at = start
        for phone in word.get("phones", ()):
            length = float(phone["duration"])
            events.append(
                Event(onset_s=at, duration_s=length, kind="phoneme", label=str(phone["phone"]), value=at, **same)
            )
            at += length
    return tuple(events)
