"""The tars of a dataset: whether they are whole, and where a recording's segments lie in them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from neurofm.data.storage.files import Folder
from neurofm.data.storage.segments import CorruptError
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.manifest import Manifest, ShardEntry
from neurofm.schema.segments import SegmentEntry, StreamSpan, read_index


@dataclass(slots=True)
class Pieces:
    """The segments of one stream in one valid interval, in time order: first samples, tars and places in them."""

    first: list[int] = field(default_factory=list)
    file: list[str] = field(default_factory=list)
    span: list[StreamSpan] = field(default_factory=list)
    n_samples: int = 0


class Shards:
    """The tars and their indexes; an index is read when a recording in its tar is first asked for.

    Parameters
    ----------
    folder : Folder
        The dataset's root.
    manifest : Manifest
        What the tars should be.
    verify : bool
        Whether the bytes of an index are compared with the manifest.
    """

    def __init__(self, folder: Folder, manifest: Manifest, *, verify: bool) -> None:
        self.folder = folder
        self.verify = verify
        self._shards = {s.file: s for s in manifest.shards}
        self._entries: dict[str, dict[str, list[SegmentEntry]]] = {}

    def check(self, shard: ShardEntry, *, full: bool) -> None:
        """Compare a tar's size, and its sha256 when `full`, with the manifest; see that its index is there.

        Raises
        ------
        DataError
            When one of them is missing or differs.
        """
        file = f"shards/{shard.file}"
        size = self.folder.size(file)
        if size != shard.bytes:
            raise CorruptError(
                f"{self.folder.name(file)}: has {size} bytes where dataset.json states {shard.bytes}; it is "
                f"{'truncated' if size < shard.bytes else 'not the file that was prepared'}, copy it again"
            )
        self.folder.size(f"{file}.idx")
        if full:
            with self.folder.local([file]) as folder:
                if sha256_file(folder / file) != shard.sha256:
                    raise CorruptError(f"{self.folder.name(file)}: sha256 differs from dataset.json; copy it again")

    def pieces(self, recording_id: str, stream: str, files: Iterable[str], *, n_intervals: int) -> list[Pieces]:
        """Find the segments of one stream of a recording, for each of its valid intervals."""
        pieces = [Pieces() for _ in range(n_intervals)]
        for entry, file in self.entries(recording_id, files, n_intervals=n_intervals):
            if stream not in entry.streams:
                continue
            p, span = pieces[entry.interval], entry.streams[stream]
            p.first.append(p.n_samples)
            p.file.append(file)
            p.span.append(span)
            p.n_samples += span.n_valid
        return pieces

    def entries(self, recording_id: str, files: Iterable[str], *, n_intervals: int) -> list[tuple[SegmentEntry, str]]:
        """Return the segments of a recording in time order, each with the tar that holds it."""
        found = [(e, f"shards/{file}") for file in names(files) for e in self._index(file).get(recording_id, ())]
        for entry, file in found:
            if not 0 <= entry.interval < n_intervals:
                raise DataError(f"{self.folder.name(f'{file}.idx')}: '{recording_id}' has no interval {entry.interval}")
        return sorted(found, key=lambda x: (x[0].interval, x[0].start_s))

    def in_order(self, file: str) -> list[SegmentEntry]:
        """Return the segments of a tar in the order they lie in it."""
        found = [e for entries in self._index(names([file])[0]).values() for e in entries]
        return sorted(found, key=lambda e: min((s.offset for s in e.streams.values()), default=0))

    def _index(self, file: str) -> dict[str, list[SegmentEntry]]:
        if file not in self._entries:
            shard = self._shards.get(file)
            if shard is None:
                raise DataError(
                    f"{self.folder.name('dataset.json')}: does not list the shard '{file}'; prepare it again"
                )
            name = f"shards/{file}.idx"
            with self.folder.local([name]) as folder:
                if self.verify and sha256_file(folder / name) != shard.index_sha256:
                    raise CorruptError(f"{self.folder.name(name)}: sha256 differs from dataset.json; copy it again")
                size, entries = read_index(folder / name)
            if size != shard.bytes or len(entries) != shard.n_segments:
                raise CorruptError(f"{self.folder.name(name)}: belongs to another tar than dataset.json lists")
            by_recording: dict[str, list[SegmentEntry]] = {}
            for entry in entries:
                by_recording.setdefault(entry.recording_id, []).append(entry)
            self._entries[file] = by_recording
        return self._entries[file]


def names(shards: Iterable[str]) -> list[str]:
    """File names of shards, whether or not their folder is named too."""
    return [os.path.basename(s) for s in shards]
