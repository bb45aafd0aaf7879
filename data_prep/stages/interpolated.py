"""Slow traces that were filled in rather than measured: long holes, and stretches that are exactly straight lines."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict, marked
from data_prep.stages.quality import runs_of
from neurofm.schema.errors import ConfigError, DataError

# a window is straight when its second differences are below this part of its range (files of float32 leave about 1e-6)
STRAIGHT = 1e-4


class Interpolated(Stage):
    """Mark channels whose values were interpolated in disguise, as the homogenised C. elegans collection does.

    Simeon et al. 2024 (arXiv 2411.12091) drop a trace when its longest run of missing values exceeds 5 % of the recording,
    or when more than a thousandth of its windows of 50 samples are exactly linear; and recordings of fewer than 600 samples.
    It comes before stages that smooth, which hide straight lines, and works on bad channels' holes as `quality` does not:
    put it first.

    Parameters
    ----------
    window : int
        Samples of a window; windows begin at every half of one.
    max_straight : float
        Share of straight windows up to which a channel is good.
    max_hole : float
        Longest run of missing values, as a part of the recording, up to which a channel is good.
    min_samples : int
        Shorter recordings are rejected; 0 = none are.
    """

    surveys = True

    def __init__(
        self, *, window: int = 50, max_straight: float = 1e-3, max_hole: float = 0.05, min_samples: int = 0
    ) -> None:
        if window < 4 or not 0 <= max_straight < 1 or not 0 <= max_hole < 1 or min_samples < 0:
            raise ConfigError(
                f"stage 'interpolated': window is {window}, max_straight {max_straight}, max_hole {max_hole}, min_samples "
                f"{min_samples}; expected 4 or more, parts between 0 and 1, and 0 or more"
            )
        self.window, self.max_straight, self.max_hole = int(window), float(max_straight), float(max_hole)
        self.min_samples = int(min_samples)
        self._kept: dict[int, list[np.ndarray]] = {}
        self._reasons: dict[int, str] = {}

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Keep a block: recordings of this kind are minutes at a few samples per second."""
        self._kept.setdefault(info.interval, []).append(np.asarray(block, np.float64))

    def conclude(self, info: SignalInfo) -> Verdict:
        """Judge every channel that is not bad already.

        Raises
        ------
        DataError
            When the recording is too short.
        """
        whole = [np.concatenate(blocks) for _, blocks in sorted(self._kept.items())]
        self._kept = {}
        total = sum(map(len, whole))
        if total < self.min_samples:
            raise DataError(f"has {total} samples, fewer than min_samples, {self.min_samples}")
        for c, channel in enumerate(info.channels):
            if channel.bad or not total:
                continue
            hole = max((b - a for x in whole for a, b in runs_of(~np.isfinite(x[:, c]))), default=0)
            flags = np.concatenate([straight(x[:, c], self.window) for x in whole])
            share = float(flags.mean()) if len(flags) else 0.0
            if hole > self.max_hole * total:
                self._reasons[c] = f"{100 * hole / total:.1f} % of the recording are missing at a stretch"
            elif share > self.max_straight:
                self._reasons[c] = f"{100 * share:.1f} % of its windows are straight lines (interpolated)"
        return Verdict(figures={"interpolated_channels": float(len(self._reasons))})

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; mark the channels."""
        return marked(info, self._reasons)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Put zeros into the holes of the channels it marked, as nothing after it may."""
        if not self._reasons:
            return block
        out = np.array(block, np.float64)
        marked = sorted(self._reasons)
        out[:, marked] = np.where(np.isfinite(out[:, marked]), out[:, marked], 0.0)
        return out


def straight(trace: np.ndarray, window: int) -> np.ndarray:
    """Which of the staggered windows of a trace are exactly linear, bool (window,); constant ones are not counted so."""
    starts = np.arange(0, len(trace) - window + 1, max(1, window // 2))
    if not len(starts):
        return np.zeros(0, bool)
    x = np.lib.stride_tricks.sliding_window_view(trace, window)[starts]
    finite = np.isfinite(x).all(1)
    extent = np.where(finite, np.ptp(np.where(np.isfinite(x), x, 0.0), axis=1), 0.0)
    bend = np.abs(np.diff(np.where(np.isfinite(x), x, 0.0), n=2, axis=1)).max(1)
    return finite & (extent > 0) & (bend <= STRAIGHT * extent)
