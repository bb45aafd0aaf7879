"""Segments read from the beginning of a tar to its end, through the webdataset library: for stores where a request is dear."""

from __future__ import annotations

import tarfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np

from neurofm.data.storage.files import Folder, pauses
from neurofm.data.storage.segments import CorruptError, SegmentReader
from neurofm.schema.segments import SegmentEntry, StreamSpan

MAX_STREAMS = 16


class TarStreams(SegmentReader):
    """A `SegmentReader` that, for a member not in memory, reads its tar on to that member and keeps what it passes.

    So windows asked for in the order of the tars cost one request per tar. A member that the stream has left behind
    already, and that the cache has dropped, is fetched by its offset: the values are the same either way.

    Parameters
    ----------
    folder, verify, cache_bytes
        As `SegmentReader`; the cache should hold what a window and the loader's shuffling reach over.
    entries : callable
        File → segments of a tar, in its order.
    """

    def __init__(
        self, folder: Folder, *, verify: bool, cache_bytes: int, entries: Callable[[str], Sequence[SegmentEntry]]
    ) -> None:
        self.entries = entries
        super().__init__(folder, verify=verify, cache_bytes=cache_bytes)

    def _forget(self) -> None:
        super()._forget()
        self._streams: OrderedDict[str, Iterator[int]] = OrderedDict()
        self._at: dict[str, int] = {}

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "entries": self.entries}

    def rewind(self) -> None:
        """Read tars from where they are wanted next, be it before what was read last."""
        self._streams.clear()
        self._at.clear()

    def rows(self, file: str, span: StreamSpan, start: int, stop: int) -> np.ndarray:
        """Return rows of a member, as `SegmentReader.rows` does."""
        if (file, span.offset) not in self._cache and span.offset > self._at.get(file, -1):
            self._read_on(file, span)
        return super().rows(file, span, start, stop)

    def _read_on(self, file: str, span: StreamSpan) -> None:
        """Advance the stream of a tar to a member; open it there when nothing of the tar was read before."""
        for wait in pauses():
            stream = self._streams.get(file)
            if stream is None:
                stream = self._streams[file] = self._members(file, span)
                if len(self._streams) > MAX_STREAMS:
                    self._streams.popitem(last=False)
            self._streams.move_to_end(file)
            try:
                for offset in stream:
                    self._at[file] = offset
                    if offset >= span.offset:
                        return
                # the tar ended early, or the stream broke off before: reading by offset says what is wrong
                del self._streams[file]
                return
            except (OSError, tarfile.TarError):
                # a broken connection: go on from the member that is wanted
                self._streams.pop(file, None)
                wait()

    def _members(self, file: str, span: StreamSpan) -> Iterator[int]:
        """Yield the offset of every member from `span` on, each verified and in the cache."""
        from webdataset.tariterators import tar_file_expander

        spans = {f"{e.key}.{name}.npy": s for e in self.entries(file) for name, s in e.streams.items()}
        with self.folder.open(file) as stream:
            # the header of a member is the one block before it
            stream.seek(span.offset - tarfile.BLOCKSIZE)
            source = [{"url": self.folder.name(file), "stream": stream}]
            for member in tar_file_expander(source, eof_value=None):
                found = spans.get(member["fname"])
                if found is not None:
                    # damage is said when, and only if, a window needs the member
                    with suppress(CorruptError):
                        self.keep(file, found, member["data"])
                    yield found.offset
