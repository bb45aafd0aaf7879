"""Where the samples of one stream lie on the recording's clock."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import numpy as np

from neurofm.data.storage.shards import Pieces


@dataclass(frozen=True, slots=True)
class Gain:
    """Stored numbers × scale + offset, shape (good channels,), float32; columns of the good ones, None for all."""

    scale: np.ndarray
    offset: np.ndarray | None
    good: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Route:
    """What every read of a stream needs, looked up once.

    Its name, rate, the start and length of each valid interval, and, of a regular stream, where the segments of each
    interval lie and what their numbers mean.
    """

    recording_id: str
    name: str
    rate_hz: float
    is_events: bool
    start_s: list[float]
    n_samples: list[int]
    gain: Gain
    pieces: list[Pieces]

    def locate(self, start_s: float, n_samples: int) -> tuple[int, int]:
        """Return the interval that holds a window and the window's first sample in it; (−1, 0) when none does."""
        # half a sample of tolerance: a start computed in floating point may fall a hair before its interval
        interval = bisect.bisect_right(self.start_s, start_s + 0.5 / self.rate_hz) - 1
        if interval < 0 or n_samples < 1:
            return -1, 0
        first = round((start_s - self.start_s[interval]) * self.rate_hz)
        return (interval, max(first, 0)) if first + n_samples <= self.n_samples[interval] else (-1, 0)
