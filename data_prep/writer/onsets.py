"""Events by their onset, so that cutting a recording into thousands of trials does not read all its events for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurofm.schema.recording import Event


class Onsets:
    """Events of one recording, found by time.

    Parameters
    ----------
    events : sequence of Event
        In any order, which is kept.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._events = events
        onset_s = np.array([e.onset_s for e in events], dtype=float)
        self._order = np.argsort(onset_s, kind="stable")
        self._sorted_s = onset_s[self._order]

    def about(self, start_s: float, stop_s: float) -> list[Event]:
        """Events from a millisecond before `start_s` to one after `stop_s`, in their own order; the caller draws the line."""
        a, b = np.searchsorted(self._sorted_s, [start_s - 1e-3, stop_s + 1e-3])
        return [self._events[i] for i in sorted(self._order[a:b].tolist())]
