"""Alice in Wonderland (Brennan & Hale 2019): people hear twelve minutes of a story, 60 EEG channels at 500 Hz.

There are two releases: FieldTrip structs in MAT files (v1) and BrainVision (v2). Where the words are stands in a
``proc`` file per subject (v1 ``proc/``, v2 ``timelock-preprocessing/``), row by row with ``AliceChapterOne-EEG.csv``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.montage import eeg_channels
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.mat import read_struct
from data_prep.readers.raw_file import open_raw
from data_prep.readers.tables import number_or_nan, stream_rows
from data_prep.sources.base import Item, file_marks
from data_prep.sources.bids import data_files
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import Channel, Event, EventStream, Recording, Stream

RATE_HZ = 500.0
MONTAGE = "easycap-M10"
WORDS = "AliceChapterOne-EEG.csv"
COLUMNS = ("Word", "Segment", "onset", "offset", "Sentence")
# Left out of the published analysis, for noise or for trials that do not fit the words.
EXCLUDED = ("S02", "S24", "S26", "S27", "S30", "S32", "S34", "S35", "S36")


def items(root: Path, subjects: tuple[str, ...] | None) -> list[Item]:
    """Return one item per subject; of one that is there in both releases, BrainVision counts."""
    found = {p.stem: p for pattern in ("S[0-9][0-9].mat", "S[0-9][0-9].vhdr") for p in sorted(root.glob(pattern))}
    listed = []
    for subject, path in sorted(found.items()):
        files = [*data_files(path), *(p for p in (root / WORDS, *proc_files(root, subject)) if p.exists())]
        listed.append(
            Item(
                key=subject,
                fingerprint=hash_of(file_marks(files)),
                open=partial(load, root, path.name, subjects is not None),
                subject=subject,
                source_file=path.name,
                n_bytes=sum(p.stat().st_size for p in data_files(path)),
            )
        )
    return listed


def proc_files(root: Path, subject: str) -> list[Path]:
    """Return where the word times of a subject may stand."""
    return [root / folder / f"{subject}.mat" for folder in ("timelock-preprocessing", "proc")]


def load(root: Path, name: str, named: bool) -> Recording:
    """Open one subject.

    Parameters
    ----------
    root : Path
        Folder of the study.
    name : str
        Raw file in it.
    named : bool
        Whether the user asked for this subject by name; one that the authors left out is refused otherwise.

    Raises
    ------
    DataError
        When words, trials and channels do not fit together.
    """
    path, subject = root / name, Path(name).stem
    if subject in EXCLUDED and not named:
        raise DataError(f"{subject} is left out of the published analysis; name it in source.subjects to take it")
    proc = next((p for p in proc_files(root, subject) if p.exists()), None)
    if proc is None:
        raise DataError(
            f"{subject}: no word times; proc/{subject}.mat and timelock-preprocessing/{subject}.mat are missing"
        )
    facts = read_struct(proc, "proc")
    signal, beside = _brainvision(path) if path.suffix == ".vhdr" else _fieldtrip(path)
    bad = bad_channels(facts)
    marked = tuple(
        replace(c, bad=True, reason="impedance or noise, by the authors") if c.name in bad else c
        for c in signal.channels
    )
    return Recording(
        dataset="brennan2019",
        subject=subject,
        task="alice",
        modality="eeg",
        streams=(replace(signal, channels=marked), *beside),
        events=word_events(root / WORDS, facts, proc.name, signal.n_samples[0]),
        source_file=name,
        source_sha256=sha256_file(data_files(path)[-1]),
    )


def _fieldtrip(path: Path) -> tuple[Stream, tuple[Stream, ...]]:
    raw = read_struct(path, "raw")
    header, values = raw["hdr"], np.asarray(raw["trial"])
    names = [str(n) for n in np.atleast_1d(header["label"])]
    values = values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or len(values) != len(names) or values.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: 'trial' has shape {values.shape}, expected ({len(names)} channels, time)")
    if float(header["Fs"]) != RATE_HZ or set(np.atleast_1d(header["chanunit"])) != {"uV"}:
        raise DataError(f"{path.name}: expected {RATE_HZ:g} Hz and uV, found {header['Fs']} and {header['chanunit']}")
    known = {c.name: c for c in eeg_channels(MONTAGE)}
    eeg = [i for i, n in enumerate(names) if n in known]
    rest = [i for i, n in enumerate(names) if n not in known]
    channels = tuple(known[names[i]] for i in eeg)
    signal = Stream.from_arrays([values[eeg].T], rate_hz=RATE_HZ, channels=channels, unit="uV")
    if not rest:
        return signal, ()
    channels = tuple(
        Channel(name=names[i], kind="eog", unit="uV") if "EOG" in names[i] else Channel(name=names[i]) for i in rest
    )
    beside = Stream.from_arrays(
        [values[rest].T], rate_hz=RATE_HZ, channels=channels, unit="uV", name="covariate", role="covariate"
    )
    return signal, (beside,)


def _brainvision(path: Path) -> tuple[Stream, tuple[Stream | EventStream, ...]]:
    raw = open_raw(path)
    if raw.info["sfreq"] != RATE_HZ:
        raise DataError(f"{path.name}: is at {raw.info['sfreq']} Hz, expected {RATE_HZ:g}")
    known = {c.name: c for c in eeg_channels(MONTAGE)}
    others = {n: "eog" if "EOG" in n.upper() else "misc" for n in raw.ch_names if n not in known}
    raw.set_channel_types(others, on_unit_change="ignore", verbose="error")
    raw.set_annotations(None)
    recording = recording_from_raw(raw, dataset="brennan2019", subject="", modality="eeg")
    signal = replace(recording.signal, channels=tuple(known[c.name] for c in recording.signal.channels))
    return signal, recording.streams[1:]


def bad_channels(facts: dict[str, Any]) -> set[str]:
    """Return the channels that the authors set aside (a struct field of theirs is spelled that way)."""
    bad: set[str] = set()
    for field, inner in (("impedence", "bads"), ("rejections", "badchans")):  # codespell:ignore
        listed = facts.get(field)
        if isinstance(listed, dict):
            bad |= {str(n) for n in np.atleast_1d(np.asarray(listed.get(inner, []), dtype=object)).ravel()}
    return bad


def word_events(table: Path, facts: dict[str, Any], proc: str, n_samples: int) -> tuple[Event, ...]:
    """Return words and sounds.

    A trial's rows are first sample, last sample, offset (FieldTrip: the word is at sample ``first − offset``).
    `value` is the word's time in its audio file; a sound begins that long before its first word.

    Raises
    ------
    DataError
        When the table is missing or has another number of rows than there are trials.
    """
    if not table.exists():
        raise DataError(f"{table.name} is missing; only it says which words were heard")
    rows = list(stream_rows(table, *COLUMNS))
    trials = np.atleast_2d(np.asarray(facts.get("trl")))
    if trials.dtype.kind not in "fiu" or trials.shape[1] < 3 or len(trials) != len(rows):
        raise DataError(f"{proc}: 'trl' has shape {trials.shape}, expected one row for each of {len(rows)} words")
    onsets = ((trials[:, 0] - trials[:, 2]) / RATE_HZ).tolist()
    if onsets and max(onsets) > n_samples / RATE_HZ:
        raise DataError(f"{proc}: a word at {max(onsets):.1f} s lies behind the end of the recording")
    return tuple(sorted([*_words(rows, onsets), *_sounds(rows, onsets)], key=lambda e: e.onset_s))


def _audio(row: dict[str, str]) -> str:
    return f"DownTheRabbitHoleFinal_SoundFile{number_or_nan(row['Segment']):.0f}.wav"


def _words(rows: Sequence[dict[str, str]], onsets: Sequence[float]) -> list[Event]:
    return [
        Event(
            onset_s=onset,
            duration_s=max(number_or_nan(row["offset"]) - number_or_nan(row["onset"]), 0.0),
            kind="word",
            label=row["Word"],
            value=number_or_nan(row["onset"]),
            stimulus_id=_audio(row),
            trial=i,
            block=int(number_or_nan(row["Sentence"])),
        )
        for i, (row, onset) in enumerate(zip(rows, onsets, strict=True))
    ]


def _sounds(rows: Sequence[dict[str, str]], onsets: Sequence[float]) -> list[Event]:
    first: dict[str, float] = {}
    for row, onset in zip(rows, onsets, strict=True):
        first.setdefault(_audio(row), onset - number_or_nan(row["onset"]))
    return [
        Event(onset_s=start, kind="sound", label=audio, value=0.0, stimulus_id=audio, trial=i)
        for i, (audio, start) in enumerate(first.items())
    ]
