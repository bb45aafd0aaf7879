"""An mne Raw object as a Recording: kinds, units, positions, bad channels, annotations; read lazily."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from data_prep.privacy import CODE
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Event, Recording, Stream

if TYPE_CHECKING:
    from mne import BaseEpochs
    from mne.io import BaseRaw

# mne channel type → unit and the factor from mne's SI values.
SIGNAL = {
    "eeg": ("uV", 1e6), "ecog": ("uV", 1e6), "seeg": ("uV", 1e6), "dbs": ("uV", 1e6),
    "mag": ("fT", 1e15), "grad": ("fT/cm", 1e13),
}  # fmt: skip
COVARIATE = {
    "eog": ("uV", 1e6), "ecg": ("uV", 1e6), "emg": ("uV", 1e6), "bio": ("uV", 1e6), "misc": ("au", 1.0),
    "resp": ("au", 1.0), "gsr": ("au", 1.0), "temperature": ("au", 1.0), "eyegaze": ("au", 1.0), "pupil": ("au", 1.0),
}  # fmt: skip
FRAMES = {"mni_tal": "mni", "mri": "mri", "head": "head"}


def recording_from_raw(
    raw: BaseRaw,
    *,
    dataset: str,
    subject: str,
    modality: str,
    session: str = "",
    task: str = "",
    run: str = "",
    source_file: str = "",
    source_sha256: str = "",
) -> Recording:
    """Return a Raw as a Recording.

    Signal channels (EEG, ECoG, sEEG, DBS, MEG) become the stream "signal", EOG, EMG, behaviour and the like the
    stream "covariate"; trigger channels are left out. Spans annotated as BAD are no part of a valid interval.
    Annotations that look like codes become events; other text and all dates are dropped.

    Raises
    ------
    DataError
        When there is no signal channel or no valid sample.
    """
    types = raw.get_channel_types()
    rate_hz = float(raw.info["sfreq"])
    spans = valid_spans(raw)
    if not spans:
        raise DataError("has no valid sample (empty, or annotated as BAD throughout)")
    streams = []
    for name, role, table in (("signal", "signal", SIGNAL), ("covariate", "covariate", COVARIATE)):
        picks = [i for i, t in enumerate(types) if t in table]
        if picks:
            streams.append(_stream(raw, name, role, picks, [table[types[i]] for i in picks], spans, rate_hz))
        elif name == "signal":
            kinds = ", ".join(sorted(set(types))) or "none"
            raise DataError(f"has no EEG, iEEG or MEG channel (kinds: {kinds}); set the kinds of its channels")
    return Recording(
        dataset=dataset,
        subject=subject,
        session=session,
        task=task,
        run=run,
        modality=modality,
        streams=tuple(streams),
        interval_start_s=tuple(a / rate_hz for a, _ in spans),
        events=events_of(raw),
        source_file=source_file,
        source_sha256=source_sha256,
    )


def _stream(
    raw: BaseRaw,
    name: str,
    role: str,
    picks: list[int],
    units: list[tuple[str, float]],
    spans: list[tuple[int, int]],
    rate_hz: float,
) -> Stream:
    scale = np.array([f for _, f in units])

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        first = spans[interval][0]
        return raw.get_data(picks=picks, start=first + start, stop=first + stop, verbose="error").T * scale

    channels = tuple(channel_of(raw, i, unit) for i, (unit, _) in zip(picks, units, strict=True))
    return Stream(
        name=name,
        role=role,
        unit=units[0][0],
        rate_hz=rate_hz,
        channels=channels,
        n_samples=tuple(b - a for a, b in spans),
        read=read,
    )


def channel_of(raw: BaseRaw | BaseEpochs, i: int, unit: str) -> Channel:
    """Return channel `i` of an mne object: kind, place, and whether it is marked bad."""
    facts = raw.info["chs"][i]
    kind = raw.get_channel_types(picks=[i])[0]
    name = raw.ch_names[i]
    bad = name in raw.info["bads"]
    channel = Channel(
        name=name,
        canonical=canonical_name(name) if kind == "eeg" else "",
        kind=kind,
        unit=unit,
        bad=bad,
        reason="marked bad at the source" if bad else "",
    )
    place = np.asarray(facts["loc"][:3], dtype=np.float64)
    if kind not in SIGNAL or not np.isfinite(place).all() or not place.any():
        return channel
    from mne.io.constants import FIFF

    frames = {FIFF.FIFFV_COORD_HEAD: "head", FIFF.FIFFV_MNE_COORD_MNI_TAL: "mni", FIFF.FIFFV_COORD_DEVICE: "device"}
    x, y, z = (float(v) for v in place)
    return replace(channel, x=x, y=y, z=z, frame=frames.get(int(facts["coord_frame"]), "unknown"))


def canonical_name(name: str) -> str:
    """Return an EEG electrode's name as shared across files: ``"EEG FPZ-REF."`` → ``"fpz"``."""
    text = re.sub(r"^(eeg|seeg)[\s_-]+", "", name.strip().lower())
    text = re.sub(r"[-_ ](ref|le|ar|avg|m1|m2|a1|a2)$", "", text.rstrip("."))
    return text.rstrip(".")


def valid_spans(raw: BaseRaw) -> list[tuple[int, int]]:
    """Return the (start, stop) samples outside of every annotation that begins with "bad"."""
    rate, n = raw.info["sfreq"], raw.n_times
    bad = []
    for onset, duration, text in notes_of(raw):
        if text.lower().startswith("bad"):
            bad.append((max(0, int(np.floor(onset * rate))), min(n, int(np.ceil((onset + duration) * rate)))))
    spans, at = [], 0
    for a, b in [*sorted(bad), (n, n)]:
        if a > at:
            spans.append((at, a))
        at = max(at, b)
    return spans


def events_of(raw: BaseRaw) -> tuple[Event, ...]:
    """Return annotations that look like codes as events on the recording's clock, trials numbered by onset."""
    found = [n for n in notes_of(raw) if CODE.fullmatch(n[2]) and not n[2].lower().startswith(("bad", "edge"))]
    return tuple(
        Event(onset_s=onset, duration_s=duration, kind="annotation", label=text, trial=i)
        for i, (onset, duration, text) in enumerate(found)
    )


def notes_of(raw: BaseRaw) -> list[tuple[float, float, str]]:
    """Return (onset, duration, text) of every annotation, in seconds from the first sample, by onset."""
    notes = raw.annotations
    return sorted(
        (float(o) - raw.first_time, float(d), str(t))
        for o, d, t in zip(notes.onset, notes.duration, notes.description, strict=True)
    )
