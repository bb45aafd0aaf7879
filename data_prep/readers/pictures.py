"""One picture out of an HDF5 file that holds many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError


def read_picture(path: str | Path, dataset: str, row: int) -> np.ndarray:
    """Read one row of an HDF5 dataset (image, H, W, 3), uint8; nothing else of the file is read.

    Raises
    ------
    DataError
        When the file, the dataset or the row is not there, or holds no RGB images.
    """
    import h5py

    if not Path(path).is_file():
        raise DataError(f"{path}: the stimuli's file is missing; say where the files are with files=…")
    try:
        with h5py.File(path) as file:
            values: Any = file.get(dataset)
            if values is None or getattr(values, "ndim", 0) != 4 or values.shape[-1] != 3 or values.dtype != np.uint8:
                raise DataError(
                    f"{path}: has no dataset '{dataset}' of images, uint8 of shape (image, height, width, 3)"
                )
            if row >= len(values):
                raise DataError(f"{path}: '{dataset}' holds {len(values)} images; asked for number {row}, from 0")
            return np.asarray(values[row])
    except OSError as error:
        raise DataError(f"{path}: is no HDF5 file that can be read ({error})") from error
