"""BrainVision Core Data Format 1.0: header, markers and 16-bit samples on a grid of 0.1 µV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

STEP_UV = 0.1


def put_brainvision(path: Path, values: np.ndarray, *, rate_hz: int, names: Sequence[str]) -> None:
    """Write ``path`` (.vhdr) and its .eeg and .vmrk.

    Parameters
    ----------
    values : array, shape (time, channel)
        In µV.
    """
    stem = path.stem
    channels = "\n".join(f"Ch{i}={name},,{STEP_UV},µV" for i, name in enumerate(names, 1))
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\nMarkerFile={stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels={len(names)}\nSamplingInterval={1_000_000 // rate_hz}\n\n"
        f"[Binary Infos]\nBinaryFormat=INT_16\n\n[Channel Infos]\n{channels}\n",
        encoding="utf-8",
    )
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={stem}.eeg\n\n[Marker Infos]\nMk1=New Segment,,1,1,0,00000000000000000000\n",
        encoding="utf-8",
    )
    path.with_suffix(".eeg").write_bytes(np.round(values / STEP_UV).astype("<i2").tobytes())
