"""Image files, and images that lie in one large HDF5 file → arrays."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as (H, W, 3) uint8; a grey or transparent one becomes RGB.

    Raises
    ------
    DataError
        When it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: is not an image that can be read ({error})") from error


def member_of(file: str) -> tuple[str, str, int] | None:
    """Split ``images.hdf5#imgBrick/2950`` into file, dataset and row; None for a file of its own."""
    file, mark, inside = file.partition("#")
    dataset, _, row = inside.rpartition("/")
    return (file, dataset, int(row)) if mark and dataset and row.isdigit() else None


def read_member(path: str | Path, dataset: str, row: int) -> np.ndarray:
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
                raise DataError(
                    f"{path}: '{dataset}' holds {len(values)} images, asked for number {row} counted from 0"
                )
            return np.asarray(values[row])
    except OSError as error:
        raise DataError(f"{path}: is no HDF5 file that can be read ({error})") from error


def sha256_of_pixels(image: np.ndarray) -> str:
    """Identity of an image that is no file of its own."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def resize_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Resize so that the shorter edge is `size` pixels (bicubic), and keep the middle square."""
    from PIL import Image

    height, width = image.shape[:2]
    scale = size / min(height, width)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    resized = np.asarray(Image.fromarray(image).resize((wide, high), Image.Resampling.BICUBIC))
    top, left = (high - size) // 2, (wide - size) // 2
    return resized[top : top + size, left : left + size]
