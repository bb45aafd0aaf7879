"""GDF 2.20 (Schlögl 2013, arXiv:cs/0608052v10): 16-bit samples and an event table of types, as BCI Competition IV has."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MICROVOLT = 4275
INT16 = 3


def put_gdf(
    path: Path,
    counts: np.ndarray,
    *,
    rate_hz: int,
    names: Sequence[str],
    limit_uv: float,
    events: Sequence[tuple[int, int, int]],
) -> None:
    """Write one file.

    Parameters
    ----------
    counts : array, shape (time, channel), int16
        From -32768 = ``-limit_uv`` to 32767 = ``limit_uv``; a whole number of seconds.
    events : sequence of (sample from 0, type, length in samples)
        In order.
    """
    n, c = counts.shape
    assert (n % rate_hz, len(names), counts.dtype) == (0, c, np.int16)

    def each(form: str, *value: float) -> bytes:
        return struct.pack("<" + form, *value) * c

    fixed = b"GDF 2.20" + b"X X".ljust(66) + bytes(10) + bytes(4) + b"A".ljust(64)
    fixed += bytes([0, 0, 0, 0]) + struct.pack("<IIi", 0, 0, 0)
    fixed += struct.pack("<QQ", 0, 0)  # no date of recording, none of birth
    fixed += struct.pack("<H", 1 + c) + bytes(6) + bytes(8) + bytes(6) + bytes(6) + bytes(12) + bytes(12)
    fixed += struct.pack("<qII", n // rate_hz, 1, 1) + struct.pack("<HH", c, 0)
    channels = b"".join(name.encode("ascii").ljust(16) for name in names)
    channels += bytes(80 * c) + b"uV".ljust(6) * c + each("H", MICROVOLT)
    channels += each("d", -limit_uv) + each("d", limit_uv) + each("d", -32768) + each("d", 32767)
    channels += bytes(68 * c) + each("f", 100) + each("f", 0.5) + each("f", 50)
    channels += each("i", rate_hz) + each("i", INT16) + bytes(12 * c) + bytes(20 * c)
    header = fixed + channels
    assert (len(fixed), len(header)) == (256, 256 * (1 + c))
    # one record a second, each channel in turn
    data = counts.reshape(n // rate_hz, rate_hz, c).transpose(0, 2, 1).astype("<i2").tobytes()
    at, kind, length = (np.array(column) for column in zip(*events, strict=True))
    table = bytes([3]) + len(events).to_bytes(3, "little") + struct.pack("<f", rate_hz)
    table += (at + 1).astype("<u4").tobytes() + kind.astype("<u2").tobytes()
    table += np.zeros(len(events), "<u2").tobytes() + length.astype("<u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + data + table)
