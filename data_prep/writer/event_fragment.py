"""A recording whose signal is a list of events → the segments of a fragment, without binning anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_prep.stages.base import EventStage, Stage
from data_prep.writer.atomic import writing
from data_prep.writer.fragment import Fragment
from data_prep.writer.members import members_of
from data_prep.writer.noticed import SpikesSeen, coverages, covered, follow
from data_prep.writer.onsets import Onsets
from data_prep.writer.segment import check_segment_s, event_row, write_segment
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import EventStream, Recording, Stream
from neurofm.schema.segments import TIME, UNIT

# a clock that counts from 1970 would make millions of empty segments
LONGEST_S = 366 * 86400.0


def run_event_stages(recording: Recording, stages: Sequence[Stage | EventStage]) -> tuple[Recording, dict[str, float]]:
    """Return the recording after the stages, and the quality figures they gathered.

    Raises
    ------
    ConfigError
        When a stage is one of regular signals.
    DataError
        When the recording is empty or contradicts itself.
    """
    figures: dict[str, float] = {}
    check_events(recording)
    for stage in stages:
        if not isinstance(stage, EventStage):
            name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(stage).__name__).lower()
            raise ConfigError(
                f"stage '{name}' is of regular signals, and '{recording.recording_id}' holds events (spikes); choose "
                "stages=[] (prep@dataset=spikes): events are stored as they are and binned when reading (bin_s)"
            )
        stream, found = stage.apply(_events(recording))
        recording = replace(recording, streams=(stream, *recording.streams[1:]))
        figures |= found
    return recording, figures


def _events(recording: Recording) -> EventStream:
    assert isinstance(recording.first, EventStream)
    return recording.first


def check_events(recording: Recording) -> None:
    """Refuse a recording of events that has no units, no time, or contradicts itself."""
    s = _events(recording)
    if not s.channels:
        raise DataError("has no units (the unit table is empty)")
    names = [c.name for c in s.channels]
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise DataError(f"unit name '{twice[0]}' occurs {names.count(twice[0])} times; names must be unique")
    if len(s.duration_s) != len(recording.interval_start_s):
        raise DataError(f"{len(s.duration_s)} intervals have a length, {len(recording.interval_start_s)} have a start")
    if not s.duration_s or not all(np.isfinite(d) and d > 0 for d in s.duration_s):
        raise DataError(f"a valid interval is {min(s.duration_s, default=0.0)} s long; expected seconds above 0")
    if max(s.duration_s) > LONGEST_S:
        raise DataError(
            f"a valid interval is {max(s.duration_s) / 86400:.0f} days long; spike times count seconds of the recording, not of a calendar"
        )


def write_event_fragment(recording: Recording, path: Path, *, segment_s: float | None) -> Fragment:
    """Write a recording of events to `path`, atomically; see `writer.fragment.write_fragment`.

    Raises
    ------
    DataError
        When its events are not what they should be.
    WriteError
        When the file cannot be written.
    """
    check_segment_s(segment_s)
    signal, rid = _events(recording), recording.recording_id
    n_units = len(signal.channels)
    fragment = Fragment(scale=np.ones(n_units), offset=np.zeros(n_units), n_samples=[])
    rates = {s.name: s.rate_hz for s in recording.streams if isinstance(s, Stream)}
    seen, behaviour = SpikesSeen(n_units), coverages(recording.streams[1:])
    onsets = Onsets(recording.events)
    with writing(path) as f:
        for i, (origin_s, duration_s) in enumerate(zip(recording.interval_start_s, signal.duration_s, strict=True)):
            digest, n_events = hashlib.blake2b(f"{n_units}".encode(), digest_size=16), 0
            seen.begin(origin_s)
            for start_s, begin_s, end_s in segments_of(origin_s, duration_s, segment_s):
                arrays: dict[str, np.ndarray] = {}
                for stream in recording.streams:
                    arrays |= members_of(stream, i, begin_s, end_s)
                time_s, unit = arrays[signal.name + TIME], arrays[signal.name + UNIT]
                digest.update((time_s + begin_s).astype("<f8").data)
                digest.update(unit.data)
                n_events += len(unit)
                seen.push(time_s + start_s, unit)
                follow(behaviour, arrays, begin_s, end_s)
                counts = np.bincount(unit, minlength=n_units)
                meta = {
                    "recording_id": rid,
                    "interval": i,
                    "start_s": start_s,
                    "duration_s": end_s - begin_s,
                    "n_valid": {name: len(a) for name, a in arrays.items()},
                    "rate_hz": rates,
                    "channel_statistics": {signal.name: {"count": counts.tolist()}},
                    "events": [
                        event_row(e)
                        for e in onsets.about(origin_s + begin_s, origin_s + end_s)
                        if begin_s <= e.onset_s - origin_s < end_s
                    ],
                }  # fmt: skip
                fragment.segments.append(write_segment(f, rid, i, start_s, meta, arrays))
            # an interval without a single event is not the same as another one without
            fragment.content.append(digest.hexdigest() if n_events else "")
            seen.end(origin_s + duration_s)
        fragment.bytes = f.tell()
    fragment.counts = seen.counts
    fragment.figures |= seen.figures() | covered(behaviour)
    return fragment


def segments_of(origin_s: float, duration_s: float, segment_s: float | None) -> Iterator[tuple[float, float, float]]:
    """Yield (start on the recording's clock, start and stop in the interval) of the segments of one interval.

    The place in the interval is computed back from the start on the clock, as the reader does it: both then have
    the same bits, and as time − place is exact for place <= time <= 2 · place (Sterbenz), so is the round trip.
    """
    size = duration_s if segment_s is None else segment_s
    n = max(1, int(np.ceil(duration_s / size - 1e-9)))
    starts = [origin_s + k * size for k in range(n)]
    places = [t - origin_s for t in starts]
    yield from zip(starts, places, [*places[1:], duration_s], strict=True)
