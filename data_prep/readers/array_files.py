"""Numbers by name from .npy, .npz, HDF5 and MAT files.

Nothing is unpickled and nothing is followed out of the file: object arrays, MATLAB objects and links to other
files are refused in words.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.series_table import SUFFIXES as TABLES
from data_prep.readers.series_table import read_series
from neurofm.schema.errors import DataError, nearest

# Looked for when no glob is given; tables (.csv, .tsv) must be asked for, as many are not time series.
SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".mat")
# Suffixes of files that run code when they are opened the usual way.
RUNS_CODE = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib", ".dill")


@dataclass(frozen=True, kw_only=True)
class Values:
    """A numeric array that may be read part by part.

    Attributes
    ----------
    shape : tuple of int
        As the file's owner knows it (MATLAB's order for a .mat file).
    dtype : numpy.dtype
        Of the stored values.
    read : callable (tuple of int or slice) -> array
        The part asked for, one index per axis; an integer takes its axis away.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[tuple[int | slice, ...]], np.ndarray] = field(repr=False)

    @classmethod
    def of(cls, array: np.ndarray) -> Values:
        """Wrap an array in memory, or mapped into it."""
        return cls(shape=array.shape, dtype=array.dtype, read=lambda index: array[index])


class ArrayFile:
    """One file and the values in it; keys are paths such as ``data`` or ``eeg/signal`` (structs, groups)."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signal(self, key: str) -> Values:
        """Return the values under `key`; raises a DataError when they are missing or no plain numbers."""
        raise NotImplementedError

    def small(self, key: str) -> np.ndarray | None:
        """Return a rate, names, labels or event times: a flat array of numbers or texts; None when missing."""
        raise NotImplementedError

    def keys(self) -> list[str]:
        """Names to choose from, for messages."""
        return []

    def missing(self, key: str) -> DataError:
        """Return the error for a key that is not there."""
        return DataError(f"has no array '{key}': {nearest(key, self.keys())}")


def open_arrays(path: Path) -> ArrayFile:
    """Return a reader by the file's suffix.

    Raises
    ------
    DataError
        When it is none of the formats, or is not what its suffix says.
    """
    suffix = path.suffix.lower()
    if suffix in RUNS_CODE:
        raise DataError(f"a {suffix} file can run code when it is opened and is refused; save the numbers as .npz")
    if suffix not in (*SUFFIXES, *TABLES):
        raise DataError(f"'{suffix}' is none of the formats {', '.join((*SUFFIXES, *TABLES))}")
    if path.stat().st_size == 0:
        raise DataError("is empty (0 bytes)")
    if suffix in TABLES:
        return TableFile(path)
    if suffix == ".npy":
        return NpyFile(path)
    if suffix == ".npz":
        return NpzFile(path)
    from data_prep.readers.array_hdf5 import Hdf5File

    if suffix == ".mat":
        from scipy.io.matlab import MatReadError, matfile_version

        try:
            is_hdf5 = matfile_version(path)[0] == 2
        except (ValueError, MatReadError) as error:
            raise DataError(f"is not a MAT file ({error})") from error
        return Hdf5File(path, matlab=True) if is_hdf5 else MatFile(path)
    return Hdf5File(path, matlab=False)


class NpyFile(ArrayFile):
    """One array, mapped into memory so that a long recording is read block by block."""

    def signal(self, key: str) -> Values:
        """Return the values under `key`."""
        try:
            return Values.of(np.load(self.path, allow_pickle=False, mmap_mode="r"))
        except (ValueError, EOFError) as error:
            raise DataError(f"is not a readable numeric array ({error}); pickled objects are refused") from error

    def small(self, key: str) -> None:
        """Return nothing: there is only one array."""
        return None


class TableFile(ArrayFile):
    """A text table of time series; its header and its column of times state names and rate."""

    def signal(self, key: str) -> Values:
        """Return all columns but that of times, whatever the `key`."""
        return Values.of(read_series(self.path).values)

    def small(self, key: str) -> np.ndarray | None:
        """Return the rate or the names of the columns; None when missing."""
        series = read_series(self.path)
        if key == "rate_hz" and series.rate_hz is not None:
            return np.array([series.rate_hz])
        if key == "channels" and series.names is not None:
            return np.array(series.names)
        return None


class NpzFile(ArrayFile):
    """A zip of arrays; each is read whole."""

    def keys(self) -> list[str]:
        """Names to choose from."""
        return self._with(lambda content: content.files)

    def signal(self, key: str) -> Values:
        """Return the values under `key`."""
        array = self._read(key)
        if array is None:
            raise self.missing(key)
        return Values.of(array)

    def small(self, key: str) -> np.ndarray | None:
        """Return a flat array of numbers or texts; None when missing."""
        array = self._read(key)
        return None if array is None else array.ravel()

    def _read(self, key: str) -> np.ndarray | None:
        return self._with(lambda content: content.get(key))

    def _with(self, action: Callable[[Any], Any]) -> Any:
        try:
            with np.load(self.path, allow_pickle=False) as content:
                return action(content)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"is not a readable numeric array ({error}); pickled objects are refused") from error


class MatFile(ArrayFile):
    """A MAT file of version 4 to 7: each top-level variable is read whole (at most 2 GB, a limit of the format)."""

    def keys(self) -> list[str]:
        """Names to choose from."""
        from scipy.io import whosmat

        return [name for name, _, _ in whosmat(self.path)]

    def signal(self, key: str) -> Values:
        """Return the values under `key`."""
        array = self._read(key)
        if array is None:
            raise self.missing(key)
        if array.dtype.kind not in "biuf":
            raise DataError(f"'{key}' is {_matlab_words(array)}, expected an array of real numbers")
        return Values.of(array)

    def small(self, key: str) -> np.ndarray | None:
        """Return a flat array of numbers or texts; None when missing."""
        array = self._read(key)
        if array is None:
            return None
        if array.dtype.kind == "O":  # a cell array of texts or numbers
            array = np.array([_only(cell, key) for cell in array.ravel(order="F")])
        if array.dtype.kind == "U":  # a char matrix: one padded row per text
            return np.array([str(t).rstrip() for t in array.ravel()])
        if array.dtype.kind not in "biufU":
            raise DataError(f"'{key}' is {_matlab_words(array)}, expected numbers or texts")
        return array.ravel(order="F")

    def _read(self, key: str) -> np.ndarray | None:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError

        top, *inner = key.split("/")
        try:
            content = loadmat(self.path, variable_names=[top], chars_as_strings=True)
        except (ValueError, TypeError, OSError, NotImplementedError, MatReadError, EOFError) as error:
            raise DataError(f"is not a readable MAT file ({error})") from error
        if top not in content:
            return None
        at = content[top]
        for name in inner:
            if type(at) is not np.ndarray or at.dtype.names is None:
                raise DataError(f"'{key}': '{top}' is no struct that could have a field '{name}'")
            if name not in at.dtype.names:
                return None
            if at.size != 1:
                raise DataError(f"'{key}': a struct array of {at.size} elements; expected a single struct")
            at = at[name].ravel()[0]
        if not isinstance(at, np.ndarray):
            raise DataError(f"'{key}' is {_matlab_words(at)}, expected an array")
        return at


def _matlab_words(value: Any) -> str:
    """Say what MATLAB calls a value that is no numeric array."""
    if type(value).__name__ in ("MatlabObject", "MatlabOpaque", "MatlabFunction"):
        return "a MATLAB object (never opened)"
    kind = value.dtype.kind if isinstance(value, np.ndarray) else ""
    known = {"O": "a cell array (of objects)", "V": "a struct", "U": "text", "c": "complex"}
    return known.get(kind, type(value).__name__)


def _only(cell: Any, key: str) -> Any:
    """Return the text or number of one cell."""
    array = np.asarray(cell)
    if array.dtype.kind in "O" and array.size == 1:
        return _only(array.ravel()[0], key)
    if array.size == 0:
        return ""
    if array.size != 1 or array.dtype.kind not in "biufU":
        raise DataError(f"'{key}': a cell holds {_matlab_words(array)} of {array.size} values, expected one text")
    return array.ravel()[0]
