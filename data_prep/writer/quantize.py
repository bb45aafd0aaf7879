"""How values are stored: int16 with a scale and offset per channel, float16 or float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.flow import Flow
from data_prep.writer.spool import Spool
from neurofm.schema.errors import DataError

DTYPES = {"int16": "<i2", "float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True, kw_only=True)
class Range:
    """Smallest and largest value of each channel, and the length of each interval."""

    low: np.ndarray
    high: np.ndarray
    n_samples: list[int]
    spool: Spool


def find_range(flow: Flow, folder: Path | None = None) -> Range:
    """First pass: the range of every channel; the blocks are kept for the second where there is room.

    Raises
    ------
    DataError
        When a value is not finite or no sample is left.
    """
    n_channels = len(flow.info.channels)
    low, high = np.full(n_channels, np.inf), np.full(n_channels, -np.inf)
    lengths: list[int] = []
    expected = sum(i.length_s for i in flow.intervals) * flow.info.rate_hz * n_channels * 8
    spool = Spool(folder, expected_bytes=round(expected))
    for i in range(len(flow.intervals)):
        n = 0
        spool.begin_interval()
        for block in flow.blocks(i, 0, None):
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            n += len(block)
            spool.add(block)
        lengths.append(n)
    if sum(lengths) == 0:
        raise DataError("no sample is left after the stages")
    wrong = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if len(wrong):
        name = flow.info.channels[wrong[0]].name
        raise DataError(f"channel '{name}' holds values that are not finite; add the stage 'quality' before the others")
    return Range(low=low, high=high, n_samples=lengths, spool=spool)


def quantizer(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset that spread each channel's range over ±32767; error at most range / 131068.

    A constant channel gets scale 1 and its value as offset, so it comes back exactly.
    """
    scale = high / 65534 - low / 65534
    constant = scale < np.finfo(np.float64).tiny
    return np.where(constant, 1.0, scale), np.where(constant, low, low / 2 + high / 2)


def encode(values: np.ndarray, dtype: str, scale: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return `values` (time, channel) as stored."""
    if dtype == "<i2":
        return np.clip(np.rint((values - offset) / scale), -32767, 32767).astype(dtype)
    return values.astype(dtype)
