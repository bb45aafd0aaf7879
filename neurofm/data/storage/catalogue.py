"""What a prepared dataset says of itself: its tables, looked up by recording. No shard is opened here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from neurofm.data.storage.files import Folder
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.manifest import Manifest
from neurofm.schema.tables import read_table

TABLES = ("recordings", "streams", "channels", "events", "rejected")
# tolerance in samples for times computed in floating point
GRID = 1e-4


class Catalogue:
    """The tables of a dataset.

    Parameters
    ----------
    folder : Folder
        The dataset's root.
    path : str
        As the user gave it, for messages.
    bin_s : float, optional
        Seconds per bin in which a signal that is a list of events is read.
    """

    def __init__(self, folder: Folder, path: str, *, bin_s: float | None = None) -> None:
        if bin_s is not None and not bin_s > 0:
            raise ConfigError(f"bin_s is {bin_s}; expected seconds per bin above 0, or null")
        self.path, self.bin_s = path, bin_s
        with folder.local(["dataset.json", *(f"{t}.parquet" for t in TABLES)]) as local:
            self.manifest = Manifest.read(local)
            tables = {name: read_table(local, name) for name in TABLES}
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
        run: str | Iterable[str] | None = None,
        part: str | Iterable[str] | None = None,
        recording_id: str | Iterable[str] | None = None,
    ) -> list[str]:
        """Return the sorted ids of the recordings that agree with everything given; no shard is opened.

        Raises
        ------
        ConfigError
            When a value occurs nowhere in the dataset (the message names the nearest), or nothing agrees.
        """
        asked = {"subject": subject, "session": session, "task": task, "run": run, "part": part,
                 "recording_id": recording_id}  # fmt: skip
        chosen = list(self.recordings)
        for column, values in asked.items():
            if values is None:
                continue
            # the command line makes a number of run=2
            wanted = {str(v) for v in ([values] if isinstance(values, str | int) else values)}
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
        """Return the sampling rate of the signal, or of another stream; of events, bins per second.

        Raises
        ------
        ConfigError
            When it is a list of events and the dataset was opened without `bin_s`.
        """
        row = self._stream(recording_id, stream)
        if row["regular"]:
            return float(row["rate_hz"])
        if self.bin_s is None:
            raise ConfigError(
                f"{self.path}: '{row['name']}' of '{recording_id}' is a list of events (spikes); say in which bins it "
                "is to be read, e.g. data.bin_s=0.02"
            )
        return 1 / self.bin_s

    def streams(self, recording_id: str) -> list[str]:
        """Return the names of a recording's streams, sorted."""
        self._row(recording_id)
        return sorted(self._streams.get(recording_id, {}))

    def is_events(self, recording_id: str, stream: str | None = None) -> bool:
        """Whether the signal, or another stream, is a list of events."""
        return not self._stream(recording_id, stream)["regular"]

    def valid(self, recording_id: str) -> list[tuple[float, float]]:
        """Return valid intervals as (start_s, stop_s), in time order."""
        return [(float(a), float(b)) for a, b in self._row(recording_id)["valid"]]

    def subject(self, recording_id: str) -> str:
        """Return the subject of a recording."""
        return str(self._row(recording_id)["subject"])

    def content(self, recording_id: str) -> str:
        """Return the fingerprint of a recording's values after preparation; "" where it was prepared without one."""
        return str(self._row(recording_id).get("content") or "")

    def interval_samples(self, recording_id: str) -> list[int]:
        """Length of each valid interval in whole samples (bins) of the signal, from the tables alone."""
        rate = self.rate_hz(recording_id)
        return [math.floor((b - a) * rate + GRID) for a, b in self.valid(recording_id)]

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


def channel_name(row: dict) -> str:
    """Return the name a channel is known by across recordings: canonical where there is one.

    A unit or a cell without one is known by its recording too: unit 3 of one session is not unit 3 of another, unless
    they are declared the same by a canonical name.
    """
    if row["canonical"] or row["kind"] not in ("unit", "calcium"):
        return row["canonical"] or row["name"]
    return f"{row['recording_id']}/{row['name']}"


def session_name(row: dict) -> str:
    """Return what the runs of one session share: dataset/subject/session; a subject without sessions has one."""
    return f"{row['dataset']}/{row['subject']}/{row['session']}"
