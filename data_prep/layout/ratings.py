"""Emotion ratings of film clips: an event for the clip, high or low as its label, and one for every scale."""

from __future__ import annotations

from collections.abc import Mapping

from neurofm.schema.recording import Event


def rated(
    onset_s: float,
    duration_s: float,
    ratings: Mapping[str, float],
    *,
    scale: str,
    middle: float,
    stimulus: int,
    trial: int,
) -> tuple[Event, ...]:
    """Return the events of a clip: first the clip with a label, then each rating by the name of its scale.

    The ratings have no label, so that a clip has one class.

    Parameters
    ----------
    onset_s, duration_s : float
        Of the clip.
    ratings : dict of str to float
        Scale → what the person said; a rating is the value of an event of that kind.
    scale : str
        Which of them is the clip's value and label.
    middle : float
        Above it the label is "high", up to it "low".
    stimulus : int
        Number of the clip, from 1.
    trial : int
        Place in the recording, from 0.
    """
    label = "high" if ratings[scale] > middle else "low"
    said = [("clip", label, ratings[scale]), *((name, "", value) for name, value in ratings.items())]
    return tuple(
        Event(
            onset_s=onset_s,
            duration_s=duration_s,
            kind=kind,
            label=text,
            value=float(value),
            stimulus_id=str(stimulus),
            trial=trial,
        )
        for kind, text, value in said
    )
