"""Neuroscan CNT (16 bit), after P. Bourke's description of the format; long files are sparse on disk."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

STEP_UV = 0.05


def put_cnt(
    path: Path, stretches: Mapping[int, np.ndarray], *, n_samples: int, rate_hz: int, names: Sequence[str]
) -> None:
    """Write one file that is zero but for some stretches.

    Parameters
    ----------
    stretches : dict of int to array, shape (time, channel)
        First sample → counts of `STEP_UV`.
    """
    c = len(names)
    table = 900 + 75 * c + n_samples * c * 2
    setup = bytearray(900)
    setup[0:12] = b"Version 3.0\0"
    setup[145:147] = b"UU"
    setup[225:245] = b"01/01/7000:00:00".ljust(20, b"\0")
    struct.pack_into("<H", setup, 370, c)
    struct.pack_into("<H", setup, 376, rate_hz)
    struct.pack_into("<i", setup, 864, n_samples)
    struct.pack_into("<i", setup, 886, table)
    angle = np.linspace(0, 2 * np.pi, c, endpoint=False)
    rows = b""
    for name, a in zip(names, angle, strict=True):
        row = bytearray(75)
        row[: len(name)] = name.encode("ascii")
        struct.pack_into("<ff", row, 19, float(np.cos(a)), float(np.sin(a)))
        struct.pack_into("<f", row, 59, 1.0)
        struct.pack_into("<f", row, 71, 204.8 * STEP_UV)
        rows += bytes(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(bytes(setup) + rows)
        for first, counts in stretches.items():
            assert counts.shape[1] == c
            file.seek(900 + 75 * c + first * c * 2)
            file.write(counts.astype("<i2").tobytes())
        file.seek(table)
        file.write(struct.pack("<Bii", 1, 0, 0))  # an event table without rows
