"""The stage protocol: what a step of signal preparation is given, and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neurofm.schema.recording import Channel, Event, EventStream


@dataclass(frozen=True, kw_only=True)
class SignalInfo:
    """What a stage knows of the signal it will be pushed.

    Attributes
    ----------
    rate_hz : float
        Samples per second.
    channels : tuple of Channel
        Columns of every block.
    interval : int
        Number of the valid interval that follows.
    spans : tuple of (start_s, stop_s)
        The valid intervals on the recording's clock; () in live use.
    trials : tuple of Event or None
        What each valid interval is a trial of, where it is one; () in live use.
    events : tuple of Event
        The recording's events.
    """

    rate_hz: float
    channels: tuple[Channel, ...]
    interval: int = 0
    spans: tuple[tuple[float, float], ...] = ()
    trials: tuple[Event | None, ...] = ()
    events: tuple[Event, ...] = ()


def marked(info: SignalInfo, reasons: Mapping[Any, str], *, bad: bool = True) -> SignalInfo:
    """Mark channels as bad, or only say something of them (`bad` false).

    `reasons` are by name or by number of the column, and join those that a channel has already.
    """
    channels = []
    for i, c in enumerate(info.channels):
        reason = reasons.get(c.name) or reasons.get(i)
        channels.append(
            replace(c, bad=c.bad or bad, reason="; ".join(filter(None, (c.reason, reason)))) if reason else c
        )
    return replace(info, channels=tuple(channels))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a surveying stage concludes from one pass over the whole recording.

    Attributes
    ----------
    keep : list of (interval, start, stop)
        Spans in samples that stay and become the valid intervals, in this order; None = everything.
    starts_s : list of float
        Where each of `keep` is on the recording's clock from now on; None = where it was.
    trials : list of Event
        What each of `keep` is a trial of; None = what it was. These become the recording's events.
    figures : dict of str to float
        Added to the recording's quality figures.
    """

    keep: list[tuple[int, int, int]] | None = None
    starts_s: list[float] | None = None
    trials: list[Event] | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Stage:
    """One step over blocks of shape (time, channel); this base class passes everything through.

    Attributes
    ----------
    version : int
        Raised whenever the same arguments give other numbers, so that old receipts no longer count.
    causal : bool
        True when an output sample depends on no later input sample.
    delay_s : float
        How long after a sample went in its output comes out; known after `start`.
    shortest_s : float
        Intervals must be longer than this; known after `start`. Shorter ones are left out where longer ones remain.
    surveys : bool
        True when the stage must see the whole recording once (`observe` …, `conclude`) before `start`. Without
        a survey, in live use, it falls back on its arguments.
    observes : bool
        False when a surveying stage concludes from what it is told of the signal alone: nothing is read for it.
    observes_s, observes_intervals : float
        How much of each interval, and of how many of them, the survey reads: the first.
    """

    version = 1
    causal = True
    delay_s = 0.0
    shortest_s = 0.0
    surveys = False
    observes = True
    observes_s: float = math.inf
    observes_intervals: float = math.inf

    def describe(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what dataset.json and receipts say of the stage: the choices it was built from, without folders.

        What this returns must build the stage again, and must differ whenever the result would.
        """
        return dict(entry)

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """See one block of the survey pass; `info.interval` says which interval it belongs to."""

    def conclude(self, info: SignalInfo) -> Verdict:
        """End the survey pass.

        Raises
        ------
        DataError
            When the recording should be rejected.
        """
        return Verdict()

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval and forget the last one; return what comes out."""
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take a block (time, channel), return what is ready, possibly nothing (0, channel)."""
        return block

    def flush(self) -> np.ndarray | None:
        """Return what is left at the end of the interval; None = nothing."""
        return None


class EventStage:
    """One step over a list of events (spikes); the stages of regular signals do not apply to those.

    Attributes
    ----------
    version : int
        As in `Stage`.
    """

    version = 1

    def describe(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return what dataset.json and receipts say of the stage, as `Stage.describe`."""
        return dict(entry)

    def apply(self, stream: EventStream) -> tuple[EventStream, dict[str, float]]:
        """Return the stream after this step, still read lazily, and quality figures of the recording."""
        raise NotImplementedError
