"""Sound files → arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from neurofm.schema.errors import DataError


def read_sound(
    path: str | Path, *, start_s: float | None = None, stop_s: float | None = None
) -> tuple[np.ndarray, float]:
    """Read a WAV file, or a piece of one, as (samples float32 in −1 … 1, rate in Hz); channels are averaged.

    Raises
    ------
    DataError
        When it cannot be read or the piece is empty.
    """
    from scipy.io import wavfile

    try:
        rate, x = wavfile.read(path, mmap=True)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is not a WAV file that can be read ({error})") from error
    x = x[round((start_s or 0.0) * rate) : None if stop_s is None else round(stop_s * rate)]
    if not len(x):
        raise DataError(f"{path}: holds nothing between {start_s or 0:g} and {stop_s} s")
    if np.issubdtype(x.dtype, np.integer):
        unsigned = x.dtype == np.uint8
        x = (x.astype(np.float32) - (128 if unsigned else 0)) / (128 if unsigned else np.iinfo(x.dtype).max + 1)
    x = np.asarray(x, np.float32)
    return (x.mean(axis=1) if x.ndim == 2 else x), float(rate)
