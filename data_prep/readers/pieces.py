"""One long signal that lies in several files, read lazily across their borders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from data_prep.readers.mat import read_mat
from neurofm.schema.errors import DataError

# Takes first and last (excluded) sample of the piece, returns an array, shape (time, channel).
Read = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a signal.

    Attributes
    ----------
    start, n_samples : int
        Where it stands in the signal, and its length.
    read : callable (start, stop) -> array, shape (stop - start, channel)
        Counted from the piece's own start.
    """

    start: int
    n_samples: int
    read: Read = field(repr=False)


def contiguous(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Group pieces that follow each other without a gap.

    Raises
    ------
    DataError
        When two overlap.
    """
    groups: list[list[Piece]] = []
    end = None
    for piece in sorted(pieces, key=lambda p: p.start):
        if end is not None and piece.start < end:
            raise DataError(f"two files hold the same samples (from sample {piece.start} on)")
        if piece.start == end:
            groups[-1].append(piece)
        else:
            groups.append([piece])
        end = piece.start + piece.n_samples
    return groups


def read_group(group: Sequence[Piece], start: int, stop: int) -> np.ndarray:
    """Return samples of a contiguous group, counted from its first sample; shape (stop - start, channel)."""
    first = group[0].start
    blocks = []
    for piece in group:
        at = piece.start - first
        a, b = max(start - at, 0), min(stop - at, piece.n_samples)
        if a < b:
            blocks.append(piece.read(a, b))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def hdf5_reader(path: Path, key: str, offset: int = 0) -> Read:
    """Read a dataset of shape (channel, time) from sample `offset` on."""
    return partial(_read_hdf5, path, key, offset)


def _read_hdf5(path: Path, key: str, offset: int, start: int, stop: int) -> np.ndarray:
    with open_hdf5(path) as f:
        try:
            return f[key][:, offset + start : offset + stop].T
        except OSError as error:
            raise DataError(
                f"{path.name}: samples could not be read ({error}); files compressed with lz4 need the package "
                "hdf5plugin, otherwise the file is damaged"
            ) from error


def mat_reader(path: Path, key: str, *, time_first: bool = False) -> Read:
    """Read a MAT variable of shape (channel, time) or (time, channel); it can only be read whole, so one file is kept."""
    return partial(_read_mat, path, key, time_first)


def _read_mat(path: Path, key: str, time_first: bool, start: int, stop: int) -> np.ndarray:
    whole = _whole_mat(path, key, path.stat().st_mtime_ns)
    return whole[start:stop] if time_first else whole[:, start:stop].T


@lru_cache(maxsize=1)
def _whole_mat(path: Path, key: str, mtime_ns: int) -> np.ndarray:
    return read_mat(path, key)
