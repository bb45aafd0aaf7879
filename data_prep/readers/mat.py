"""Variables by name from a MAT file, of version 5 to 7 through scipy and 7.3 through h5py."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from neurofm.schema.errors import DataError, nearest

# What scipy and h5py raise on files that are cut short or damaged.
MAT_ERRORS = (ValueError, TypeError, OSError, EOFError, LookupError, NotImplementedError, struct.error, zlib.error)


def is_hdf5(path: Path) -> bool:
    """Whether a MAT file is of version 7.3, which is HDF5 behind a block of 512 bytes.

    Raises
    ------
    DataError
        When it cannot be read.
    """
    try:
        with open(path, "rb") as f:
            start = f.read(520)
    except OSError as error:
        raise DataError(f"{path.name}: is not readable ({error.strerror})") from error
    return b"\x89HDF\r\n\x1a\n" in (start[:8], start[512:520])


def load_mat(path: Path, *names: str, simplify: bool = False) -> dict[str, Any]:
    """Return variables of a file up to version 7.

    Parameters
    ----------
    path : Path
    *names : str
        Which; none = all.
    simplify : bool
        Structs as dictionaries and cells as lists. Otherwise structs are structured object arrays of at least two
        dimensions, as MATLAB has them: ``value[0, 0]["field"]`` (see `mat_struct`).

    Raises
    ------
    DataError
        When it is no such file, or a variable is missing.
    """
    from scipy.io import loadmat

    if is_hdf5(path):
        raise DataError(f"{path.name}: is a MATLAB file of version 7.3, expected version 5 to 7")
    try:
        content = loadmat(path, variable_names=list(names) or None, simplify_cells=simplify)
    except (*MAT_ERRORS, AssertionError) as error:
        raise _damaged(path, error) from error
    for name in names:
        if name not in content:
            raise _missing(path, name, shapes(path))
    return {k: v for k, v in content.items() if not k.startswith("__")}


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the dimensions of the variables of a file up to version 7, by name, without reading their values.

    Raises
    ------
    DataError
        When it is no such file.
    """
    from scipy.io import whosmat

    try:
        return {name: tuple(shape) for name, shape, _ in whosmat(path)}
    except (*MAT_ERRORS, AssertionError) as error:
        raise _damaged(path, error) from error


def mat_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the dimensions of a variable as MATLAB knows them, without reading its values.

    Raises
    ------
    DataError
        When there is no such variable.
    """
    if is_hdf5(path):
        with open_hdf5(path) as f:
            if name not in f:
                raise _missing(path, name, f)
            return tuple(f[name].shape[::-1])
    known = shapes(path)
    if name not in known:
        raise _missing(path, name, known)
    return known[name]


def read_mat(path: Path, name: str) -> np.ndarray:
    """Return one numeric variable in MATLAB's order of axes.

    Raises
    ------
    DataError
        When it is missing, or anything but plain real numbers (cells, structs and objects are refused).
    """
    if is_hdf5(path):
        with open_hdf5(path) as f:
            if name not in f:
                raise _missing(path, name, f)
            stored = f[name]
            if not hasattr(stored, "dtype") or stored.dtype.kind not in "biuf":
                raise DataError(f"{path.name}: '{name}' is not an array of real numbers")
            return stored[()].T
    values = load_mat(path, name)[name]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise DataError(f"{path.name}: '{name}' is not an array of real numbers")
    return values


def read_struct(path: Path, name: str) -> dict[str, Any]:
    """Return a struct of a file up to version 7 as nested dictionaries of arrays, texts and numbers.

    Raises
    ------
    DataError
        When it is missing or no single struct.
    """
    values = load_mat(path, name, simplify=True)[name]
    if not isinstance(values, dict):
        raise DataError(f"{path.name}: '{name}' is not a struct")
    return values


@lru_cache(maxsize=1)
def load_once(path: Path, name: str, stamp: tuple[int, int]) -> Any:
    """Return one variable, kept until another file is asked for: many recordings may stand in one variable.

    Parameters
    ----------
    path : Path
    name : str
        The variable.
    stamp : tuple of int
        Size and time of the file, so that a changed one is read again.
    """
    return load_mat(path, name)[name]


def stamp_of(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _missing(path: Path, name: str, known: Any) -> DataError:
    return DataError(f"{path.name}: has no variable '{name}': {nearest(name, list(known))}")


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path.name}: is not a whole MATLAB file ({' '.join(str(error).split())[:200]})")
