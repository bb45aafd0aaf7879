"""What the simulated populations share: choices in dataset.json, counts as spikes, truth as streams beside them.

Every stream whose name begins with ``true_`` is the simulation's own knowledge (rates, latents, states, connections). No
model is to read it; it is there for oracles and for scoring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Event, EventStream, Recording, Stream
from neurofm.schema.units import HELD_OUT

# one subject whose trials come in two recordings
TRAIN_AND_TEST = (("01", "", "train"), ("01", "", "test"))
# seconds without data between two trials
PAUSE_S = 1.0


class FromChoices(Source):
    """Simulated recordings, all of which follows from `choices`: plain numbers, checked by their names."""

    licence = "simulated, public domain (CC0)"
    citation = "simulated by neurofm; nobody was recorded"

    def __init__(self, **choices: Any) -> None:
        self.choices = choices
        for name, value in choices.items():
            count = isinstance(value, int) and not isinstance(value, bool) and name.startswith("n_")
            if count and value < self.fewest(name):
                raise ConfigError(f"source '{self.name}': {name} is {value}; expected {self.fewest(name)} or more")
            if name.endswith(("_s", "_hz")) and not value > 0:
                raise ConfigError(f"source '{self.name}': {name} is {value}; expected above 0")

    def fewest(self, name: str) -> int:
        """Return the smallest value that a number of things may have."""
        return 0 if name == "n_held_out" else 1


class SimSource(FromChoices):
    """A simulated population; a subclass lists (subject, session, part) and makes one recording of it.

    Attributes
    ----------
    oracle : dict
        What the truth itself scores with the default choices, as `scripts/oracles_spiking.py` prints it.
    """

    modalities: tuple[str, ...] = ("spikes",)
    oracle: ClassVar[dict[str, float]] = {}

    def describe(self) -> dict[str, Any]:
        """Return name, choices, that it is simulated, and the oracle's scores where they were measured."""
        facts = {"name": self.name, "version": self.version, **self.choices, "simulated": True}
        return {**facts, "oracle": self.oracle if self._is_default() else "not measured for these choices"}

    def _is_default(self) -> bool:
        given = inspect.signature(type(self).__init__).parameters
        return all(given[k].default == v for k, v in self.choices.items())

    def items(self, simulate: Callable[..., Recording], parts: Sequence[tuple[str, str, str]]) -> list[Item]:
        """Return one item per (subject, session, part), made by ``simulate(choices, subject, session, part)``."""
        return [
            Item(
                key="_".join(filter(None, (f"sub-{subject}", session and f"ses-{session}", part))),
                fingerprint=hash_of([self.describe(), subject, session, part]),
                open=partial(simulate, self.choices, subject, session, part),
                subject=subject,
                session=session,
            )
            for subject, session, part in parts
        ]


def people(choices: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (subject, session, part) of `n_subjects` people with one recording each."""
    return [(f"{k:02d}", "", "") for k in range(1, choices["n_subjects"] + 1)]


def rng_of(choices: dict[str, Any], *key: int) -> np.random.Generator:
    """Return the generator of one purpose."""
    return np.random.default_rng([choices["seed"], *key])


def units(n: int, *, owner: str, n_held_out: int = 0, kind: str = "unit") -> tuple[Channel, ...]:
    """Return the channels of `n` units, the last of them held out; `owner` is whose they are."""
    return tuple(
        Channel(
            name=f"u{i:03d}",
            canonical=f"{owner}/u{i:03d}",
            kind=kind,
            unit="au",
            reason=HELD_OUT if i >= n - n_held_out else "",
        )
        for i in range(n)
    )


def spikes_of(counts: np.ndarray, bin_s: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (time_s, unit) of counts, shape (bin, unit): each spike at a random place well inside its bin."""
    at, unit = np.nonzero(counts)
    n = counts[at, unit].astype(np.int64)
    at, unit = np.repeat(at, n), np.repeat(unit, n)
    time_s = (at + rng.uniform(0.02, 0.98, len(at))) * bin_s
    order = np.argsort(time_s, kind="stable")
    return time_s[order], unit[order].astype(np.int32)


def spike_stream(
    counts: Sequence[np.ndarray], bin_s: float, channels: tuple[Channel, ...], rng: np.random.Generator
) -> EventStream:
    """Return counts of each valid interval, shape (bin, unit), as a stream of events."""
    return EventStream.from_arrays(
        [spikes_of(c, bin_s, rng) for c in counts], duration_s=[len(c) * bin_s for c in counts], channels=channels
    )


def values_stream(
    name: str, arrays: Sequence[np.ndarray], rate_hz: float, *, unit: str = "au", role: str = "covariate",
    names: Sequence[str] | None = None,
) -> Stream:  # fmt: skip
    """Return values of each valid interval, shape (time, dimension), as a stream beside the spikes."""
    width = arrays[0].shape[1]
    names = [f"{name}{i}" for i in range(width)] if names is None else names
    channels = tuple(Channel(name=n, unit=unit) for n in names)
    return Stream.from_arrays(list(arrays), rate_hz=rate_hz, channels=channels, name=name, unit=unit, role=role)


def matrix_stream(name: str, matrix: np.ndarray, duration_s: Sequence[float]) -> Stream:
    """Return a matrix as a stream: its rows, evenly spread over each valid interval (all of one length).

    A matrix has no clock; read whole (``read_stream(recording, start, stop, stream=name)``) it comes back as it is.
    """
    rate_hz = len(matrix) / duration_s[0]
    return values_stream(name, [np.asarray(matrix, np.float64)] * len(duration_s), rate_hz)


def trial_events(labels: Sequence[str], starts_s: Sequence[float], duration_s: float) -> tuple[Event, ...]:
    """Return one event of kind "trial" per trial; its label is the condition."""
    return tuple(
        Event(onset_s=t, duration_s=duration_s, kind="trial", label=label, trial=i)
        for i, (label, t) in enumerate(zip(labels, starts_s, strict=True))
    )


def trial_starts(n: int, duration_s: float) -> tuple[float, ...]:
    """Return where trials begin on the recording's clock."""
    return tuple(i * (duration_s + PAUSE_S) for i in range(n))
