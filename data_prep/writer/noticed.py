"""What is noticed while a recording is written: units that never fire, long silence, behaviour with holes or shifted.

Nothing is read a second time for it, and nothing is refused: `data_prep.findings` says it in sentences.
"""

from __future__ import annotations

import numpy as np

# A silence shorter than this is no stray spike, however short the recording.
LEAST_SILENCE_S = 10.0


class SpikesSeen:
    """Counts the spikes of each unit, and keeps the longest time without any.

    Parameters
    ----------
    n_units : int
        Columns of the stream.
    """

    def __init__(self, n_units: int) -> None:
        self.counts = np.zeros(n_units, np.int64)
        self._silence = (0.0, 0.0)
        self._total_s = 0.0

    def begin(self, start_s: float) -> None:
        """Begin a valid interval, at a time of the recording's clock."""
        self._last_s = self._start_s = start_s

    def push(self, time_s: np.ndarray, unit: np.ndarray) -> None:
        """Take sorted spikes, in seconds of the recording's clock."""
        self.counts += np.bincount(unit, minlength=len(self.counts))
        if len(time_s):
            borders = np.concatenate([[self._last_s], time_s])
            at = int(np.argmax(np.diff(borders)))
            self._note(float(borders[at]), float(borders[at + 1]))
            self._last_s = float(time_s[-1])

    def end(self, stop_s: float) -> None:
        """End the interval."""
        self._note(self._last_s, stop_s)
        self._total_s += stop_s - self._start_s

    def _note(self, start_s: float, stop_s: float) -> None:
        if stop_s - start_s > self._silence[1] - self._silence[0]:
            self._silence = (start_s, stop_s)

    def figures(self) -> dict[str, float]:
        """Return when the longest silence was, where it is longer than all the rest: a stray time makes such ones."""
        start_s, stop_s = self._silence
        lasts_s = stop_s - start_s
        if lasts_s < LEAST_SILENCE_S or lasts_s <= self._total_s - lasts_s:
            return {}
        return {"silence_from_s": start_s, "silence_to_s": stop_s}
