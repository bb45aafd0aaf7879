"""A prepared dataset, opened for reading: tables, and any span of any recording."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.data.storage.catalogue import GRID, Catalogue
from neurofm.data.storage.convert import to_float32
from neurofm.data.storage.events import EDGE, EventPieces, bin_counts, event_pieces, read_between
from neurofm.data.storage.files import Folder
from neurofm.data.storage.route import Gain, Route
from neurofm.data.storage.segments import SegmentReader
from neurofm.data.storage.shards import Shards, names
from neurofm.data.storage.tar_stream import TarStreams
from neurofm.schema.errors import ConfigError, DataError, nearest


class Dataset(Catalogue):
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
    bin_s : float, optional
        For recordings whose signal is a list of events (spikes): seconds per bin in which it is read as a signal.
    reader : str
        "indexed": segments are fetched by their offset; "stream": by reading tars on (`data.storage.tar_stream`).
    only : mapping, optional
        Arguments of `select`: the recordings that there are. No shard without one of them is opened, or need exist.

    Raises
    ------
    DataError
        When the folder is no dataset, holds no recording, or a shard or index is missing, truncated or changed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        verify: str = "touch",
        on_corrupt: str = "error",
        cache_mb: float = 256,
        bin_s: float | None = None,
        reader: str = "indexed",
        only: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value, known in (
            ("verify", verify, ("touch", "full", "none")),
            ("on_corrupt", on_corrupt, ("error", "skip")),
            ("reader", reader, ("indexed", "stream")),
        ):
            if value not in known:
                raise ConfigError(f"{name} is '{value}': {nearest(value, known)}")
        self.verify = verify
        self.on_corrupt = on_corrupt
        self.skipped: list[str] = []
        self._folder = Folder(path)
        super().__init__(self._folder, str(path), bin_s=bin_s)
        if only:
            self.recordings = {r: self.recordings[r] for r in self.select(**only)}
        self._shards = Shards(self._folder, self.manifest, verify=verify != "none")
        held: dict[str, Any] = {"verify": verify != "none", "cache_bytes": int(cache_mb * 2**20)}
        if reader == "stream":
            self._segments: SegmentReader = TarStreams(self._folder, entries=self._shards.in_order, **held)
        else:
            self._segments = SegmentReader(self._folder, **held)
        self._event_pieces: dict[tuple[str, str], list[EventPieces]] = {}
        self._gain: dict[tuple[str, str], Gain] = {}
        self._held: dict[str, list[np.ndarray]] = {}
        self._routes: dict[tuple[str, str | None], Route] = {}
        self._check_shards()

    def read(
        self,
        recording_id: str,
        start_s: float,
        n_samples: int,
        *,
        stream: str | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Read a window in physical units; it may cross segments, never the border of a valid interval.

        Events come as counts in bins of `bin_s`.

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
        out : ndarray, shape (n_samples, good channels), float32, optional
            Memory that may be used for the result; whether it was, only the result tells.

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
        route = self._routes.get((recording_id, stream)) or self._route(recording_id, stream)
        interval, first = route.locate(start_s, n_samples)
        if interval < 0:
            raise self._outside(recording_id, start_s, n_samples, route.rate_hz)
        if stream is None and recording_id in self._held:
            return self._held[recording_id][interval][first : first + n_samples]
        if route.is_events:
            assert self.bin_s is not None
            return self._count(recording_id, interval, first * self.bin_s, n_samples, self.bin_s, stream)
        return self._read_samples(route, interval, first, n_samples, out)

    def read_interval(self, recording_id: str, interval: int) -> np.ndarray:
        """Read one whole valid interval of the signal, shape (time, good channels), float32."""
        start_s, n = self.valid(recording_id)[interval][0], self.interval_samples(recording_id)[interval]
        if n == 0:
            # an interval of events that is shorter than a bin
            return np.empty((0, len(self.channels(recording_id))), np.float32)
        return self.read(recording_id, start_s, n)

    def read_events(
        self, recording_id: str, start_s: float, stop_s: float, *, stream: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the events of a span; it may cross segments and gaps.

        Parameters
        ----------
        recording_id : str
            Which recording.
        start_s, stop_s : float
            On the recording's clock; an event at `start_s` is in, one at `stop_s` is not.
        stream : str, optional
            Another stream of events than the signal.

        Returns
        -------
        time_s : ndarray, shape (n,), float64
            On the recording's clock, sorted.
        unit : ndarray, shape (n,), int32
            Rows of `channels` (good units only; events of bad ones are left out).
        """
        times, units = [np.empty(0)], [np.empty(0, np.int32)]
        for interval, (a, b) in enumerate(self.valid(recording_id)):
            if a < stop_s and b > start_s:
                # a hair more, then exactly: subtracting the interval's start rounds
                found = self._events_within(recording_id, interval, start_s - a - 1e-6, stop_s - a + 1e-6, stream)
                inside = (found[0] + a >= start_s) & (found[0] + a < stop_s)
                times.append(found[0][inside] + a)
                units.append(found[1][inside])
        return np.concatenate(times), np.concatenate(units)

    def read_binned(
        self, recording_id: str, start_s: float, n_bins: int, bin_s: float, *, stream: str | None = None
    ) -> np.ndarray:
        """Count the events of a window in bins of any width; one at exactly ``start_s + k * bin_s`` is in bin k.

        Parameters
        ----------
        recording_id : str
            Which recording.
        start_s : float
            On the recording's clock; the window lies inside one valid interval.
        n_bins, bin_s : int, float
            Number of bins and their width.
        stream : str, optional
            Another stream of events than the signal.

        Returns
        -------
        ndarray, shape (n_bins, good units), float32

        Raises
        ------
        DataError
            When the window does not lie inside one valid interval.
        """
        valid, slack = self.valid(recording_id), EDGE * bin_s
        interval = bisect.bisect_right(valid, start_s + slack, key=lambda v: v[0]) - 1
        if n_bins < 1 or interval < 0 or start_s + n_bins * bin_s > valid[interval][1] + slack:
            raise self._outside(recording_id, start_s, n_bins, 1 / bin_s)
        return self._count(recording_id, interval, start_s - valid[interval][0], n_bins, bin_s, stream)

    def read_stream(
        self, recording_id: str, start_s: float, stop_s: float, *, stream: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the samples of another regular stream that fall into a span inside one valid interval.

        Returns
        -------
        values : ndarray, shape (n, good channels), float32
            Fewer than the span would hold when the stream ends early; possibly none.
        time_s : ndarray, shape (n,), float64
            Of each sample, on the recording's clock, start_s <= time_s < stop_s.
        """
        route = self._routes.get((recording_id, stream)) or self._route(recording_id, stream)
        rate = route.rate_hz
        interval = max(0, bisect.bisect_right(route.start_s, start_s + EDGE) - 1)
        origin, held = route.start_s[interval], route.pieces[interval].n_samples
        first, stop = (min(max(math.ceil((t - origin) * rate - GRID), 0), held) for t in (start_s, stop_s))
        time_s = origin + np.arange(first, stop) / rate
        if stop <= first:
            return np.empty((0, len(route.gain.scale)), np.float32), time_s
        return self._read_samples(route, interval, first, stop - first), time_s

    def place(self, recording_id: str, start_s: float, n_samples: int) -> tuple[str, int]:
        """Return the tar that a window begins in, and a number that grows along it."""
        route = self._routes.get((recording_id, None)) or self._route(recording_id, None)
        interval, first = route.locate(start_s, n_samples)
        if route.is_events or interval < 0:
            return f"{self.path}/{names(self._row(recording_id)['shards'])[0]}", round(1000 * start_s)
        pieces = route.pieces[interval]
        i = bisect.bisect_right(pieces.first, first) - 1
        # a sample takes a byte or more, so this keeps the order of segments
        return f"{self.path}/{pieces.file[i]}", pieces.span[i].offset + first - pieces.first[i]

    def rewind(self) -> None:
        """Say that an epoch begins, in which tars are read from their beginning again."""
        self._segments.rewind()

    def preload(self, recording_ids: Iterable[str] | None = None) -> None:
        """Keep the decoded signals of some recordings (default all) in memory; for datasets that fit."""
        for r in self.recordings if recording_ids is None else recording_ids:
            if r not in self._held:
                held = [self.read_interval(r, i) for i in range(len(self.valid(r)))]
                for array in held:
                    array.flags.writeable = False
                self._held[r] = held

    def _check_shards(self) -> None:
        used = {file for row in self.recordings.values() for file in names(row["shards"])}
        for shard in [s for s in self.manifest.shards if s.file in used]:
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

    def _route(self, recording_id: str, stream: str | None) -> Route:
        """Look up what every read of a stream needs, once."""
        row, valid = self._stream(recording_id, stream), self.valid(recording_id)
        name, rate, regular = str(row["name"]), self.rate_hz(recording_id, stream), bool(row["regular"])
        # a bin that is not whole is no sample; a sample of a signal is there or not, whatever rounding says
        stops = [round((b - a) * rate) if regular else math.floor((b - a) * rate + GRID) for a, b in valid]
        pieces = self._shards.pieces(recording_id, name, self._row(recording_id)["shards"], n_intervals=len(valid))
        if regular and row is self._stream(recording_id, None):
            stated, held = self.interval_samples(recording_id), [p.n_samples for p in pieces]
            if stated != held:
                raise DataError(
                    f"{self.path}/recordings.parquet: field 'valid' of '{recording_id}' states {sum(stated)} samples, "
                    f"its segments hold {sum(held)}; prepare the dataset again"
                )
        gain = self._gain_of(recording_id, name)
        route = Route(recording_id, name, rate, not regular, [a for a, _ in valid], stops, gain, pieces)
        self._routes[recording_id, stream] = route
        return route

    def _outside(self, recording_id: str, start_s: float, n_samples: int, rate: float) -> DataError:
        valid = self.valid(recording_id)
        nearest_first = max(bisect.bisect_right(valid, start_s, key=lambda v: v[0]) - 1, 0)
        shown = ", ".join(f"[{a:g}, {b:g}]" for a, b in valid[nearest_first:][:3])
        return DataError(
            f"{self.path}: the window at {start_s:g} s of {n_samples} samples ({n_samples / rate:g} s) is not "
            f"inside one valid interval of '{recording_id}' (nearest: {shown} s); windows never cross a gap"
        )

    def _events_within(
        self, recording_id: str, interval: int, start_s: float, stop_s: float, stream: str | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Events of good units in part of an interval, times from its start, units counted among the good ones."""
        row = self._stream(recording_id, stream)
        key = (recording_id, str(row["name"]))
        if row["regular"]:
            raise DataError(f"{self.path}: '{key[1]}' of '{recording_id}' is a regular signal, not a list of events")
        if key not in self._event_pieces:
            starts_s = [a for a, _ in self.valid(recording_id)]
            self._event_pieces[key] = event_pieces(self._shards, *key, self._row(recording_id)["shards"], starts_s)
        time_s, unit = read_between(self._segments, self._event_pieces[key][interval], start_s, stop_s)
        good = self._gain_of(*key).good
        if good is None:
            return time_s, unit
        number = np.full(len(self._channels[key]), -1, np.int32)
        number[good] = np.arange(len(good))
        kept = number[unit] >= 0
        return time_s[kept], number[unit[kept]]

    def _count(
        self, recording_id: str, interval: int, start_s: float, n_bins: int, bin_s: float, stream: str | None
    ) -> np.ndarray:
        slack = bin_s / 2
        time_s, unit = self._events_within(
            recording_id, interval, start_s - slack, start_s + n_bins * bin_s + slack, stream
        )
        n_units = len(self.channels(recording_id, stream=stream))
        return bin_counts(time_s, unit, start_s=start_s, n_bins=n_bins, bin_s=bin_s, n_units=n_units)

    def _read_samples(
        self, route: Route, interval: int, first: int, n_samples: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        pieces, gain = route.pieces[interval], route.gain
        if out is None or out.shape != (n_samples, len(gain.scale)):
            out = np.empty((n_samples, len(gain.scale)), np.float32)
        stop = first + n_samples
        if stop > pieces.n_samples:
            raise DataError(
                f"{self.path}: '{route.recording_id}' ends {stop - pieces.n_samples} samples early in '{route.name}'"
            )
        i = bisect.bisect_right(pieces.first, first) - 1
        at = first
        while at < stop:
            begin, span = pieces.first[i], pieces.span[i]
            end = min(stop, begin + span.n_valid)
            rows = self._segments.rows(pieces.file[i], span, at - begin, end - begin)
            part = out if end - at == n_samples else out[at - first : end - first]
            to_float32(rows if gain.good is None else rows[:, gain.good], gain.scale, gain.offset, part)
            at, i = end, i + 1
        return out

    def _gain_of(self, recording_id: str, stream: str) -> Gain:
        known = self._gain.get((recording_id, stream))
        if known is None:
            rows = self._channels.get((recording_id, stream), [])
            good = np.array([not r["bad"] for r in rows], bool)
            if not good.any():
                raise DataError(
                    f"{self.path}: every channel of '{recording_id}' is flagged bad; leave this recording out"
                )
            scale = np.array([r["scale"] for r in rows], np.float32)[good]
            offset = np.array([r["offset"] for r in rows], np.float32)[good]
            known = Gain(scale, offset if offset.any() else None, None if good.all() else np.flatnonzero(good))
            self._gain[recording_id, stream] = known
        return known
