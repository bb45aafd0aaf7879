"""A regular recording → its fragment: quantized, checksummed segments.

A recording is first written as a *fragment*: the tar members of its segments one after the other, without the
tar's end. A shard is a few fragments in a row and an end, so packing copies bytes and shifts offsets.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np

from data_prep.flow import Flow
from data_prep.writer.atomic import writing
from data_prep.writer.members import members_of
from data_prep.writer.onsets import Onsets
from data_prep.writer.quantize import DTYPES, Range, encode, find_range, quantizer
from data_prep.writer.segment import STATISTICS_SAMPLES, Segment, check_segment_s, event_row, statistics, write_segment
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Recording, Stream

WRITER_VERSION = 3


@dataclass(kw_only=True)
class Fragment:
    """What writing a recording found out.

    Attributes
    ----------
    segments : list of Segment
        In time order.
    scale, offset : arrays, shape (channel,)
        Physical value = stored · scale + offset.
    n_samples : list of int
        Length of each valid interval.
    round_trip_error : float
        Largest |stored − original| / channel range.
    content : list of str
        Hash of the values (as float32) of each valid interval that has samples; "" where none of its channels moves.
    """

    segments: list[Segment] = field(default_factory=list)
    scale: np.ndarray
    offset: np.ndarray
    n_samples: list[int]
    round_trip_error: float = 0.0
    content: list[str] = field(default_factory=list)
    bytes: int = 0


def write_fragment(
    recording: Recording, flow: Flow, path: Path, *, segment_s: float | None, storage_dtype: str
) -> Fragment:
    """Write a recording's segments to `path`, atomically.

    Parameters
    ----------
    recording : Recording
        Its identity and further streams.
    flow : Flow
        Its signal after the stages, and its events.
    path : Path
        The fragment file.
    segment_s : float or None
        Longest segment in seconds; None = one segment per valid interval.
    storage_dtype : str
        "int16", "float16" or "float32".

    Raises
    ------
    DataError
        When the recording cannot be stored.
    WriteError
        When the file cannot be written.
    """
    if storage_dtype not in DTYPES:
        raise ConfigError(f"storage_dtype is '{storage_dtype}'; expected one of {', '.join(DTYPES)}")
    check_segment_s(segment_s)
    dtype = DTYPES[storage_dtype]
    found = find_range(flow, path.parent)
    n_channels = len(flow.info.channels)
    scale, offset = np.ones(n_channels), np.zeros(n_channels)
    if dtype == "<i2":
        scale, offset = quantizer(found.low, found.high)
    biggest = np.maximum(np.abs(found.low), np.abs(found.high))
    limit = np.finfo(dtype).max if dtype != "<i2" else np.inf
    if (biggest > limit).any():
        name = flow.info.channels[int(np.argmax(biggest))].name
        raise DataError(f"channel '{name}' reaches {biggest.max():.4g}, beyond {storage_dtype}; store as int16")
    fragment = Fragment(scale=scale, offset=offset, n_samples=found.n_samples)
    extent = np.where(found.high > found.low, found.high - found.low, np.maximum(biggest, 1e-300))
    onsets = Onsets(flow.events)
    with writing(path) as f:
        for i in range(len(flow.intervals)):
            if found.n_samples[i]:
                content = _write_interval(f, recording, flow, i, found, fragment, dtype, extent, segment_s, onsets)
                fragment.content.append(content)
        fragment.bytes = f.tell()
    found.spool.close()
    return fragment


def _write_interval(
    f: IO[bytes],
    recording: Recording,
    flow: Flow,
    i: int,
    found: Range,
    fragment: Fragment,
    dtype: str,
    extent: np.ndarray,
    segment_s: float | None,
    onsets: Onsets,
) -> str:
    """Write the segments of one valid interval; return the hash of its values."""
    rate, interval, total = flow.info.rate_hz, flow.intervals[i], found.n_samples[i]
    size = total if segment_s is None else max(1, round(segment_s * rate))
    blocks = found.spool.blocks(i) if found.spool.kept else flow.blocks(i, 0, None)
    at = 0
    digest, moves = hashlib.blake2b(f"{rate:.9g} {len(flow.info.channels)}".encode(), digest_size=16), False
    for values in regroup(blocks, size):
        digest.update(np.ascontiguousarray(values, dtype="<f4").data)
        moves = moves or bool((values != values[0]).any())
        stored = encode(values, dtype, fragment.scale, fragment.offset)
        error = np.abs(stored * fragment.scale + fragment.offset - values).max(axis=0) / extent
        fragment.round_trip_error = max(fragment.round_trip_error, float(error.max()))
        start_s = interval.start_s + at / rate
        stop_s = interval.start_s + (at + len(values)) / rate
        arrays = {recording.signal.name: stored}
        begin_s, end_s = (interval.offset_s + (t - interval.start_s) for t in (start_s, stop_s))
        for stream in recording.streams[1:]:
            arrays |= members_of(stream, interval.source, begin_s, end_s)
        rates = {s.name: s.rate_hz for s in recording.streams if isinstance(s, Stream)} | {recording.signal.name: rate}
        meta = {
            "recording_id": recording.recording_id,
            "interval": i,
            "start_s": start_s,
            "n_valid": {name: len(a) for name, a in arrays.items()},
            "rate_hz": rates,
            "events": [event_row(e) for e in onsets.about(start_s, stop_s) if start_s <= e.onset_s < stop_s],
        }
        if len(values) >= STATISTICS_SAMPLES:
            meta["channel_statistics"] = {recording.signal.name: statistics(values)}
        fragment.segments.append(write_segment(f, recording.recording_id, i, start_s, meta, arrays))
        at += len(values)
    return digest.hexdigest() if moves else ""


def regroup(blocks: Iterator[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut a stream of blocks into pieces of `size` samples, the last one shorter; float64."""
    held: list[np.ndarray] = []
    n = 0
    for whole in blocks:
        block = np.asarray(whole, dtype=np.float64)
        while n + len(block) >= size:
            yield np.concatenate([*held, block[: size - n]])
            block, held, n = block[size - n :], [], 0
        if len(block):
            held.append(block)
            n += len(block)
    if n:
        yield np.concatenate(held)
