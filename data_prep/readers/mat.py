"""Numbers and structs by name from a MAT file, of version 5 through scipy and 7.3 through h5py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from neurofm.schema.errors import DataError, nearest


def is_v73(path: Path) -> bool:
    """Whether a MAT file is an HDF5 file.

    Raises
    ------
    DataError
        When it is no MAT file.
    """
    from scipy.io.matlab import MatReadError, matfile_version

    try:
        return matfile_version(str(path))[0] == 2
    except (ValueError, MatReadError, OSError) as error:
        raise DataError(f"{path.name}: is not a readable MAT file ({error})") from error


def mat_shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a variable as MATLAB knows it, without reading its values.

    Raises
    ------
    DataError
        When there is no such variable.
    """
    if is_v73(path):
        with open_hdf5(path) as f:
            if name not in f:
                raise _missing(path, name, list(f))
            return tuple(f[name].shape[::-1])
    from scipy.io import whosmat

    shapes = {n: shape for n, shape, _ in whosmat(str(path))}
    if name not in shapes:
        raise _missing(path, name, list(shapes))
    return shapes[name]


def read_mat(path: Path, name: str) -> np.ndarray:
    """Return one numeric variable in MATLAB's order of axes.

    Raises
    ------
    DataError
        When it is missing, or anything but plain real numbers (cells, structs and objects are refused).
    """
    if is_v73(path):
        with open_hdf5(path) as f:
            if name not in f:
                raise _missing(path, name, list(f))
            values = f[name]
            if not hasattr(values, "dtype") or values.dtype.kind not in "biuf":
                raise DataError(f"{path.name}: '{name}' is not an array of real numbers")
            return values[()].T
    values = _load(path, name)[name]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise DataError(f"{path.name}: '{name}' is not an array of real numbers")
    return values


def read_struct(path: Path, name: str) -> dict[str, Any]:
    """Return a struct of a version-5 file as nested dictionaries of arrays, texts and numbers.

    Raises
    ------
    DataError
        When it is missing or no single struct.
    """
    if is_v73(path):
        raise DataError(f"{path.name}: is a MAT file of version 7.3, expected a struct '{name}' in version 5 to 7")
    values = _load(path, name, simplify_cells=True)[name]
    if not isinstance(values, dict):
        raise DataError(f"{path.name}: '{name}' is not a struct")
    return values


def _load(path: Path, name: str, **how: Any) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(str(path), variable_names=[name], **how)
    except (ValueError, TypeError, OSError, NotImplementedError, MatReadError) as error:
        raise DataError(f"{path.name}: is not a readable MAT file ({error})") from error
    if name not in content:
        from scipy.io import whosmat

        raise _missing(path, name, [n for n, _, _ in whosmat(str(path))])
    return content


def _missing(path: Path, name: str, known: list[str]) -> DataError:
    return DataError(f"{path.name}: has no variable '{name}': {nearest(name, known)}")
