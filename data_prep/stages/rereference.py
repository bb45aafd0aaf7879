"""Average reference over the good channels of each kind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError

KINDS = ("eeg", "ecog", "seeg", "dbs", "lfp")


class Rereference(Stage):
    """Subtract from every channel the mean (or median) of the good channels of its kind at that moment.

    Parameters
    ----------
    method : str
        "average" or "median".
    kinds : list of str
        Kinds to re-reference, each by itself; others pass.
    """

    def __init__(self, *, method: str = "average", kinds: tuple[str, ...] | list[str] = KINDS) -> None:
        if method not in ("average", "median"):
            raise ConfigError(f"stage 'rereference': method is '{method}'; expected average or median")
        self.method, self.kinds = method, tuple(kinds)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; name the reference in the channel table."""
        self._groups = []
        touched: set[int] = set()
        for kind in self.kinds:
            members = [i for i, c in enumerate(info.channels) if c.kind == kind]
            good = [i for i in members if not info.channels[i].bad]
            # The mean of one channel is the channel itself: subtracting it would leave nothing.
            if len(good) > 1:
                self._groups.append((members, good))
                touched.update(members)
        channels = tuple(replace(c, reference=self.method) if i in touched else c for i, c in enumerate(info.channels))
        return replace(info, channels=channels)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Re-reference a block."""
        out = np.array(block, dtype=np.float64)
        centre = np.mean if self.method == "average" else np.median
        for members, good in self._groups:
            out[:, members] -= centre(block[:, good], axis=1, keepdims=True)
        return out
