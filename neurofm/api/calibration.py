"""Transforms meet a recording that they have never seen."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import cut, whole
from neurofm.data.transforms.base import Compose
from neurofm.schema.errors import ConfigError


def knows(transform: Compose, recording_id: str) -> bool:
    """Whether all that learns has learned this recording."""
    states = [t.state() for t in transform.transforms if t.learns]
    return all(recording_id in state.get("recordings", state) for state in states)


def calibrate(
    transform: Compose, dataset: Dataset, recording_ids: Sequence[str], *, calibration_s: float | None
) -> tuple[bool, list[str]]:
    """Fit a transform on recordings that it has not seen; return whether that is transductive, and what was done.

    Parameters
    ----------
    transform : Compose
        Of the model; changed in place.
    dataset : Dataset
        Holds the recordings.
    recording_ids : sequence of str
        Those that will be transformed.
    calibration_s : float, optional
        Length of what is learned from, at the start of each recording; default all of it.
    """
    if not any(t.learns for t in transform.transforms):
        return transform.is_transductive, []
    new = [r for r in recording_ids if not knows(transform, r)]
    if not new:
        return transform.is_transductive, ["the transforms know this recording from training"]
    names = ", ".join(t.name for t in transform.transforms if t.learns)
    lengths_s = [dataset.valid(r)[-1][1] - dataset.valid(r)[0][0] for r in new]
    covered = calibration_s is None or any(calibration_s >= length_s for length_s in lengths_s)
    if calibration_s is None:
        spans = whole(dataset, new)
    else:
        if not calibration_s > 0:
            raise ConfigError(f"calibration_s is {calibration_s}; expected seconds above 0, or None for the whole")
        spans = [s for r in new for s in cut(dataset, [r], 0.0, calibration_s)]
    if not spans:
        raise ConfigError(f"calibration_s={calibration_s:g} is less than one sample; calibrate on more")
    transform.fit(dataset, spans, allowed=spans)
    said = (
        f"{names}: learned from the whole recording, the embedded windows included (transductive)"
        if covered
        else f"{names}: learned from the first {calibration_s:g} s of the recording only"
    )
    return covered or transform.is_transductive, [said]
