"""Walking through nested MATLAB structs as scipy gives them: fields, cells, numbers and texts, never objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurofm.schema.errors import DataError, nearest


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
