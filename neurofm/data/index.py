"""A prepared dataset, opened for reading: tables, and any span of any recording."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.data.files import Folder
from neurofm.data.segments import SegmentReader
from neurofm.data.shards import Pieces, Shards, names
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.manifest import Manifest
from neurofm.schema.tables import read_table

TABLES = ("recordings", "streams", "channels", "events", "rejected")


class Dataset:
    """A prepared dataset: its tables, and positioned reads of its shards.

    Safe to pickle and to use in forked or spawned workers: file handles and caches belong to one process.

    Parameters
    ----------
    path : str or Path
        Folder made by ``neurofm prep``, or an fsspec URL of one.
    verify : str
        "touch": sizes at opening, and the crc32 of each segment when it is first read in a process;
        "full": also the sha256 of every shard at opening; "none": sizes only.
    on_corrupt : str
        "error", or "skip": shards that are damaged at opening are left out with their recordings and listed in
        `skipped`. Damage found while reading always raises `CorruptError`, which a loader then skips and counts.
    cache_mb : float
        Memory for segments as stored, per process.

    Raises
    ------
    DataError
        When the folder is no dataset, holds no recording, or a shard or index is missing, truncated or changed.
    """

    def __init__(
        self, path: str | Path, *, verify: str = "touch", on_corrupt: str = "error", cache_mb: float = 256
    ) -> None:
        for name, value, known in (
            ("verify", verify, ("touch", "full", "none")),
            ("on_corrupt", on_corrupt, ("error", "skip")),
        ):
            if value not in known:
                raise ConfigError(f"{name} is '{value}': {nearest(value, known)}")
        self.path = str(path)
        self.verify = verify
        self.on_corrupt = on_corrupt
        self.skipped: list[str] = []
        self._folder = Folder(path)
        with self._folder.local(["dataset.json", *(f"{t}.parquet" for t in TABLES)]) as folder:
            self.manifest = Manifest.read(folder)
            tables = {name: read_table(folder, name) for name in TABLES}
        self.rejected: list[dict[str, Any]] = tables["rejected"]
        self.recordings: dict[str, dict[str, Any]] = {
            r["recording_id"]: r for r in sorted(tables["recordings"], key=lambda r: r["recording_id"])
        }
        if not self.recordings:
            why = f"; the first of {len(self.rejected)} rejected: {self.rejected[0]['reason']}" if self.rejected else ""
            raise DataError(f"{self.path}: holds no recordings{why}; prepare it again with a source that has data")
        self._streams: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        for row in tables["streams"]:
            self._streams[row["recording_id"]][row["name"]] = row
        self._channels = _grouped(tables["channels"], ("recording_id", "stream"), "index")
        self._events = _grouped(tables["events"], ("recording_id",), "onset_s")
        self._shards = Shards(self._folder, self.manifest, verify=verify != "none")
        self._segments = SegmentReader(self._folder, verify=verify != "none", cache_bytes=int(cache_mb * 2**20))
        self._pieces: dict[tuple[str, str], list[Pieces]] = {}
        self._gain: dict[tuple[str, str], tuple[np.ndarray, np.ndarray | None, np.ndarray | None]] = {}
        self._held: dict[str, list[np.ndarray]] = {}
        self._check_shards()

    # what is in it

    @property
    def id(self) -> str:
        """The dataset's id."""
        return self.manifest.id

    @property
    def subjects(self) -> list[str]:
        """All subjects, sorted."""
        return sorted({r["subject"] for r in self.recordings.values()})

    def select(
        self,
        *,
        subject: str | Iterable[str] | None = None,
        session: str | Iterable[str] | None = None,
        task: str | Iterable[str] | None = None,
        part: str | Iterable[str] | None = None,
        recording_id: str | Iterable[str] | None = None,
    ) -> list[str]:
        """Return the sorted ids of the recordings that agree with everything given; no shard is opened.

        Raises
        ------
        ConfigError
            When a value occurs nowhere in the dataset (the message names the nearest), or nothing agrees.
        """
        asked = {"subject": subject, "session": session, "task": task, "part": part, "recording_id": recording_id}
        chosen = list(self.recordings)
        for column, values in asked.items():
            if values is None:
                continue
            wanted = {values} if isinstance(values, str) else set(values)
            known = {str(r[column]) for r in self.recordings.values()}
            for unknown in sorted(wanted - known):
                raise ConfigError(f"{self.path}: there is no {column} '{unknown}': {nearest(unknown, known)}")
            chosen = [r for r in chosen if self.recordings[r][column] in wanted]
        if not chosen:
            given = ", ".join(f"{k}={v}" for k, v in asked.items() if v is not None)
            raise ConfigError(f"{self.path}: no recording agrees with {given} at once; loosen the selection")
        return chosen

    def channels(self, recording_id: str, include_bad: bool = False, stream: str | None = None) -> list[dict[str, Any]]:
        """Rows of channels.parquet in the order of the columns that `read` returns."""
        rows = self._channels.get((recording_id, self._stream(recording_id, stream)["name"]), [])
        return [r for r in rows if include_bad or not r["bad"]]

    def events(self, recording_id: str) -> list[dict[str, Any]]:
        """Rows of events.parquet, by onset."""
        self._row(recording_id)
        return self._events.get((recording_id,), [])

    def rate_hz(self, recording_id: str, stream: str | None = None) -> float:
        """Return the sampling rate of the signal, or of another stream."""
        return float(self._stream(recording_id, stream)["rate_hz"])

    def valid(self, recording_id: str) -> list[tuple[float, float]]:
        """Return valid intervals as (start_s, stop_s), in time order."""
        return [(float(a), float(b)) for a, b in self._row(recording_id)["valid"]]

    def subject(self, recording_id: str) -> str:
        """Return the subject of a recording."""
        return str(self._row(recording_id)["subject"])

    # values

    def read(self, recording_id: str, start_s: float, n_samples: int, *, stream: str | None = None) -> np.ndarray:
        """Read a window in physical units; it may cross segments, never the border of a valid interval.

        Parameters
        ----------
        recording_id : str
            Which recording.
        start_s : float
            On the recording's clock; the nearest sample is the first one read.
        n_samples : int
            Length at the stream's rate.
        stream : str, optional
            Another stream than the signal.

        Returns
        -------
        ndarray, shape (n_samples, good channels), float32

        Raises
        ------
        DataError
            When the window does not lie inside one valid interval.
        CorruptError
            When the shard has changed since it was written.
        """
        interval, first = self._locate(recording_id, start_s, n_samples, stream)
        if stream is None and recording_id in self._held:
            return self._held[recording_id][interval][first : first + n_samples]
        return self._read_samples(recording_id, interval, first, n_samples, stream)

    def read_interval(self, recording_id: str, interval: int) -> np.ndarray:
        """Read one whole valid interval of the signal, shape (time, good channels), float32."""
        start_s = self.valid(recording_id)[interval][0]
        return self.read(recording_id, start_s, self.interval_samples(recording_id)[interval])

    def interval_samples(self, recording_id: str) -> list[int]:
        """Length of each valid interval in samples of the signal, from the tables alone."""
        rate = self.rate_hz(recording_id)
        return [round((b - a) * rate) for a, b in self.valid(recording_id)]

    def preload(self, recording_ids: Iterable[str] | None = None) -> None:
        """Keep the decoded signals of some recordings (default all) in memory; for datasets that fit."""
        for r in self.recordings if recording_ids is None else recording_ids:
            if r not in self._held:
                held = [self.read_interval(r, i) for i in range(len(self.valid(r)))]
                for array in held:
                    array.flags.writeable = False
                self._held[r] = held

    # how

    def _check_shards(self) -> None:
        for shard in self.manifest.shards:
            try:
                self._shards.check(shard, full=self.verify == "full")
            except DataError as error:
                if self.on_corrupt == "error":
                    raise
                self.skipped.append(str(error))
                for r in [r for r, row in self.recordings.items() if shard.file in names(row["shards"])]:
                    del self.recordings[r]
        if not self.recordings:
            raise DataError(f"{self.path}: every shard is damaged ({self.skipped[0]})")

    def _pieces_of(self, recording_id: str, stream: str) -> list[Pieces]:
        if (recording_id, stream) not in self._pieces:
            row = self._row(recording_id)
            pieces = self._shards.pieces(recording_id, stream, row["shards"], n_intervals=len(row["valid"]))
            stated, held = self.interval_samples(recording_id), [p.n_samples for p in pieces]
            if stated != held and self._stream(recording_id, None)["name"] == stream:
                raise DataError(
                    f"{self.path}/recordings.parquet: field 'valid' of '{recording_id}' states {sum(stated)} samples, "
                    f"its segments hold {sum(held)}; prepare the dataset again"
                )
            self._pieces[recording_id, stream] = pieces
        return self._pieces[recording_id, stream]

    def _locate(self, recording_id: str, start_s: float, n_samples: int, stream: str | None) -> tuple[int, int]:
        rate, valid = self.rate_hz(recording_id, stream), self._row(recording_id)["valid"]
        # half a sample of tolerance: a start computed in floating point may fall a hair before its interval
        interval = bisect.bisect_right(valid, start_s + 0.5 / rate, key=lambda v: v[0]) - 1
        first = round((start_s - valid[max(interval, 0)][0]) * rate)
        stop = round((valid[max(interval, 0)][1] - valid[max(interval, 0)][0]) * rate)
        if n_samples < 1 or interval < 0 or first + n_samples > stop:
            shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in valid[max(interval, 0) :][:3])
            raise DataError(
                f"{self.path}: the window at {start_s:g} s of {n_samples} samples ({n_samples / rate:g} s) is not "
                f"inside one valid interval of '{recording_id}' (nearest: {shown} s); windows never cross a gap"
            )
        return interval, max(first, 0)

    def _read_samples(
        self, recording_id: str, interval: int, first: int, n_samples: int, stream: str | None
    ) -> np.ndarray:
        name = self._stream(recording_id, stream)["name"]
        pieces = self._pieces_of(recording_id, name)[interval]
        scale, offset, good = self._gains(recording_id, name)
        out = np.empty((n_samples, len(scale)), np.float32)
        stop = first + n_samples
        if stop > pieces.n_samples:
            raise DataError(f"{self.path}: '{recording_id}' ends {stop - pieces.n_samples} samples early in '{name}'")
        i = bisect.bisect_right(pieces.first, first) - 1
        at = first
        while at < stop:
            begin = pieces.first[i]
            end = min(stop, begin + pieces.span[i].n_valid)
            rows = self._segments.rows(pieces.file[i], pieces.span[i], at - begin, end - begin)
            part = out[at - first : end - first]
            np.multiply(rows if good is None else rows[:, good], scale, out=part, casting="unsafe")
            if offset is not None:
                part += offset
            at, i = end, i + 1
        return out

    def _gains(self, recording_id: str, stream: str) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        if (recording_id, stream) not in self._gain:
            rows = self._channels.get((recording_id, stream), [])
            good = np.array([not r["bad"] for r in rows], bool)
            if not good.any():
                raise DataError(
                    f"{self.path}: every channel of '{recording_id}' is flagged bad; leave this recording out"
                )
            scale = np.array([r["scale"] for r in rows], np.float32)[good]
            offset = np.array([r["offset"] for r in rows], np.float32)[good]
            self._gain[recording_id, stream] = (
                scale,
                offset if offset.any() else None,
                None if good.all() else np.flatnonzero(good),
            )
        return self._gain[recording_id, stream]

    def _row(self, recording_id: str) -> dict[str, Any]:
        row = self.recordings.get(recording_id)
        if row is None:
            raise DataError(
                f"{self.path}: there is no recording '{recording_id}': {nearest(recording_id, self.recordings)}"
            )
        return row

    def _stream(self, recording_id: str, name: str | None) -> dict[str, Any]:
        self._row(recording_id)
        streams = self._streams.get(recording_id, {})
        if name is None:
            signal = next((s for s in streams.values() if s["role"] == "signal"), None)
            if signal is None:
                raise DataError(f"{self.path}/streams.parquet: '{recording_id}' has no stream with role 'signal'")
            return signal
        if name not in streams:
            raise DataError(f"{self.path}: '{recording_id}' has no stream '{name}': {nearest(name, streams)}")
        return streams[name]


def _grouped(
    rows: list[dict[str, Any]], keys: tuple[str, ...], order: str
) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[k] for k in keys)].append(row)
    return {k: sorted(v, key=lambda r: r[order]) for k, v in groups.items()}
