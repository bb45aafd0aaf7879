"""Finding a `Piece` in a recording: whichever way a reader lays trials on its clock, the same samples are there."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from neurofm.schema.recording import Event, Recording

from .expected import Piece


def electrode(name: str) -> str:
    """Return a channel's name without what differs between spellings: ``"EEG FP1-REF"``, ``"Fp1."`` → ``"fp1"``."""
    text = re.sub(r"^eeg[\s_-]+", "", name.strip().lower()).rstrip(".")
    return re.sub(r"-(ref|le|0|1)$", "", text)


def electrodes(recording: Recording) -> list[str]:
    """Return the signal's electrodes in order, each once."""
    return list(dict.fromkeys(electrode(c.name) for c in recording.signal.channels))


def label_fits(found: str, asked: Any) -> bool:
    """Whether a label is the one asked for."""
    return bool(asked.search(found)) if isinstance(asked, re.Pattern) else found == asked


def place(recording: Recording, piece: Piece) -> float | None:
    """Return the time of the piece's first sample on the recording's clock, None when it is not there."""
    signal, n = recording.signal, len(piece.values)
    for i, n_i in enumerate(signal.n_samples):
        first, start_s = n_i - n, recording.interval_start_s[i]
        if piece.at_s is not None:
            first = round((piece.at_s - start_s) * signal.rate_hz)
        if first < 0 or first + n > n_i:
            continue
        found = np.asarray(signal.read(i, first, first + n), dtype=np.float64)
        if piece.electrodes is not None:
            names = [electrode(c.name) for c in signal.channels]
            if not set(piece.electrodes) <= set(names):
                continue
            found = found[:, [names.index(e) for e in piece.electrodes]]
        if found.shape == piece.values.shape and same(found, piece):
            return start_s + first / signal.rate_hz
    return None


def same(found: np.ndarray, piece: Piece) -> bool:
    """Whether values are those of the piece, where it asks for any."""
    asked = np.isfinite(piece.values)
    a, b = found[asked], np.asarray(piece.values, dtype=np.float64)[asked]
    if piece.any_scale:
        factor = float(a @ b) / float(b @ b)
        return bool(factor > 0 and np.allclose(a, factor * b, rtol=0, atol=factor * piece.atol))
    return bool(np.allclose(a, b, rtol=0, atol=piece.atol))


def events_during(recording: Recording, start_s: float, stop_s: float) -> list[Event]:
    """Return the events in a span, in order of onset."""
    inside = (e for e in recording.events if start_s - 1e-6 <= e.onset_s < stop_s - 1e-6)
    return sorted(inside, key=lambda e: e.onset_s)


def check_piece(recording: Recording, piece: Piece) -> list[tuple[str, str]]:
    """Check one piece; return (name of stimulus, stimulus_id) pairs."""
    at = place(recording, piece)
    assert at is not None, f"{recording.recording_id}: a piece of {len(piece.values)} samples is not in it"
    events = events_during(recording, at, at + len(piece.values) / recording.signal.rate_hz)
    for word, number in piece.ratings.items():
        given = [r for e in events if (r := rating(e, word)) is not None]
        assert any(abs(g - number) < 1e-3 for g in given), (recording.recording_id, at, word, number, given)
    pairs = []
    if piece.shown is not None:
        ids = {e.stimulus_id for e in events if abs(e.onset_s - at - piece.shown[0]) < 2e-3}
        assert len(ids) == 1, (recording.recording_id, at, piece.shown, events)
        pairs.append((piece.shown[1], ids.pop()))
    if piece.events is None:
        return pairs
    events = [e for e in events if piece.events_of is None or re.search(piece.events_of, e.label)]
    said = [(recording.recording_id, round(at, 3)), [e.label for e in events], piece.events]
    assert len(events) == len(piece.events), said
    for event, (onset_s, label, *duration_s) in zip(events, piece.events, strict=True):
        assert label_fits(event.label, label), said
        assert abs(event.onset_s - at - onset_s) < 2e-3, (said, event.onset_s - at, onset_s)
        for d in duration_s:
            assert abs(event.duration_s - d) < 2e-3, (said, event.duration_s, d)
    return pairs + list(zip(piece.stimuli or [], (e.stimulus_id for e in events), strict=False))


def rating(event: Event, word: str) -> float | None:
    """Return the number that an event gives for a word, None when it gives none."""
    if word not in f"{event.kind} {event.label}".lower():
        return None
    if np.isfinite(event.value):
        return float(event.value)
    number = re.search(word + r"\D{0,3}(-?\d+(\.\d+)?)", event.label.lower())
    return float(number.group(1)) if number else None


def check_stimuli(pairs: list[tuple[str, str]]) -> None:
    """Equal stimuli have equal, different stimuli different, identities; none is empty."""
    assert all(found for _, found in pairs), pairs
    assert len(set(pairs)) == len({a for a, _ in pairs}) == len({b for _, b in pairs}), sorted(set(pairs))
