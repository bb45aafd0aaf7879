"""An mne Raw object as a Recording: kinds, units, positions, bad channels, annotations; read lazily."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from data_prep.privacy import is_code, is_condition, words_of
from data_prep.readers.events import SLACK_S, require_inside
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Event, Recording, Stream

if TYPE_CHECKING:
    from mne import BaseEpochs
    from mne.io import BaseRaw

# Onset and duration in seconds from the first sample, and the text.
Note = tuple[float, float, str]
# mne channel type → unit and the factor from mne's SI values.
SIGNAL = {
    "eeg": ("uV", 1e6), "ecog": ("uV", 1e6), "seeg": ("uV", 1e6), "dbs": ("uV", 1e6),
    "mag": ("fT", 1e15), "grad": ("fT/cm", 1e13),
}  # fmt: skip
COVARIATE = {
    "eog": ("uV", 1e6), "ecg": ("uV", 1e6), "emg": ("uV", 1e6), "bio": ("uV", 1e6), "misc": ("au", 1.0),
    "resp": ("au", 1.0), "gsr": ("au", 1.0), "temperature": ("au", 1.0), "eyegaze": ("au", 1.0), "pupil": ("au", 1.0),
}  # fmt: skip
# so often a text of several words is no note about a person but a condition
RECURS = 3
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
    rate_hz: float | None = None,
    notes: Sequence[Note] | None = None,
    events: tuple[Event, ...] | None = None,
) -> Recording:
    """Return a Raw as a Recording.

    Signal channels (EEG, ECoG, sEEG, DBS, MEG) become the stream "signal", EOG, EMG, behaviour and the like the
    stream "covariate"; trigger channels are left out. Spans annotated as BAD are no part of a valid interval.
    Annotations that look like codes become events; other text and all dates are dropped. `rate_hz` takes the place
    of a rate that the header states wrongly, `notes` (onset and duration in seconds from the first sample, text) the
    place of the annotations, `events` the place of the events made of them.

    Raises
    ------
    DataError
        When there is no signal channel or no valid sample, or an event lies past the end.
    """
    types = raw.get_channel_types()
    rate_hz = float(raw.info["sfreq"]) if rate_hz is None else float(rate_hz)
    notes = notes_of(raw) if notes is None else notes
    if events is None:
        private = names_in(raw)
        # EDF+ allows annotations of what was before the recording; as in BIDS they are left out
        events = events_of([n for n in notes if n[0] >= -SLACK_S and not private & words_of(n[2])])
    require_inside(events, raw.n_times / rate_hz)
    spans = valid_spans(notes, n_samples=raw.n_times, rate_hz=rate_hz)
    if not spans:
        raise DataError("has no valid sample (empty, or annotated as BAD throughout)")
    streams = []
    for name, role, table in (("signal", "signal", SIGNAL), ("covariate", "covariate", COVARIATE)):
        stream = stream_of(raw, name, role, table, spans, rate_hz)
        if stream is not None:
            streams.append(stream)
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
        events=events,
        source_file=source_file,
        source_sha256=source_sha256,
    )


def stream_of(
    raw: BaseRaw,
    name: str,
    role: str,
    table: Mapping[str, tuple[str, float]],
    spans: Sequence[tuple[int, int]],
    rate_hz: float,
) -> Stream | None:
    """Return the channels whose type is in `table` (type → unit and factor) as a stream; None when there are none.

    Parameters
    ----------
    raw : mne Raw
        Read block by block.
    name, role : str
        Of the stream.
    table : mapping
        `SIGNAL` or `COVARIATE`.
    spans : sequence of (start, stop)
        Samples of each valid interval.
    rate_hz : float
        Samples per second.
    """
    types = raw.get_channel_types()
    picks = [i for i, t in enumerate(types) if t in table]
    if not picks:
        return None
    units = [table[types[i]] for i in picks]
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


def valid_spans(notes: Sequence[Note], *, n_samples: int, rate_hz: float) -> list[tuple[int, int]]:
    """Return the (start, stop) samples outside of every annotation that begins with "bad"."""
    n = n_samples
    bad = []
    for onset, duration, text in notes:
        if text.lower().startswith("bad"):
            bad.append((max(0, int(np.floor(onset * rate_hz))), min(n, int(np.ceil((onset + duration) * rate_hz)))))
    spans, at = [], 0
    for a, b in [*sorted(bad), (n, n)]:
        if a > at:
            spans.append((at, a))
        at = max(at, b)
    return spans


def events_of(notes: Sequence[Note]) -> tuple[Event, ...]:
    """Return annotations that name a stimulus or condition as events on the recording's clock, trials by onset.

    One token that looks like a code is enough; a text of several words must come at least `RECURS` times.
    """
    count = Counter(text for _, _, text in notes)
    found = sorted(
        n for n in notes
        if (is_code(n[2]) or (count[n[2]] >= RECURS and is_condition(n[2])))
        and not n[2].lower().startswith(("bad", "edge"))
    )  # fmt: skip
    return tuple(
        Event(onset_s=onset, duration_s=duration, kind="annotation", label=text, trial=i)
        for i, (onset, duration, text) in enumerate(found)
    )


def names_in(raw: BaseRaw) -> set[str]:
    """Return the words of the names that a header holds; an annotation with one of them is about a person."""
    info = raw.info
    facts = info["subject_info"] or {}
    texts = [str(facts.get(k) or "") for k in ("his_id", "first_name", "middle_name", "last_name")]
    # an anonymised header says so in these words
    none = {"anonymous", "anonymized", "anonymize", "unknown", "patient", "subject", "sub", "mne"}
    return words_of(" ".join([*texts, str(info["experimenter"] or "")])) - none


def notes_of(raw: BaseRaw) -> list[Note]:
    """Return (onset, duration, text) of every annotation, in seconds from the first sample, by onset."""
    notes = raw.annotations
    return sorted(
        (float(o) - raw.first_time, float(d), str(t))
        for o, d, t in zip(notes.onset, notes.duration, notes.description, strict=True)
    )
