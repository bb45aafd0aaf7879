"""Channels that hold another channel's values, in place or shifted in time: a storage error that no spectrum shows.

A reader that takes the wrong stride cuts one channel into overlapping rows: each "channel" is then the one before it, some
samples later. Three published sets are stored so. To a model that restores hidden channels such data are easy: it copies.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError

# intervals that are compared, the first ones of the recording: a copy is one in each of them
N_INTERVALS = 4
# what storage and a change of unit may do to a value, in standard deviations
TOLERANCE = 1e-4


class CopiedChannels(Stage):
    """Mark as bad every channel that equals an earlier one, shifted by up to `max_lag_s` either way.

    Stands before any filter or reference, which would hide copies or make them. The reason, with the other channel and
    the shift, goes into the channel table; how many, into the quality figures (``copied_channels``).

    Parameters
    ----------
    max_lag_s : float
        Largest shift looked for.
    check_s : float
        Seconds of each of the first intervals that are compared, at least four times `max_lag_s`.
    """

    surveys = True

    def __init__(self, *, max_lag_s: float = 1.0, check_s: float = 8.0) -> None:
        if not max_lag_s >= 0 or not 4 * max_lag_s <= check_s:
            raise ConfigError(
                f"stage 'copied_channels': max_lag_s is {max_lag_s} and check_s {check_s}; expected 0 or more, and at "
                "least four times as much"
            )
        self.max_lag_s, self.check_s = max_lag_s, check_s
        self._pieces: dict[int, list[np.ndarray]] = {}
        self._reasons: dict[str, str] = {}

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Keep the beginning of the first intervals."""
        if info.interval not in self._pieces and len(self._pieces) >= N_INTERVALS:
            return
        held = self._pieces.setdefault(info.interval, [])
        missing = round(self.check_s * info.rate_hz) - sum(map(len, held))
        if missing > 0:
            held.append(np.array(block[:missing], dtype=np.float64))

    def conclude(self, info: SignalInfo) -> Verdict:
        """Find the copies."""
        pieces = [np.concatenate(held) for held in self._pieces.values()]
        self._pieces, self._reasons = {}, {}
        usable = [i for i, c in enumerate(info.channels) if not c.bad]
        found = copies(pieces, usable, max_lag=round(self.max_lag_s * info.rate_hz))
        for copy, (original, lag) in found.items():
            shift = f" shifted by {lag} samples" if lag else ""
            self._reasons[info.channels[copy].name] = (
                f"holds the values of channel {info.channels[original].name}{shift}: stored or read wrongly"
            )
        return Verdict(figures={"copied_channels": float(len(found))})

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; mark the copies."""
        channels = tuple(
            replace(c, bad=True, reason="; ".join(filter(None, (c.reason, self._reasons[c.name]))))
            if c.name in self._reasons
            else c
            for c in info.channels
        )
        return replace(info, channels=channels)


def copies(pieces: list[np.ndarray], channels: list[int], *, max_lag: int) -> dict[int, tuple[int, int]]:
    """Find channels that hold an earlier channel's values in every piece, shape (time, channel) each.

    Returns
    -------
    dict of int to (int, int)
        Copy → the nearest earlier channel that it equals, and the lag l of ``copy[t] = original[t + l]``.
    """
    found: dict[int, tuple[int, int]] = {}
    pieces = [p for p in pieces if len(p) > 2 * max_lag + 8]
    if not pieces:
        return found
    first = pieces[0]
    n = 1 << (2 * len(first) - 1).bit_length()
    moving = [c for c in channels if first[:, c].std() > 0]
    spectra = {c: np.fft.rfft(first[:, c] - first[:, c].mean(), n) for c in moving}
    lags = np.r_[0 : max_lag + 1, -max_lag:0]
    for k, copy in enumerate(moving):
        for original in reversed(moving[:k]):
            # where the sums of products peak is where a copy would lie; whether it is one, the values say
            product = np.fft.irfft(spectra[original] * spectra[copy].conj(), n)[lags]
            lag = int(lags[np.argmax(product / (len(first) - np.abs(lags)))])
            if all(_equal(p[:, copy], p[:, original], lag) for p in pieces):
                found[copy] = (original, lag)
                break
    return found


def _equal(copy: np.ndarray, original: np.ndarray, lag: int) -> bool:
    """Whether ``copy[t] = original[t + lag]`` wherever both exist, and they are not constant."""
    a, b = (copy[: len(copy) - lag], original[lag:]) if lag >= 0 else (copy[-lag:], original[:lag])
    size = b.std()
    return bool(size > 0 and np.abs(a - b).max() <= TOLERANCE * size)
