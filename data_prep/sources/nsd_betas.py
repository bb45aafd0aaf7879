"""Single-trial responses of the Natural Scenes Dataset: the voxels of a mask out of a session's HDF5 or NIfTI file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.hdf5 import open_hdf5
from data_prep.readers.volumes import open_image, volume_blocks
from neurofm.schema.errors import DataError

# Betas are stored as int16, 300 times the percent signal change.
SCALE = 300.0


def n_trials_of(path: Path) -> int:
    """Return the number of betas in a file without reading them.

    Raises
    ------
    DataError
        When it is no file of betas.
    """
    if path.suffix == ".hdf5":
        with open_hdf5(path) as file:
            return int(_dataset(file, path).shape[0])
    shape = open_image(path, path.name).shape
    if len(shape) != 4:
        raise DataError(f"{path.name}: has shape {shape}; expected x, y, z, trial")
    return int(shape[3])


def read_betas(path: Path, mask: np.ndarray, name: str) -> tuple[np.ndarray, float]:
    """Read the betas of a mask.

    Parameters
    ----------
    path : Path
        ``betas_sessionNN.hdf5``, whose axes h5py shows reversed (trial, z, y, x), or ``.nii.gz`` (x, y, z, trial).
    mask : array of bool, shape (x, y, z)
    name : str
        Of the mask's file, for the error.

    Returns
    -------
    values : array, shape (trial, voxel), int16 or as stored
        Voxels in the order of ``np.argwhere(mask)``.
    factor : float
        Percent signal change = value · factor.

    Raises
    ------
    DataError
        When file and mask do not fit.
    """
    values = _from_hdf5(path, mask, name) if path.suffix == ".hdf5" else _from_nifti(path, mask, name)
    return values, 1 / SCALE if values.dtype.kind in "iu" else 1.0


def _dataset(file: Any, path: Path) -> Any:
    data = file.get("betas")
    if data is None or not hasattr(data, "shape") or len(data.shape) != 4:
        raise DataError(f"{path.name}: has no dataset 'betas' of four dimensions (it holds: {', '.join(file) or '-'})")
    return data


def _from_hdf5(path: Path, mask: np.ndarray, name: str) -> np.ndarray:
    turned = mask.transpose(2, 1, 0)
    with open_hdf5(path) as file:
        data = _dataset(file, path)
        if data.shape[1:] != turned.shape:
            raise DataError(
                f"{path.name}: betas have shape {data.shape}, the mask {name} {mask.shape}; expected (trial, z, y, x) "
                "of the mask's (x, y, z)"
            )
        column = np.full(mask.shape, -1)
        column[mask] = np.arange(mask.sum())
        column = column.transpose(2, 1, 0)
        out = np.empty((data.shape[0], int(mask.sum())), data.dtype)
        # A chunk of the file is one voxel's trials: plane by plane each is read once, and memory holds one plane.
        for z in np.flatnonzero(turned.any(axis=(1, 2))):
            rows = np.flatnonzero(turned[z].any(axis=1))
            a, b = rows[0], rows[-1] + 1
            try:
                plane = data[:, z, a:b]
            except OSError as error:
                raise DataError(f"{path.name}: is damaged or cut short ({error})") from error
            out[:, column[z, a:b][turned[z, a:b]]] = plane[:, turned[z, a:b]]
    return out


def _from_nifti(path: Path, mask: np.ndarray, name: str) -> np.ndarray:
    image = open_image(path, path.name)
    if image.shape[:3] != mask.shape:
        raise DataError(f"{path.name}: betas have shape {image.shape}, the mask {name} {mask.shape}")
    inside = np.flatnonzero(mask.ravel())
    parts = [b.reshape(-1, b.shape[3])[inside].T for b in volume_blocks(image, path.name)]
    values = np.concatenate(parts)
    stored = image.get_data_dtype()
    if stored.kind not in "iu":
        return values
    # What the header's scale made of the integers is undone: the factor 1 / 300 is the dataset's own.
    slope, inter = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
    return np.rint((values - inter) / slope).astype(stored.newbyteorder("="))
