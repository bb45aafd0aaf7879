"""KIT/Yokogawa .con: the blocks that a reader needs, of 16-bit axial gradiometers."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

import numpy as np

NYU_ABU_DHABI = 442
AXIAL_GRADIOMETER, REFERENCE_MAGNETOMETER, TRIGGER = 2, 0x101, -1
STEP_FT = 2.0


def put_con(path: Path, counts: np.ndarray, *, rate_hz: float, n_references: int = 16, n_triggers: int = 8) -> None:
    """Write one continuous recording.

    Parameters
    ----------
    counts : array, shape (time, channel), int16
        Of the gradiometers in steps of `STEP_FT`; then of the references and trigger lines.
    """
    n, c = counts.shape
    n_sensors = c - n_triggers
    ints = partial(struct.pack, "<i")
    system = struct.pack("<iii", 2, 4, NYU_ABU_DHABI) + bytes(256) + ints(c) + bytes(256) + bytes(8)
    system += bytes(12) + ints(0) + bytes(12) + ints(100) + bytes(12) + ints(0) + bytes(12) + ints(0) + bytes(116)
    system += struct.pack("<d", 2.0**16) + struct.pack("<iii", 0, 16, 16)  # one volt per count
    theta = np.linspace(5, 85, n_sensors)
    rows = []
    for i in range(n_sensors):
        up, turn = np.radians(theta[i]), np.radians(137.5 * i)
        place = 0.12 * np.array([np.sin(up) * np.cos(turn), np.sin(up) * np.sin(turn), np.cos(up)])
        kind = AXIAL_GRADIOMETER if i < n_sensors - n_references else REFERENCE_MAGNETOMETER
        rows.append(struct.pack("<i5d", kind, *place, float(theta[i]), float(137.5 * i % 360)))
    rows += [struct.pack("<iii", TRIGGER, i + 1, 0) for i in range(n_triggers)]
    channels = b"".join(row.ljust(128, b"\0") for row in rows)
    gains = struct.pack("<dd", 0.0, STEP_FT * 1e-15) * n_sensors + struct.pack("<dd", 0.0, 1.0) * n_triggers
    blocks = {
        1: (system, len(system), 1),
        4: (channels, 128, c),
        5: (gains, 16, c),
        7: (ints(0), 4, 1),
        8: (struct.pack("<idii", 1, rate_hz, 0, n), 20, 1),
        9: (counts.astype("<i2").tobytes(), 2 * c, n),
    }
    n_blocks = 30
    at, table, body = 16 * n_blocks, [struct.pack("<iiii", 0, 16, n_blocks, n_blocks)], b""
    for i in range(1, n_blocks):
        data, size, count = blocks.get(i, (b"", 0, 0))
        table.append(struct.pack("<iiii", at + len(body) if data else 0, size, count, count))
        body += data
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(table) + body)
