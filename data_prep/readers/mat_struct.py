"""MATLAB files of nested structs: the one wanted variable, as arrays, dictionaries and lists, never objects."""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError, nearest

MAT_ERRORS = (ValueError, TypeError, OSError, EOFError, LookupError, NotImplementedError, struct.error, zlib.error)


def is_hdf5(path: Path) -> bool:
    """Whether a .mat file is of version 7.3, which is HDF5 behind a block of 512 bytes."""
    with open(path, "rb") as f:
        start = f.read(520)
    return b"\x89HDF\r\n\x1a\n" in (start[:8], start[512:520])


def load_mat(path: Path, *names: str) -> dict[str, Any]:
    """Return variables of a MATLAB file up to version 7.

    Parameters
    ----------
    path : Path
    *names : str
        Which; none = all.

    Returns
    -------
    dict
        Structs are structured object arrays of at least two dimensions, as MATLAB has them: ``value[0, 0]["field"]``.

    Raises
    ------
    DataError
        When it is no such file, or a variable is missing.
    """
    from scipy.io import loadmat

    if is_hdf5(path):
        raise DataError(f"{path.name}: is a MATLAB file of version 7.3, expected version 5 to 7")
    try:
        content = loadmat(path, variable_names=list(names) or None)
    except (*MAT_ERRORS, AssertionError) as error:
        raise DataError(f"{path.name}: is not a whole MATLAB file ({' '.join(str(error).split())[:200]})") from error
    for name in names:
        if name not in content:
            raise DataError(f"{path.name}: has no variable '{name}': {nearest(name, variables(path))}")
    return {k: v for k, v in content.items() if not k.startswith("__")}


def variables(path: Path) -> list[str]:
    """Return the names of a MATLAB file's variables, without reading them."""
    return list(shapes(path))


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the dimensions of a MATLAB file's variables, without reading them.

    Raises
    ------
    DataError
        When it is no MATLAB file up to version 7.
    """
    from scipy.io import whosmat

    try:
        return {name: tuple(shape) for name, shape, _ in whosmat(path)}
    except (*MAT_ERRORS, AssertionError) as error:
        raise DataError(f"{path.name}: is not a whole MATLAB file ({' '.join(str(error).split())[:200]})") from error


def field(value: Any, name: str, where: str) -> Any:
    """Return a field of a struct.

    Raises
    ------
    DataError
        When `value` is no struct with that field.
    """
    if isinstance(value, np.ndarray) and value.size == 1 and value.dtype == object:
        value = value.reshape(-1)[0]
    names = getattr(getattr(value, "dtype", None), "names", None)
    if names is None:
        raise DataError(f"{where}: is no struct, expected one with the field '{name}'")
    if name not in names:
        raise DataError(f"{where}: has no field '{name}': {nearest(name, names)}")
    found = value[name]
    return (
        found.reshape(-1)[0] if isinstance(found, np.ndarray) and found.dtype == object and found.size == 1 else found
    )


def cells(value: Any) -> list[Any]:
    """Return the entries of a cell or struct array in MATLAB's order."""
    return list(np.asarray(value).ravel(order="F"))


def numbers(value: Any) -> np.ndarray:
    """Return a numeric array as one dimension."""
    return np.asarray(value, dtype=np.float64).ravel()


def text(value: Any) -> str:
    """Return a MATLAB string; "" for what is none."""
    array = np.asarray(value)
    while array.dtype == object and array.size == 1:
        array = np.asarray(array.reshape(-1)[0])
    return str(array.reshape(-1)[0]).strip() if array.dtype.kind == "U" and array.size else ""


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
