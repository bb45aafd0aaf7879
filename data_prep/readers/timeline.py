"""When the samples of a series were taken, and how a series with time stamps is read on a regular grid.

The stamps are gone through once, in chunks, and only every few thousandth is kept: memory does not grow with the
recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from neurofm.schema.errors import DataError

CHUNK = 1 << 16
# stamps that lie this near to a regular clock, in samples, are regular: jitter of the recorder's software
JITTER = 0.1
# a wanted time this near to a stamp, in samples, is that stamp
SAME = 1e-3
# neighbours further apart than this many samples have a gap between them
GAP = 2.5

Stamps = Callable[[int, int], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Times of `n` samples.

    Attributes
    ----------
    start_s, rate_hz : float
        First sample, and samples per second; of stamps, one per median interval.
    n : int
        Number of samples.
    stamps : callable (first, stop) -> array of seconds, or None
        None = sample i lies at ``start_s + i / rate_hz``.
    coarse : ndarray
        Every CHUNK-th stamp.
    stop_s : float
        Time of the last sample plus one sample.
    """

    start_s: float
    rate_hz: float
    n: int
    stop_s: float
    stamps: Stamps | None = field(default=None, repr=False)
    coarse: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    @property
    def is_regular(self) -> bool:
        """Whether it needs no stamps."""
        return self.stamps is None

    def around(self, first_s: float, last_s: float) -> tuple[int, np.ndarray]:
        """Return the first index and the times of the samples that enclose a span, one more on each side."""
        if self.stamps is None:
            a = int(np.clip(np.floor((first_s - self.start_s) * self.rate_hz) - 1, 0, self.n))
            b = int(np.clip(np.ceil((last_s - self.start_s) * self.rate_hz) + 2, a, self.n))
            return a, self.start_s + np.arange(a, b) / self.rate_hz
        chunk = max(0, int(np.searchsorted(self.coarse, first_s, side="right")) - 1)
        end = int(np.searchsorted(self.coarse, last_s, side="right")) + 1
        low, high = max(0, chunk * CHUNK - 1), min(self.n, end * CHUNK)
        t = self.stamps(low, high)
        a = max(0, int(np.searchsorted(t, first_s, side="right")) - 2)
        b = min(len(t), int(np.searchsorted(t, last_s)) + 2)
        return low + a, t[a:b]


def regular(start_s: float, rate_hz: float, n: int) -> Timeline:
    """Samples at a fixed rate."""
    return Timeline(start_s=start_s, rate_hz=rate_hz, n=n, stop_s=start_s + n / rate_hz)


def survey(stamps: Stamps, n: int, what: str) -> Timeline:
    """Go through time stamps and find the clock behind them.

    Raises
    ------
    DataError
        When there are fewer than two, or they do not increase.
    """
    if n < 2:
        raise DataError(f"{what}: has {n} time stamps; expected two or more")
    coarse, medians, last = [], [], -np.inf
    for a in range(0, n, CHUNK):
        t = np.asarray(stamps(a, min(a + CHUNK, n)), np.float64)
        steps = np.diff(t, prepend=last) if a else np.diff(t)
        if not np.isfinite(t).all() or (steps <= 0).any():
            raise DataError(f"{what}: its time stamps do not increase (near sample {a}); sort them or leave it out")
        coarse.append(t[0])
        if len(steps):
            medians.append(np.median(steps))
        last = t[-1]
    first, median = float(coarse[0]), float(np.median(medians))
    mean_rate = rounded((n - 1) / (last - first))
    if _deviation(stamps, n, first, mean_rate) <= JITTER:
        return regular(first, mean_rate, n)
    rate = rounded(1 / median)
    return Timeline(
        start_s=first, rate_hz=rate, n=n, stop_s=float(last) + 1 / rate, stamps=stamps, coarse=np.array(coarse)
    )


def rounded(rate_hz: float) -> float:
    """Return 1000 for 999.9999999: a rate to three digits after the point where it is that but for rounding."""
    near = round(rate_hz, 3)
    return near if near > 0 and abs(near / rate_hz - 1) < 1e-6 else rate_hz


def _deviation(stamps: Stamps, n: int, start_s: float, rate_hz: float) -> float:
    """Largest distance of a stamp from a regular clock, in samples."""
    worst = 0.0
    for a in range(0, n, CHUNK):
        t = stamps(a, min(a + CHUNK, n))
        worst = max(worst, float(np.abs((t - start_s) * rate_hz - np.arange(a, a + len(t))).max()))
    return worst


def on_grid(wanted_s: np.ndarray, time_s: np.ndarray, values: np.ndarray, *, rate_hz: float) -> np.ndarray:
    """Read a series at other times.

    Numbers are interpolated linearly, whole numbers and truth values (codes, masks) are those of the nearest sample.

    Parameters
    ----------
    wanted_s : ndarray, shape (m,)
        Times asked for.
    time_s, values : ndarray, shape (n,) and (n, channel)
        The samples around them, in time order.
    rate_hz : float
        Of the series; two samples more than 2.5 / rate apart have a gap between them.

    Returns
    -------
    ndarray, shape (m, channel), float64
        NaN where there is no sample: before the first, behind the last, in gaps.
    """
    out = np.full((len(wanted_s), values.shape[1]), np.nan)
    if not len(time_s):
        return out
    right = np.clip(np.searchsorted(time_s, wanted_s), 1, max(len(time_s) - 1, 1))
    if len(time_s) == 1:
        right = np.zeros(len(wanted_s), int)
    left = np.maximum(right - 1, 0)
    width = np.maximum(time_s[right] - time_s[left], 1e-300)
    share = (wanted_s - time_s[left]) / width
    nearest = np.where(share < 0.5, left, right)
    exact = np.abs(wanted_s - time_s[nearest]) * rate_hz <= SAME
    inside = (share >= 0) & (share <= 1) & (width * rate_hz <= GAP)
    x = values.astype(np.float64)
    if values.dtype.kind in "biu":
        near = inside | (np.abs(wanted_s - time_s[nearest]) * rate_hz <= 0.5)
        out[near] = x[nearest[near]]
        return out
    s = share[inside, None]
    out[inside] = (1 - s) * x[left[inside]] + s * x[right[inside]]
    out[exact] = x[nearest[exact]]
    return out
