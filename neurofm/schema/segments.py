"""The `.idx` beside each tar: where every segment's bytes lie, so that a window is one positioned read.

Layout (JSON): ``{"tar": file name, "bytes": size, "segments": [...]}``; one entry per segment, in tar order::

    {"key": "hcp7_sub-1_000000000", "recording_id": …, "interval": 0, "start_s": 0.0,
     "streams": {"signal": {"offset": 1536, "size": 225600, "crc32": 123, "n_valid": 1200}}}

A stream of events has two members, ``<stream>.time`` (float64 seconds from the segment's start) and ``<stream>.unit``
(int32), one row per event; a segment without events has both, empty. A segment's place in its interval is computed
as ``start_s - start of the interval`` by writer and reader alike, so that times come back to the bit.

`interval` is the valid interval the segment belongs to; segments of one interval are contiguous in time.
`offset` and `size` cover the whole .npy member, header included; `crc32` is of those bytes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import canonical_json, read_json

# members of a stream of events: what follows the stream's name
TIME, UNIT = ".time", ".unit"


@dataclass(frozen=True, slots=True)
class StreamSpan:
    """Where one stream (or one member of a stream of events) of one segment lies in the tar."""

    offset: int
    size: int
    crc32: int
    n_valid: int


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment of a recording and its streams."""

    key: str
    recording_id: str
    interval: int
    start_s: float
    streams: dict[str, StreamSpan]


def index_text(tar: str, size: int, segments: list[SegmentEntry]) -> str:
    """Return the text of an index file; equal input gives equal bytes."""
    return canonical_json({"tar": tar, "bytes": size, "segments": [asdict(s) for s in segments]}) + "\n"


def read_index(path: str | Path) -> tuple[int, list[SegmentEntry]]:
    """Return the size the tar should have, and its segments.

    Raises
    ------
    DataError
        When the index is missing or malformed.
    """
    raw = read_json(path)
    try:
        return int(raw["bytes"]), [
            SegmentEntry(
                s["key"], s["recording_id"], s["interval"], s["start_s"],
                {name: StreamSpan(**span) for name, span in s["streams"].items()},
            )
            for s in raw["segments"]
        ]  # fmt: skip
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: is not a shard index ({error}); prepare the dataset again") from error
