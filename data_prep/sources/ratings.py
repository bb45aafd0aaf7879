"""Emotion ratings of film clips as one event per clip: the rating as value, high or low as label."""

from __future__ import annotations

from neurofm.schema.recording import Event


def rated(onset_s: float, duration_s: float, rating: float, *, middle: float, stimulus: int, trial: int) -> Event:
    """Return the event of a clip.

    Parameters
    ----------
    onset_s, duration_s : float
        Of the clip.
    rating : float
        What the person said; the event's value.
    middle : float
        Above it the label is "high", up to it "low".
    stimulus : int
        Number of the clip, from 1.
    trial : int
        Place in the recording, from 0.
    """
    return Event(
        onset_s=onset_s,
        duration_s=duration_s,
        kind="clip",
        label="high" if rating > middle else "low",
        value=float(rating),
        stimulus_id=str(stimulus),
        trial=trial,
    )
