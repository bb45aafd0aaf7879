"""What is noticed while a recording is written: units that never fire, long silence, behaviour with holes or shifted.

Nothing is read a second time for it, and nothing is refused: `data_prep.findings` says it in sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neurofm.schema.recording import EventStream, Stream

# A silence shorter than this is no stray spike, however short the recording.
LEAST_SILENCE_S = 10.0
# Holes that last less than this altogether are jitter and edges.
LEAST_HOLE_S = 1.0
# Behaviour that covers less of the signal than this is on another clock, or was stopped early.
MOST = 0.95


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


class Coverage:
    """Follows one stream of behaviour over the time of the signal.

    A sample counts as missing where one of its values is not finite, as the loader masks it, and where the stream has
    ended. What is missing before the first and behind the last sample is another matter than holes between them.

    Parameters
    ----------
    stream : Stream
        What is beside the signal.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._total = self._present = self._leading = self._trailing = 0

    def push(self, values: np.ndarray, begin_s: float, end_s: float) -> None:
        """Take the samples of one segment, which lies there in its valid interval."""
        expected = max(len(values), round(end_s * self._stream.rate_hz) - round(begin_s * self._stream.rate_hz))
        at = np.flatnonzero(np.isfinite(values).all(axis=1))
        if not len(at):
            self._trailing += expected
        else:
            if not self._present:
                self._leading = self._trailing + int(at[0])
            self._trailing = expected - 1 - int(at[-1])
        self._present += len(at)
        self._total += expected

    def figures(self) -> dict[str, float]:
        """Return how long the stream is missing between its first and its last sample, where that is long.

        Where the time from its first to its last sample is clearly less than the signal's: which part of it that is,
        and when the stream begins.
        """
        name, rate = self._stream.name, self._stream.rate_hz
        if not self._present:
            return {f"missing_s_{name}": self._total / rate} if self._total else {}
        spanned = self._total - self._leading - self._trailing
        found, holes = {}, (spanned - self._present) / rate
        if holes >= LEAST_HOLE_S:
            found[f"missing_s_{name}"] = holes
        if spanned < MOST * self._total:
            begins_s = self._stream.begins_s
            found[f"covers_{name}"] = spanned / self._total
            found[f"begins_s_{name}"] = begins_s if np.isfinite(begins_s) else self._leading / rate
        return found


def coverages(streams: Sequence[Stream | EventStream]) -> dict[str, Coverage]:
    """Return what follows the behaviour among streams; stimuli have pauses by right."""
    return {s.name: Coverage(s) for s in streams if isinstance(s, Stream) and s.role == "covariate"}


def follow(found: Mapping[str, Coverage], arrays: Mapping[str, np.ndarray], begin_s: float, end_s: float) -> None:
    """Show a segment's members to those that follow them."""
    for name, coverage in found.items():
        coverage.push(arrays[name], begin_s, end_s)


def covered(found: Mapping[str, Coverage]) -> dict[str, float]:
    """Return the figures of all."""
    return {k: v for coverage in found.values() for k, v in coverage.figures().items()}
