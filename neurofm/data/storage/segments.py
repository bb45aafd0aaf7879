"""Verified segments of shards, kept in memory up to a number of bytes."""

from __future__ import annotations

import io
import zlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from neurofm.data.storage.files import Folder
from neurofm.schema.errors import DataError
from neurofm.schema.segments import StreamSpan

# a .npy header of format 1.0 or 2.0 with a plain dtype and two axes fits in this many bytes
HEADER_BYTES = 256


class CorruptError(DataError):
    """Bytes of a shard that are not those that were written."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the values of a .npy member lie: bytes before them, dtype and shape."""

    header: int
    dtype: np.dtype
    shape: tuple[int, ...]


class SegmentReader:
    """Rows of .npy members inside tars.

    Parameters
    ----------
    folder : Folder
        The dataset's root.
    verify : bool
        Whether a member is read whole and its crc32 compared on the first touch in this process. Later reads that
        the cache does not hold fetch only the rows asked for.
    cache_bytes : int
        Members kept in memory, as stored.
    """

    def __init__(self, folder: Folder, *, verify: bool, cache_bytes: int) -> None:
        self.folder = folder
        self.verify = verify
        self.cache_bytes = cache_bytes
        self._forget()

    def _forget(self) -> None:
        self._cache: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._held = 0
        self._layout: dict[tuple[str, int], Layout] = {}

    def __getstate__(self) -> dict[str, object]:
        return {"folder": self.folder, "verify": self.verify, "cache_bytes": self.cache_bytes}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._forget()

    def rewind(self) -> None:
        """Say that reading begins anew; of no consequence here."""

    def rows(self, file: str, span: StreamSpan, start: int, stop: int) -> np.ndarray:
        """Return rows ``start:stop`` of a member as stored, shape (stop - start, channel), or (stop - start,) of events.

        Raises
        ------
        CorruptError
            When its bytes have changed since the shard was written.
        """
        key = (file, span.offset)
        held = self._cache.get(key)
        if held is not None:
            self._cache.move_to_end(key)
            return held[start:stop]
        layout = self._layout.get(key)
        if layout is None and self.verify:
            return self._touch(file, span)[start:stop]
        if layout is None:
            head = self.folder.read(file, span.offset, min(HEADER_BYTES, span.size))
            layout = self._layout[key] = self._parse(head, file, span)
        width = int(np.prod(layout.shape[1:])) * layout.dtype.itemsize
        data = self.folder.read(file, span.offset + layout.header + start * width, (stop - start) * width)
        return np.frombuffer(data, layout.dtype).reshape(stop - start, *layout.shape[1:])

    def _touch(self, file: str, span: StreamSpan) -> np.ndarray:
        return self.keep(file, span, self.folder.read(file, span.offset, span.size))

    def keep(self, file: str, span: StreamSpan, data: bytes | bytearray) -> np.ndarray:
        """Verify the bytes of a member, put its values into the cache and return them.

        Raises
        ------
        CorruptError
            When they are not those that were written.
        """
        if len(data) != span.size or zlib.crc32(data) != span.crc32:
            raise CorruptError(
                f"{self.folder.name(file)}: the {span.size} bytes at {span.offset} have changed since it was written "
                "(crc32 differs); copy the shard again, prepare the dataset again, or pass on_corrupt=skip"
            )
        layout = self._layout[file, span.offset] = self._parse(data[:HEADER_BYTES], file, span)
        data = data if isinstance(data, bytearray) else bytearray(data)
        values = np.frombuffer(data, layout.dtype, offset=layout.header).reshape(layout.shape)
        if values.nbytes <= self.cache_bytes:
            self._cache[file, span.offset] = values
            self._held += values.nbytes
            while self._held > self.cache_bytes:
                self._held -= self._cache.popitem(last=False)[1].nbytes
        return values

    def _parse(self, head: bytes | bytearray, file: str, span: StreamSpan) -> Layout:
        f = io.BytesIO(head)
        where = f"{self.folder.name(file)}: the member at byte {span.offset}"
        try:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read[np.lib.format.read_magic(f)](f)
        except (ValueError, KeyError) as error:
            raise CorruptError(f"{where} is not a .npy array ({error}); copy the shard again") from error
        fits = f.tell() + int(np.prod(shape)) * dtype.itemsize == span.size and shape[0] == span.n_valid
        if fortran or len(shape) not in (1, 2) or dtype.kind not in "if" or not fits:
            raise CorruptError(f"{where} is not time × channel numbers of the length its index states; copy it again")
        return Layout(f.tell(), dtype, shape)
