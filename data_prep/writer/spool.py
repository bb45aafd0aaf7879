"""Blocks that are needed twice: kept in memory while they are few, in an unnamed file while there is room."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

# Signals below this size are kept in memory.
MEMORY_BYTES = 256 << 20
# Larger ones go to a file, unless it would take more than this or more than a quarter of what is free.
FILE_BYTES = 16 << 30


class Spool:
    """Keeps the blocks of a signal, interval by interval, or gives up when there is no room.

    The file has no name: nothing is left of it when the process ends, however it does. What comes back is what went
    in, to the bit, so it makes no difference to the result whether blocks were kept or are computed again.

    Parameters
    ----------
    folder : path, optional
        Where the file may be; None = memory only.
    expected_bytes : int
        About how much will come: what does not fit is not begun.
    """

    def __init__(self, folder: Path | None = None, *, expected_bytes: int = 0) -> None:
        self._folder, self._expected = folder, expected_bytes
        self._blocks: list[list[np.ndarray | tuple[int, tuple[int, ...], np.dtype]]] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._room = 0
        self.kept = True

    def begin_interval(self) -> None:
        """Say that the blocks that follow are of the next interval."""
        self._blocks.append([])

    def add(self, block: np.ndarray) -> None:
        """Keep a block."""
        if not self.kept:
            return
        self._bytes += block.nbytes
        if self._bytes <= MEMORY_BYTES:
            self._blocks[-1].append(block)
            return
        try:
            self._to_file(block)
        except OSError:
            # A disk that is full is no reason to fail: everything can be computed again.
            self.close()

    def _to_file(self, block: np.ndarray) -> None:
        if self._folder is None:
            self.close()
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (closed by `close`, or with us)
            self._room = min(FILE_BYTES, shutil.disk_usage(self._folder).free // 4)
        if max(self._bytes, self._expected) > self._room:
            self.close()
            return
        at = self._file.tell()
        self._file.write(np.ascontiguousarray(block).data)
        self._blocks[-1].append((at, block.shape, block.dtype))

    def blocks(self, interval: int) -> Iterator[np.ndarray]:
        """Yield the blocks of an interval again; only when they were `kept`."""
        for held in self._blocks[interval]:
            if isinstance(held, np.ndarray):
                yield held
                continue
            assert self._file is not None
            at, shape, dtype = held
            block = np.empty(shape, dtype)
            self._file.seek(at)
            self._file.readinto(block.data)  # type: ignore[attr-defined]
            yield block

    def close(self) -> None:
        """Give up what was kept."""
        self.kept, self._blocks = False, []
        if self._file is not None:
            self._file.close()
            self._file = None
