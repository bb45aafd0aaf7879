"""Turns one item into a staged fragment and its receipt; what a worker runs.

A receipt is a JSON file that appears only after its fragment is whole. Its name is a hash of everything that
decides the fragment's bytes, so a receipt that exists can be trusted and a changed setting finds none.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_prep.flow import Flow, build_stages, run_stages
from data_prep.privacy import WRITTEN_DATE
from data_prep.sources.base import Item
from data_prep.writer.atomic import WriteError, writing
from data_prep.writer.event_fragment import run_event_stages, write_event_fragment
from data_prep.writer.fragment import WRITER_VERSION, Fragment, write_fragment
from data_prep.writer.members import COVARIATE_DTYPE, TIME_DTYPE
from data_prep.writer.quantize import DTYPES
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import canonical_json, hash_of, read_json
from neurofm.schema.recording import Channel, EventStream, Recording, Stream, slug
from neurofm.schema.words import SILENT

# What readers of other people's files raise when a file is not what it claims to be.
READER_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, OSError, RuntimeError,
    TypeError, ValueError, struct.error,
)  # fmt: skip

ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:[^\s/'\":]+/)+")


class Outcome(NamedTuple):
    """What came of an item: the reason when it is rejected, None when its receipt is written, and its hours."""

    reason: str | None
    hours: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is done to every item; the same on every worker.

    Attributes
    ----------
    staging : Path
        Where fragments and receipts go.
    dataset : str
        Id of the dataset, first part of every recording id; "" keeps the source's own.
    source : dict
        The source as described, for the receipt's key.
    stages : tuple of mapping
        ``{"name": …, **choices}`` each.
    segment_s, storage_dtype :
        See `writer.fragment.write_fragment`.
    """

    staging: Path
    dataset: str
    source: dict[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    segment_s: float | None
    storage_dtype: str

    def settings(self) -> dict[str, Any]:
        """Return everything but the input that decides the bytes."""
        stages = build_stages(self.stages)
        return {
            "dataset": self.dataset,
            "source": self.source,
            "stages": [stage.describe(entry) for stage, entry in zip(stages, self.stages, strict=True)],
            "stage_versions": [stage.version for stage in stages],
            "segment_s": self.segment_s,
            "storage_dtype": self.storage_dtype,
            "writer_version": WRITER_VERSION,
        }

    def stem(self, item: Item) -> Path:
        """Path of an item's receipt and fragment, without suffix."""
        key = hash_of([self.settings(), item.key, item.fingerprint])
        return self.staging / f"{slug(item.key)[:60]}.{key}"

    def receipt_path(self, item: Item) -> Path:
        """Path of an item's receipt."""
        return self.stem(item).with_name(self.stem(item).name + ".json")

    def fragment_path(self, item: Item) -> Path:
        """Path of an item's fragment."""
        return self.stem(item).with_name(self.stem(item).name + ".part.tar")

    def __call__(self, item: Item) -> Outcome:
        """Prepare one item."""
        return stage_item(self, item)


def finished(job: Job, item: Item) -> bool:
    """Whether an item's receipt and its fragment are there."""
    receipt, fragment = job.receipt_path(item), job.fragment_path(item)
    return receipt.exists() and fragment.exists() and fragment.stat().st_size == read_json(receipt)["bytes"]


def stage_item(job: Job, item: Item) -> Outcome:
    """Load, prepare and stage one item; the outcome says whether its receipt is written.

    Raises
    ------
    WriteError, ConfigError
        What is not the recording's fault.
    """
    try:
        recording = item.load()
        if job.dataset:
            recording = replace(recording, dataset=job.dataset)
        stages, path = build_stages(job.stages), job.fragment_path(item)
        if isinstance(recording.first, EventStream):
            recording, figures = run_event_stages(recording, stages)
            fragment = write_event_fragment(recording, path, segment_s=job.segment_s)
            rows = event_rows_of(recording, figures, fragment)
        else:
            flow = run_stages(recording, stages)
            fragment = write_fragment(recording, flow, path, segment_s=job.segment_s, storage_dtype=job.storage_dtype)
            rows = rows_of(recording, flow, fragment, job.storage_dtype)
    except (WriteError, ConfigError):
        raise
    except DataError as error:
        # whoever shows a reason says of which file it is
        return Outcome(without_folders(str(error)).removeprefix(f"{Path(item.source_file).name}: "))
    except FileNotFoundError as error:
        gone = Path(error.filename or item.source_file).name
        return Outcome(f"'{gone}' is not there: a link to a file that was not fetched (datalad get), or it was moved")
    except READER_ERRORS as error:
        return Outcome(f"could not be read ({type(error).__name__}: {unquoted(str(error))})")
    receipt = {"bytes": fragment.bytes, **rows}
    with writing(job.receipt_path(item)) as f:
        f.write(canonical_json(receipt).encode())
    return Outcome(None, receipt["recording"]["duration_s"] / 3600)


def without_folders(text: str) -> str:
    """Return a reason with absolute paths cut down to file names: a home folder's name is a person's."""
    return ABSOLUTE.sub("", text)


def unquoted(text: str) -> str:
    """Return what another library says without what it quotes: that may be a name, a date or a note in the file."""
    text = without_folders(" ".join(text.split()))
    text = re.sub(r"""b?(?<!\w)(['"]).*?\1(?!\w)""", "'…'", text)
    return WRITTEN_DATE.sub("…", text)[:500]


def rows_of(recording: Recording, flow: Flow, fragment: Fragment, storage_dtype: str) -> dict[str, Any]:
    """Return the table rows of a recording of a regular signal, as JSON can hold them."""
    rate, signal, rid = flow.info.rate_hz, recording.signal, recording.recording_id
    valid = [
        [i.start_s, i.start_s + n / rate] for i, n in zip(flow.intervals, fragment.n_samples, strict=True) if n > 0
    ]
    stream = _stream_row(rid, signal.name, signal.role, rate, signal.unit, flow.info.channels, DTYPES[storage_dtype])
    # stages may have made events of their own: epochs, averages
    recording = replace(recording, events=flow.events)
    return _rows(recording, valid, flow.figures, fragment, stream, flow.info.channels)


def event_rows_of(recording: Recording, figures: dict[str, float], fragment: Fragment) -> dict[str, Any]:
    """Return the table rows of a recording of events, as JSON can hold them."""
    valid = [[a, b] for a, b in recording.valid]
    stream = _further_row(recording.recording_id, recording.first)
    channels = tuple(
        c if n or c.bad else replace(c, reason="; ".join(filter(None, (c.reason, SILENT))))
        for c, n in zip(recording.first.channels, fragment.counts, strict=True)
    )
    return _rows(recording, valid, figures, fragment, stream, channels)


def _rows(
    recording: Recording,
    valid: list[list[float]],
    figures: dict[str, float],
    fragment: Fragment,
    stream: dict[str, Any],
    signal_channels: tuple[Channel, ...],
) -> dict[str, Any]:
    rid = recording.recording_id
    channels = [
        _channel_row(rid, recording.first.name, i, c, float(fragment.scale[i]), float(fragment.offset[i]))
        for i, c in enumerate(signal_channels)
    ]
    for s in recording.streams[1:]:
        channels += [_channel_row(rid, s.name, i, c, 1.0, 0.0) for i, c in enumerate(s.channels)]
    return {
        "recording": {
            "recording_id": rid,
            "dataset": recording.dataset,
            "subject": recording.subject,
            "session": recording.session,
            "task": recording.task,
            "run": recording.run,
            "modality": recording.modality,
            "part": recording.part,
            "duration_s": sum(b - a for a, b in valid),
            "valid": valid,
            "source_file": recording.source_file,
            "source_sha256": recording.source_sha256,
            "quality": json.dumps({k: float(v) for k, v in {**figures, **fragment.figures}.items()}, sort_keys=True),
        },
        "streams": [stream, *(_further_row(rid, s) for s in recording.streams[1:])],
        "channels": channels,
        "events": [{"recording_id": rid, **_finite(asdict(e))} for e in recording.events],
        "segments": [
            {"entry": asdict(s.entry), "start": s.start, "stop": s.stop} for s in fragment.segments
        ],
        "round_trip_error": fragment.round_trip_error,
        "content": fragment.content,
    }  # fmt: skip


def _further_row(rid: str, s: Stream | EventStream) -> dict[str, Any]:
    """Row of a stream as it is stored beside the signal, or of events."""
    if isinstance(s, EventStream):
        row = _stream_row(rid, s.name, s.role, float("nan"), s.unit, s.channels, TIME_DTYPE)
        return _finite({**row, "regular": False})
    return _stream_row(rid, s.name, s.role, s.rate_hz, s.unit, s.channels, COVARIATE_DTYPE)


def _stream_row(
    rid: str, name: str, role: str, rate: float, unit: str, channels: tuple[Channel, ...], dtype: str
) -> dict[str, Any]:
    units = {c.unit for c in channels}
    return {
        "recording_id": rid, "name": name, "role": role, "regular": True, "rate_hz": float(rate), "t0_s": 0.0,
        "unit": units.pop() if len(units) == 1 else unit, "n_channels": len(channels), "dtype": dtype,
    }  # fmt: skip


def _channel_row(rid: str, stream: str, i: int, c: Channel, scale: float, offset: float) -> dict[str, Any]:
    return {"recording_id": rid, "stream": stream, "index": i, **_finite(asdict(c)), "scale": scale, "offset": offset}


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN: absent numbers travel as null and are NaN again in the table."""
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in row.items()}
