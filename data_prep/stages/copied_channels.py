"""Channels that hold another channel's values, in place or shifted in time: a storage error that no spectrum shows.

A reader that takes the wrong stride cuts one channel into overlapping rows: each "channel" is then the one before it, some
samples later. Three published sets are stored so. To a model that restores hidden channels such data are easy: it copies.
"""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict, marked
from neurofm.schema.errors import ConfigError

# intervals that are compared, the first ones of the recording: a copy is one in each of them
N_INTERVALS = 4
# what storage and a change of unit may do to a value, in standard deviations
TOLERANCE = 1e-4
# a channel of fewer different values (counts, triggers) may equal another by chance
LEVELS = 16
# samples of a channel, the most unusual one first, by which the places of a copy are looked for
PROBES = 12


class CopiedChannels(Stage):
    """Mark as bad every channel that equals an earlier one, shifted by up to `max_lag_s` either way.

    Stands before any filter or reference, which would hide copies or make them. The reason, with the other channel and
    the shift, goes into the channel table; how many, into the quality figures (``copied_channels``).

    Parameters
    ----------
    max_lag_s : float
        Largest shift looked for; a quarter of the length of what is compared, where that is less.
    check_s : float
        Seconds of each of the first intervals that are compared, at least four times `max_lag_s`.
    """

    version = 2
    surveys = True
    observes_intervals = N_INTERVALS

    def __init__(self, *, max_lag_s: float = 1.0, check_s: float = 8.0) -> None:
        if not max_lag_s >= 0 or not 4 * max_lag_s <= check_s:
            raise ConfigError(
                f"stage 'copied_channels': max_lag_s is {max_lag_s} and check_s {check_s}; expected 0 or more, and at "
                "least four times as much"
            )
        self.max_lag_s, self.check_s = max_lag_s, check_s
        self.observes_s = check_s
        self._pieces: dict[int, list[np.ndarray]] = {}
        self._reasons: dict[str, str] = {}

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Keep the beginning of the first intervals."""
        self._pieces.setdefault(info.interval, []).append(np.array(block, dtype=np.float64))

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
        return marked(info, self._reasons)


def copies(pieces: list[np.ndarray], channels: list[int], *, max_lag: int) -> dict[int, tuple[int, int]]:
    """Find channels that hold an earlier channel's values in every piece, shape (time, channel) each.

    Returns
    -------
    dict of int to (int, int)
        Copy → the nearest earlier channel that it equals, and the lag l of ``copy[t] = original[t + l]``.
    """
    found: dict[int, tuple[int, int]] = {}
    # trials may be shorter than what is looked for in a long recording
    max_lag = min(max_lag, max(map(len, pieces), default=0) // 4)
    pieces = [p for p in pieces if len(p) > 2 * max_lag + 8]
    if not pieces:
        return found
    first = pieces[0]
    moving = [c for c in channels if len(np.unique(first[:, c])) > LEVELS]
    values = first[:, moving]
    for k, copy in enumerate(moving):
        places = _places(values[:, k], values[:, :k], max_lag)
        # of several, as in a strictly periodic signal, the nearest channel and the smallest shift
        for lag, original in sorted(((lag, moving[e]) for lag, e in places), key=lambda p: (-p[1], abs(p[0]))):
            if all(_equal(p[:, copy], p[:, original], lag) for p in pieces):
                found[copy] = (original, lag)
                break
    return found


def _places(copy: np.ndarray, earlier: np.ndarray, max_lag: int) -> list[tuple[int, int]]:
    """Return every (lag, column of `earlier`) at which the probes have the values of `copy`."""
    inner = copy[max_lag : len(copy) - max_lag]
    unusual = np.argsort(-np.abs(inner - np.median(inner)), kind="stable")
    near = 10 * TOLERANCE * copy.std()  # wider than what `_equal` then asks for: that of the overlap is not known yet
    lag, column = np.zeros(0, int), np.zeros(0, int)
    for n, at in enumerate(unusual[:: max(1, len(unusual) // PROBES)][:PROBES] + max_lag):
        if n == 0:
            lag, column = np.nonzero(np.abs(earlier[at - max_lag : at + max_lag + 1] - copy[at]) <= near)
            lag -= max_lag
        else:
            same = np.abs(earlier[at + lag, column] - copy[at]) <= near
            lag, column = lag[same], column[same]
    return list(zip(lag.tolist(), column.tolist(), strict=True))


def _equal(copy: np.ndarray, original: np.ndarray, lag: int) -> bool:
    """Whether ``copy[t] = original[t + lag]`` wherever both exist, and they are not constant."""
    a, b = (copy[: len(copy) - lag], original[lag:]) if lag >= 0 else (copy[-lag:], original[:lag])
    size = b.std()
    return bool(size > 0 and np.abs(a - b).max() <= TOLERANCE * size)
