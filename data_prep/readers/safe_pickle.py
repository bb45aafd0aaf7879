"""Reads pickles that hold numbers, and nothing else: some published datasets come in no other form.

A pickle is a program. `pickle_machine` is a machine for the small part of its language that numpy arrays, dtypes, scalars and
plain containers need (instructions as in the standard library's ``pickletools``). It never imports, looks up or calls
what a file names: the few names it knows stand for constructions of its own, and `pickle_values` builds arrays from
their shape, type and bytes. Every other name or instruction is refused, saying what was asked for.

Large arrays are mapped, not loaded: their bytes stand in the file as they are in memory.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.pickle_machine import Machine
from data_prep.readers.pickle_values import Builder
from neurofm.schema.errors import DataError


def load_pickle(path: Path, *, offset: int = 0, dicts: Collection[tuple[str, str]] = ()) -> Any:
    """Return what a pickle file holds.

    Parameters
    ----------
    path : Path
        The file; strings of Python 2 are taken as Latin-1.
    offset : int
        Where in the file the pickle starts.
    dicts : collection of (module, name)
        Dictionary classes of the data's authors; what the file makes of them is given as plain dictionaries.

    Raises
    ------
    DataError
        When it asks for anything but arrays, dtypes, scalars and plain containers, or is damaged.
    """
    try:
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            data.seek(offset)
            return Machine(data, Builder(path, data, dicts)).run()
    except (ValueError, IndexError, KeyError, TypeError, struct.error, OverflowError, UnicodeError) as error:
        raise DataError(f"{path.name}: is not a whole pickle ({' '.join(str(error).split())[:200]})") from error


def load_npy(path: Path) -> Any:
    """Return the content of a .npy file: a mapped array, or, of an object array, what it holds.

    A bare pickle that only bears the suffix is read as what it is. An object array of no dimension gives its
    one object.

    Raises
    ------
    DataError
        As `load_pickle`.
    """
    with open(path, "rb") as f:
        if f.read(6) != b"\x93NUMPY":
            return load_pickle(path)
        f.seek(0)
        try:
            version = np.lib.format.read_magic(f)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            _, _, dtype = read(f)
        except ValueError as error:
            raise DataError(f"{path.name}: is not a whole .npy file ({error})") from error
        start = f.tell()
    if not dtype.hasobject:
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{path.name}: is not a whole .npy file ({error})") from error
    value = load_pickle(path, offset=start)
    return value.item() if isinstance(value, np.ndarray) and value.dtype == object and value.ndim == 0 else value
