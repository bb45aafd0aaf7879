"""Checks of events that all sources share."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.schema.errors import DataError
from neurofm.schema.recording import Event

# Headers and tables round their times; an onset within this of the end is no sign of a wrong rate.
SLACK_S = 0.05


def require_inside(events: Sequence[Event], length_s: float) -> None:
    """Check that every event begins within the recording.

    Parameters
    ----------
    events : sequence of Event
        Onsets in seconds from the recording's start.
    length_s : float
        How long it is.

    Raises
    ------
    DataError
        When one lies before the start or past the end: the sampling rate, the unit of the onsets or the file's
        length is not what it is said to be, and labels at wrong times are worse than none.
    """
    outside = [e for e in events if not -SLACK_S <= e.onset_s <= length_s + SLACK_S]
    if outside:
        e = outside[0]
        where = "past the end" if e.onset_s > 0 else "before the start"
        raise DataError(
            f"{len(outside)} of {len(events)} events lie {where}: {e.kind} '{e.label}' at {e.onset_s:g} s of a recording "
            f"of {length_s:g} s; is the sampling rate right, and the file whole?"
        )
