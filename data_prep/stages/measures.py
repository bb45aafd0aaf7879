"""What is measured of every channel in one streaming pass, so that bad ones can be told from good ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_prep.stages.base import SignalInfo
from data_prep.stages.filter import Filter
from data_prep.stages.quantiles import Quantiles

# Standard deviation of a normal distribution per interquartile range.
SD_PER_IQR = 0.7413
# Above this there is hardly any brain signal in scalp recordings, and much of loose electrodes.
NOISE_HZ = 50.0
# A window counts as flat below this part of the other channels' range in it.
FLAT_PART = 1e-4
# What a filter leaves of a signal that stands still is rounding, not zero: this part of the channel's extremes.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One value per channel, shape (channel,) each; NaN where it could not be measured.

    Attributes
    ----------
    spread : array
        Robust standard deviation.
    noise : array
        Robust standard deviation above 50 Hz, as a part of that below.
    flat : array
        Part of the windows without variation.
    clipped : array
        Part of the samples that sit on the channel's largest or smallest value with a neighbour beside them.
    uncorrelated : array
        Part of the windows in which no other channel of its kind is like it.
    """

    spread: np.ndarray
    noise: np.ndarray
    flat: np.ndarray
    clipped: np.ndarray
    uncorrelated: np.ndarray


class Windows:
    """Cuts a stream into windows of equal length; the end of an interval counts when it is half a window."""

    def __init__(self, length: int) -> None:
        self.length = length
        self._rest: np.ndarray | None = None

    def push(self, block: np.ndarray) -> np.ndarray:
        """Return whole windows, shape (window, time, channel)."""
        x = block if self._rest is None else np.concatenate([self._rest, block])
        n = len(x) // self.length
        self._rest = x[n * self.length :]
        return x[: n * self.length].reshape(n, self.length, x.shape[1])

    def flush(self) -> np.ndarray | None:
        """Return the last window, shorter than the others, or None."""
        rest, self._rest = self._rest, None
        return rest[None] if rest is not None and len(rest) >= max(2, self.length / 2) else None


class Measures:
    """Accumulates what `Measured` holds; memory does not grow with the recording but for the logarithm.

    Parameters
    ----------
    info : SignalInfo
        Rate and channels; measured are the good ones of `kinds`.
    window_s : float
        Length of the windows.
    least : float
        A correlation under this is none.
    """

    def __init__(self, info: SignalInfo, *, window_s: float, least: float) -> None:
        self.groups: dict[str, list[int]] = {}
        for i, c in enumerate(info.channels):
            if not c.bad:
                self.groups.setdefault(c.kind, []).append(i)
        self.least, self._info = least, info
        n, length = len(info.channels), max(3, round(window_s * info.rate_hz))
        self._all, self._low, self._high = Quantiles(n), Quantiles(n), Quantiles(n)
        self._windows, self._slow_windows = Windows(length), Windows(length)
        self._top, self._bottom = np.full(n, -np.inf), np.full(n, np.inf)
        self._at_top, self._at_bottom = np.zeros(n), np.zeros(n)
        self._flat, self._n_flat = np.zeros(n), np.zeros(n)
        self._alone, self._n_alone = np.zeros(n), np.zeros(n)
        # Needs room for its flank above 50 Hz; slower recordings hold no such noise.
        self._split = Filter(high_hz=NOISE_HZ) if info.rate_hz > 3 * NOISE_HZ else None
        self._interval: int | None = None

    def push(self, block: np.ndarray, interval: int) -> None:
        """Take a block of finite values."""
        if interval != self._interval:
            self._end()
            self._interval = interval
            self._waiting: list[np.ndarray] = []
            self._seen = 0
            if self._split is not None:
                self._split.start(self._info)
        x = np.asarray(block, dtype=np.float64)
        self._seen += len(x)
        self._all.add(x)
        self._clipping(x)
        self._flatness(self._windows.push(x))
        if self._split is None:
            self._likeness(self._slow_windows.push(x))
        else:
            self._waiting.append(x)
            self._parts(self._split.push(x))

    def _end(self) -> None:
        if self._interval is None:
            return
        self._flatness(self._windows.flush())
        # An interval shorter than the filter is too short to tell what is noise in it.
        if self._split is not None and self._seen > round(self._split.delay_s * self._info.rate_hz):
            self._parts(self._split.flush())
        self._likeness(self._slow_windows.flush())

    def _parts(self, slow: np.ndarray | None) -> None:
        if slow is None or not len(slow):
            return
        x = np.concatenate(self._waiting)
        self._waiting = [x[len(slow) :]]
        self._low.add(slow)
        self._high.add(x[: len(slow)] - slow)
        self._likeness(self._slow_windows.push(slow))

    def _clipping(self, x: np.ndarray) -> None:
        for sign, edge, count in ((1, self._top, self._at_top), (-1, self._bottom, self._at_bottom)):
            most = (sign * x).max(axis=0) * sign
            new = sign * most > sign * edge
            edge[new], count[new] = most[new], 0
            on = x == edge
            beside = np.zeros_like(on)
            beside[1:] |= on[:-1]
            beside[:-1] |= on[1:]
            count += (on & beside).sum(axis=0)

    def _reach(self) -> np.ndarray:
        """Largest absolute value of each channel so far."""
        return np.maximum(np.abs(self._top), np.abs(self._bottom))

    def _flatness(self, windows: np.ndarray | None) -> None:
        if windows is None or not len(windows):
            return
        extent = windows.max(axis=1) - windows.min(axis=1)
        for members in self.groups.values():
            mine = extent[:, members]
            usual = np.median(mine, axis=1, keepdims=True)
            # Where most channels stand still the amplifier did: no channel's fault.
            alive = usual[:, 0] > ROUNDING * np.median(self._reach()[members])
            self._flat[members] += (mine <= FLAT_PART * usual)[alive].sum(axis=0)
            self._n_flat[members] += alive.sum()

    def _likeness(self, windows: np.ndarray | None) -> None:
        if windows is None or not len(windows):
            return
        x = windows - windows.mean(axis=1, keepdims=True)
        size = np.sqrt((x**2).sum(axis=1, keepdims=True))
        moves = size > ROUNDING * self._reach() * np.sqrt(windows.shape[1])
        x = np.where(moves, x / np.where(moves, size, 1.0), 0.0)
        for members in self.groups.values():
            if len(members) < 3:
                continue
            mine = x[:, :, members]
            alike = np.abs(np.swapaxes(mine, 1, 2) @ mine)
            # Without itself: −1 sorts first and is cut off.
            alike[:, range(len(members)), range(len(members))] = -1
            others = np.sort(alike, axis=2)[:, :, 1:]
            best = np.quantile(others, 0.98, axis=2)
            alive = moves[:, 0, members].mean(axis=1) > 0.5
            self._alone[members] += (best < self.least)[alive].sum(axis=0)
            self._n_alone[members] += alive.sum()

    def result(self) -> Measured:
        """End the pass and return what was measured."""
        self._end()
        self._interval = None
        low, high = (np.subtract(*q.at([0.75, 0.25])) for q in (self._low, self._high))
        with np.errstate(divide="ignore", invalid="ignore"):
            return Measured(
                spread=SD_PER_IQR * np.subtract(*self._all.at([0.75, 0.25])),
                noise=np.where(low > 0, high / low, np.nan),
                flat=self._flat / self._n_flat,
                clipped=(self._at_top + self._at_bottom) / max(self._all.n, 1),
                uncorrelated=self._alone / self._n_alone,
            )
