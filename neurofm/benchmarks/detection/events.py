"""Detections against annotated events, by the rules of SzCORE (Dan et al. 2024, Epilepsia, doi:10.1111/epi.18113).

Reference and detections are each merged where they are closer than 90 s and then split where they are longer than
5 min. A reference event counts as detected when detections cover more than `min_overlap` of it, its start moved
30 s earlier and its end 60 s later. A detection is a false alarm when any part of it lies outside every *detected*
reference event so widened: one that outlasts a seizure by more than the tolerance is both a hit and a false alarm.

Times are exact; the reference implementation (`timescoring`) rounds them to 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from neurofm.schema.errors import ConfigError, DataError

Event = tuple[float, float]
# seconds below which a difference is rounding
TINY_S = 1e-6


@dataclass(frozen=True, kw_only=True)
class EventRule:
    """Choices of the scoring; the defaults are SzCORE's.

    Attributes
    ----------
    merge_s : float
        Events closer than this become one.
    longest_s : float
        Longer events are cut into pieces of this length; the last piece is shorter.
    before_s, after_s : float
        Tolerance around a reference event.
    min_overlap : float
        Share of the widened reference event that detections must exceed; 0 = any overlap.
    """

    merge_s: float = 90.0
    longest_s: float = 300.0
    before_s: float = 30.0
    after_s: float = 60.0
    min_overlap: float = 0.0

    def __post_init__(self) -> None:
        if min(self.merge_s, self.before_s, self.after_s) < 0 or not self.longest_s > 0:
            raise ConfigError("event rule: merge_s, before_s and after_s must be 0 or more, longest_s above 0")
        if not 0 <= self.min_overlap < 1:
            raise ConfigError(f"event rule: min_overlap is {self.min_overlap}; expected from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class EventScores:
    """Counts of events, and what follows from them; counts of several recordings add up.

    Attributes
    ----------
    n_reference, n_detected : int
        Reference events after merging and splitting, and those found.
    n_detections, n_false : int
        Detections after merging and splitting, and those that are false alarms.
    hours : float
        Length of what was scored.
    """

    n_reference: int = 0
    n_detected: int = 0
    n_detections: int = 0
    n_false: int = 0
    hours: float = 0.0

    def __add__(self, other: EventScores) -> EventScores:
        return EventScores(
            n_reference=self.n_reference + other.n_reference, n_detected=self.n_detected + other.n_detected,
            n_detections=self.n_detections + other.n_detections, n_false=self.n_false + other.n_false,
            hours=self.hours + other.hours,
        )  # fmt: skip

    @property
    def sensitivity(self) -> float:
        """Share of reference events found; NaN when there are none."""
        return self.n_detected / self.n_reference if self.n_reference else float("nan")

    @property
    def precision(self) -> float:
        """Hits among hits and false alarms, n_detected / (n_detected + n_false); NaN when nothing was detected."""
        claimed = self.n_detected + self.n_false
        return self.n_detected / claimed if claimed else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision; 0 when there are events and none was found, NaN without events."""
        if not self.n_reference:
            return float("nan")
        return 2 * self.n_detected / (self.n_reference + self.n_detected + self.n_false)

    @property
    def false_alarms_per_hour(self) -> float:
        """False alarms per hour of what was scored."""
        return self.n_false / self.hours if self.hours else float("nan")


def merge(events: Iterable[Event], *, within_s: float) -> list[Event]:
    """Join events that are closer than `within_s`; those that overlap or touch are always joined."""
    joined: list[Event] = []
    for start, stop in sorted(events):
        if joined and (start <= joined[-1][1] or start - joined[-1][1] < within_s - TINY_S):
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def split(events: Iterable[Event], *, longest_s: float) -> list[Event]:
    """Cut events that are longer than `longest_s` into pieces of that length and a rest."""
    pieces: list[Event] = []
    for begin, stop in events:
        start = begin
        while stop - start > longest_s + TINY_S:
            pieces.append((start, start + longest_s))
            start += longest_s
        pieces.append((start, stop))
    return pieces


def covered_s(event: Event, by: Iterable[Event]) -> float:
    """Seconds of an event that lie inside the union of others."""
    return sum(max(0.0, min(event[1], stop) - max(event[0], start)) for start, stop in merge(by, within_s=0.0))


def score_events(
    reference: Iterable[Event], detections: Iterable[Event], *, duration_s: float, rule: EventRule | None = None
) -> EventScores:
    """Score one recording.

    Parameters
    ----------
    reference, detections : iterable of (start_s, stop_s)
        In seconds from the recording's start, inside [0, duration_s].
    duration_s : float
        Length of what was scored.
    rule : EventRule, optional
        Default: SzCORE's.
    """
    rule = rule or EventRule()
    if not duration_s > 0:
        raise DataError(f"event scores: the recording is {duration_s} s long; expected more than 0")
    truth, said = (
        split(merge(_checked(events, name, duration_s), within_s=rule.merge_s), longest_s=rule.longest_s)
        for events, name in ((reference, "reference"), (detections, "detection"))
    )
    found: list[Event] = []
    for start, stop in truth:
        wide = (max(0.0, start - rule.before_s), min(duration_s, stop + rule.after_s))
        if covered_s(wide, said) > rule.min_overlap * (wide[1] - wide[0]) + TINY_S:
            found.append(wide)
    false = [d for d in said if covered_s(d, found) < d[1] - d[0] - TINY_S]
    return EventScores(
        n_reference=len(truth), n_detected=len(found), n_detections=len(said), n_false=len(false),
        hours=duration_s / 3600,
    )  # fmt: skip


def events_of(starts_s: Sequence[float], positive: Sequence[bool] | np.ndarray, *, length_s: float) -> list[Event]:
    """Join the positive ones of some stretches of `length_s` into events."""
    chosen = [(float(s), float(s) + length_s) for s, p in zip(starts_s, positive, strict=True) if p]
    # stretches that follow each other may miss by rounding
    return merge(chosen, within_s=1e-3)


def _checked(events: Iterable[Event], name: str, duration_s: float) -> list[Event]:
    rows = [(float(a), float(b)) for a, b in events]
    for start, stop in rows:
        if not (stop > start and start >= -TINY_S and stop <= duration_s + 1e-3):
            raise DataError(
                f"event scores: the {name} from {start:g} to {stop:g} s is not inside the recording of {duration_s:g} s"
            )
    return rows
