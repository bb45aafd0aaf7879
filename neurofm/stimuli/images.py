"""Image files → arrays; the names of images that lie in one large file."""

from __future__ import annotations

import hashlib
from pathlib import Path

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
