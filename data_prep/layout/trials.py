"""Recordings that come as cut trials: laid out one after the other, since their place in time is not known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate

import numpy as np

from neurofm.schema.recording import Channel, Stream

Read = Callable[[int, int, int], np.ndarray]


def trial_starts(n_samples: Sequence[int], rate_hz: float) -> tuple[float, ...]:
    """Return where each trial starts, in seconds: on whole seconds, at least one second after the last one's end."""
    steps = [float(math.ceil(n / rate_hz) + 1) for n in n_samples]
    return tuple(accumulate(steps[:-1], initial=0.0)) if steps else ()


def named_channels(
    names: Sequence[str], *, kind: str = "eeg", unit: str = "uV", reference: str = ""
) -> tuple[Channel, ...]:
    """Return channels of one kind; EEG names are shared across recordings in lower case."""
    return tuple(
        Channel(name=n, canonical=n.lower() if kind == "eeg" else "", kind=kind, unit=unit, reference=reference)
        for n in names
    )


def covariate(channels: Sequence[Channel], *, rate_hz: float, n_samples: Sequence[int], read: Read) -> Stream:
    """Return EOG, ECG and other accompanying signals as a stream."""
    return Stream(
        name="covariate",
        role="covariate",
        unit=channels[0].unit,
        rate_hz=rate_hz,
        channels=tuple(channels),
        n_samples=tuple(n_samples),
        read=read,
    )
