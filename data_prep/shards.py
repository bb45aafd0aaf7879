"""Segments as members of a tar: quantized, checksummed, and the same bytes every time.

A recording is first written as a *fragment*: the tar members of its segments one after the other, without the
tar's end. A shard is a few fragments in a row and an end, so packing copies bytes and shifts offsets.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from data_prep.flow import Flow
from data_prep.members import members_of
from data_prep.spool import Spool
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import KEY, Event, Recording, Stream
from neurofm.schema.segments import SegmentEntry, StreamSpan

WRITER_VERSION = 2
DTYPES = {"int16": "<i2", "float16": "<f2", "float32": "<f4"}
END_OF_TAR = b"\0" * 1024


class WriteError(DataError):
    """The output could not be written; unlike a bad recording this ends the whole preparation."""


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when whole; a full disk leaves nothing behind.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        f = _Guarded(part)
    except OSError as error:
        raise WriteError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        with f.file:
            yield f  # type: ignore[misc]
            f.guard(f.file.flush)
            f.guard(lambda: os.fsync(f.file.fileno()))
        f.guard(lambda: os.replace(part, path))
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _Guarded:
    """A file whose failing writes are told apart from failing reads of the recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "wb")  # noqa: SIM115

    def write(self, data: bytes) -> int:
        return self.guard(lambda: self.file.write(data))

    def tell(self) -> int:
        return self.file.tell()

    def guard(self, action: Any) -> Any:
        try:
            return action()
        except OSError as error:
            raise WriteError(
                f"{self.path.parent}: could not be written ({error.strerror}); "
                "make room or choose another folder, then run the same command again: finished recordings are kept"
            ) from error


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a fragment: its index entry (offsets from the fragment's start) and its bytes there."""

    entry: SegmentEntry
    start: int
    stop: int


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


@dataclass(frozen=True, kw_only=True)
class Range:
    """Smallest and largest value of each channel, and the length of each interval."""

    low: np.ndarray
    high: np.ndarray
    n_samples: list[int]
    spool: Spool


def tar_member(name: str, data: bytes) -> tuple[bytes, int]:
    """Return the bytes of one tar member (header, data, padding) and the offset of the data in them."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    info.mtime = 0
    head = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    return head + data + b"\0" * (-len(data) % tarfile.BLOCKSIZE), len(head)


def npy_bytes(array: np.ndarray) -> bytes:
    """Return `array` in the .npy format, C order."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def find_range(flow: Flow, folder: Path | None = None) -> Range:
    """First pass: the range of every channel; the blocks are kept for the second where there is room.

    Raises
    ------
    DataError
        When a value is not finite or no sample is left.
    """
    n_channels = len(flow.info.channels)
    low, high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    lengths: list[int] = []
    expected = sum(i.length_s for i in flow.intervals) * flow.info.rate_hz * n_channels * 8
    spool = Spool(folder, expected_bytes=round(expected))
    for i in range(len(flow.intervals)):
        n = 0
        spool.begin_interval()
        for block in flow.blocks(i, 0, None):
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            n += len(block)
            spool.add(block)
        lengths.append(n)
    if sum(lengths) == 0:
        raise DataError("no sample is left after the stages")
    wrong = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if len(wrong):
        name = flow.info.channels[wrong[0]].name
        raise DataError(f"channel '{name}' holds values that are not finite; add the stage 'quality' before the others")
    return Range(low=low, high=high, n_samples=lengths, spool=spool)


def quantizer(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset that spread each channel's range over ±32767; error at most range / 131068.

    A constant channel gets scale 1 and its value as offset, so it comes back exactly.
    """
    scale = high / 65534 - low / 65534
    constant = scale < np.finfo(np.float64).tiny
    return np.where(constant, 1.0, scale), np.where(constant, low, low / 2 + high / 2)


def encode(values: np.ndarray, dtype: str, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return `values` (time, channel) as stored."""
    if dtype == "<i2":
        return np.clip(np.rint((values - offset) / scale), -32767, 32767).astype(dtype)
    return values.astype(dtype)


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
    if segment_s is not None and not segment_s > 0:
        raise ConfigError(f"segment_s is {segment_s}; expected seconds above 0, or null for one segment per interval")
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
    with writing(path) as f:
        for i in range(len(flow.intervals)):
            if found.n_samples[i]:
                content = _write_interval(f, recording, flow, i, found, fragment, dtype, extent, segment_s)
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
            "channel_statistics": {recording.signal.name: statistics(values)},
            "events": [event_row(e) for e in flow.events if start_s <= e.onset_s < stop_s],
        }
        fragment.segments.append(write_segment(f, recording.recording_id, i, start_s, meta, arrays))
        at += len(values)
    return digest.hexdigest() if moves else ""


def write_segment(
    f: IO[bytes], recording_id: str, i: int, start_s: float, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Segment:
    """Write the members of one segment, its JSON first; `arrays` are by member name (a stream's, or events' two)."""
    key = f"{recording_id}_{round(start_s * 1000):09d}"
    if not KEY.fullmatch(key):
        raise DataError(f"segment key '{key}' is not of the form [a-z0-9_-]+; start_s must not be negative")
    begin = f.tell()
    f.write(tar_member(f"{key}.json", json.dumps(meta, sort_keys=True, allow_nan=False).encode())[0])
    spans = {}
    for name, array in arrays.items():
        data = npy_bytes(array)
        member, head = tar_member(f"{key}.{name}.npy", data)
        spans[name] = StreamSpan(offset=f.tell() + head, size=len(data), crc32=zlib.crc32(data), n_valid=len(array))
        f.write(member)
    return Segment(entry=SegmentEntry(key, recording_id, i, start_s, spans), start=begin, stop=f.tell())


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


def statistics(values: np.ndarray) -> dict[str, list[float]]:
    """Mean, SD, minimum and maximum of each channel, to seven digits."""
    rows = {"mean": values.mean(axis=0), "sd": values.std(axis=0), "min": values.min(axis=0), "max": values.max(axis=0)}
    return {name: [float(f"{v:.7g}") for v in row] for name, row in rows.items()}


def event_row(event: Event) -> dict[str, Any]:
    """Return an event as JSON can hold it (an absent value is null)."""
    row = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
