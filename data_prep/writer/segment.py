"""One segment as members of a tar: its JSON first, then one .npy per stream, the same bytes every time."""

from __future__ import annotations

import io
import tarfile
import zlib
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import canonical_json
from neurofm.schema.recording import KEY, Event
from neurofm.schema.segments import SegmentEntry, StreamSpan

END_OF_TAR = b"\0" * 1024
# A segment shorter than this carries no statistics of its channels: they would be a good part of its bytes, and
# whoever wants them has them from its values in no time.
STATISTICS_SAMPLES = 1000
# What an event's field holds when nothing is known (a value is NaN then).
ABSENT = {"label": "", "value": None, "stimulus_id": "", "trial": -1, "block": -1}


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a fragment: its index entry (offsets from the fragment's start) and its bytes there."""

    entry: SegmentEntry
    start: int
    stop: int


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


def write_segment(
    f: IO[bytes], recording_id: str, i: int, start_s: float, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> Segment:
    """Write the members of one segment, its JSON first; `arrays` are by member name (a stream's, or events' two)."""
    key = f"{recording_id}_{round(start_s * 1000):09d}"
    if not KEY.fullmatch(key):
        raise DataError(f"segment key '{key}' is not of the form [a-z0-9_-]+; start_s must not be negative")
    begin = f.tell()
    f.write(tar_member(f"{key}.json", canonical_json(meta).encode())[0])
    spans = {}
    for name, array in arrays.items():
        data = npy_bytes(array)
        member, head = tar_member(f"{key}.{name}.npy", data)
        spans[name] = StreamSpan(offset=f.tell() + head, size=len(data), crc32=zlib.crc32(data), n_valid=len(array))
        f.write(member)
    return Segment(entry=SegmentEntry(key, recording_id, i, start_s, spans), start=begin, stop=f.tell())


def statistics(values: np.ndarray) -> dict[str, list[float]]:
    """Mean, SD, minimum and maximum of each channel, to seven digits."""
    rows = {"mean": values.mean(axis=0), "sd": values.std(axis=0), "min": values.min(axis=0), "max": values.max(axis=0)}
    return {name: [float(f"{v:.7g}") for v in row] for name, row in rows.items()}


def event_row(event: Event) -> dict[str, Any]:
    """Return an event as JSON can hold it, without the fields that say nothing."""
    row = {name: getattr(event, name) for name in Event.__dataclass_fields__}
    return {k: v for k, v in row.items() if k not in ABSENT or (v != ABSENT[k] and v == v)}


def check_segment_s(segment_s: float | None) -> None:
    """Refuse a length of segments that is none."""
    if segment_s is not None and not segment_s > 0:
        raise ConfigError(f"segment_s is {segment_s}; expected seconds above 0, or null for one segment per interval")
