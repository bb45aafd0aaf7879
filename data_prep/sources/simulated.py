"""Recordings with planted structure, for tests and demonstrations: what is in them is known.

Latent sources are smooth and shared in kind by all people; each person mixes them into channels by a matrix near
a population matrix. So a model of some people helps with another one, and a few minutes of the new person help
further. A labelled set adds to each trial the response of its class.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Event, Recording, Stream

# modality → channel kind, unit, standard deviation, offset
LOOKS = {
    "eeg": ("eeg", "uV", 20.0, 0.0),
    "ieeg": ("ecog", "uV", 60.0, 0.0),
    "meg": ("mag", "fT", 300.0, 0.0),
    "fmri": ("bold", "au", 100.0, 9000.0),
}
TRIAL_S = 1.0
RESPONSE_S = 0.4


class Simulated(Source):
    """Several people with a resting run each and, on request, a labelled run with official train and test parts.

    Parameters
    ----------
    n_subjects, n_channels, n_sources : int
        How many of each.
    duration_s : float
        Length of the resting run.
    rate_hz : float
        Sampling rate.
    modality : str
        "eeg", "ieeg", "meg" or "fmri": decides kind, unit and amplitude.
    subject_spread : float
        Distance of a person's mixing from the population's, relative to the latter.
    noise : float
        Standard deviation of channel noise, relative to the signal.
    n_trials, n_classes : int
        Labelled trials per person (0 = none), two thirds in part "train", and their classes.
    effect : float
        Size of a class's response, in standard deviations of a source.
    seed : int
        Everything follows from it.
    """

    name = "simulated"
    id = "simulated"
    licence = "simulated, public domain (CC0)"
    citation = "simulated by neurofm; no person was recorded"
    modalities = tuple(LOOKS)

    def __init__(
        self,
        *,
        n_subjects: int = 4,
        n_channels: int = 16,
        n_sources: int = 4,
        duration_s: float = 60.0,
        rate_hz: float = 100.0,
        modality: str = "eeg",
        subject_spread: float = 0.3,
        noise: float = 0.5,
        n_trials: int = 0,
        n_classes: int = 2,
        effect: float = 2.0,
        seed: int = 0,
    ) -> None:
        if modality not in LOOKS:
            raise ConfigError(f"source 'simulated': modality '{modality}' is unknown: {nearest(modality, LOOKS)}")
        for name, value in (("n_channels", n_channels), ("n_sources", n_sources), ("n_classes", n_classes)):
            if value < 1:
                raise ConfigError(f"source 'simulated': {name} is {value}; expected 1 or more")
        if not (duration_s > 0 and rate_hz > 0):
            raise ConfigError("source 'simulated': duration_s and rate_hz must be above 0")
        self.choices: dict[str, Any] = {
            "n_subjects": n_subjects, "n_channels": n_channels, "n_sources": n_sources, "duration_s": duration_s,
            "rate_hz": rate_hz, "modality": modality, "subject_spread": subject_spread, "noise": noise,
            "n_trials": n_trials, "n_classes": n_classes, "effect": effect, "seed": seed,
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {"name": self.name, "version": self.version, **self.choices}

    def list(self) -> list[Item]:
        """Return one item per person and run."""
        parts = ["rest", *(["train", "test"] if self.choices["n_trials"] else [])]
        return [
            Item(
                key=f"sub-{subject:02d}_{part}",
                fingerprint=hash_of([self.describe(), subject, part]),
                open=partial(simulate, self.choices, subject, part),
                subject=f"{subject:02d}",
            )
            for subject in range(1, self.choices["n_subjects"] + 1)
            for part in parts
        ]


def population_mixing(choices: dict[str, Any]) -> np.ndarray:
    """Return the matrix (source, channel) that all people's matrices lie around; columns of unit norm."""
    rng = np.random.default_rng([choices["seed"], 0])
    mixing = rng.standard_normal((choices["n_sources"], choices["n_channels"]))
    return mixing / np.linalg.norm(mixing, axis=0)


def subject_mixing(choices: dict[str, Any], subject: int) -> np.ndarray:
    """Return a person's matrix (source, channel); columns of unit norm."""
    rng = np.random.default_rng([choices["seed"], 1, subject])
    own = rng.standard_normal((choices["n_sources"], choices["n_channels"])) / math.sqrt(choices["n_sources"])
    mixing = population_mixing(choices) + choices["subject_spread"] * own
    return mixing / np.linalg.norm(mixing, axis=0)


def sources(n_samples: int, n_sources: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Return latent time courses (time, source) of unit variance: damped oscillations of 1/20 to 1/5 of the rate.

    Each is a second-order autoregression with poles r·exp(±iω), so its future is predictable from its past.
    """
    from scipy.signal import lfilter

    warm_up = 500
    out = np.empty((n_samples, n_sources))
    for k, cycles in enumerate(np.linspace(0.05, 0.2, n_sources)):
        radius, omega = 0.97, 2 * np.pi * cycles
        a = [1.0, -2 * radius * np.cos(omega), radius**2]
        # Stationary variance of the recursion for unit innovations (Box & Jenkins, AR(2)).
        variance = (1 + a[2]) / ((1 - a[2]) * ((1 + a[2]) ** 2 - a[1] ** 2))
        drive = rng.standard_normal(n_samples + warm_up)
        out[:, k] = lfilter([1.0], a, drive)[warm_up:] / math.sqrt(variance)
    return out


def class_patterns(choices: dict[str, Any]) -> np.ndarray:
    """Return each class's response in source space, shape (class, source), unit norm; shared by all people."""
    rng = np.random.default_rng([choices["seed"], 2])
    patterns = rng.standard_normal((choices["n_classes"], choices["n_sources"]))
    return patterns / np.linalg.norm(patterns, axis=1, keepdims=True)


def simulate(choices: dict[str, Any], subject: int, part: str) -> Recording:
    """Make one run of one person."""
    rate, n_sources = float(choices["rate_hz"]), choices["n_sources"]
    rng = np.random.default_rng([choices["seed"], 3, subject, ("rest", "train", "test").index(part)])
    mixing = subject_mixing(choices, subject)
    kind, unit, spread, offset = LOOKS[choices["modality"]]

    def observe(latent: np.ndarray) -> np.ndarray:
        noise = choices["noise"] * rng.standard_normal((len(latent), choices["n_channels"]))
        return offset + spread * (latent @ mixing + noise)

    arrays, starts, events = [], [], []
    if part == "rest":
        arrays.append(observe(sources(max(1, round(choices["duration_s"] * rate)), n_sources, rate, rng)))
        starts.append(0.0)
    else:
        n_train = math.ceil(choices["n_trials"] * 2 / 3)
        n = n_train if part == "train" else choices["n_trials"] - n_train
        patterns = class_patterns(choices)
        length = max(2, round(TRIAL_S * rate))
        time_s = np.arange(length) / rate
        # A half-sine response that begins 0.3 s after the trial's start.
        shape = np.where((time_s >= 0.3) & (time_s < 0.3 + RESPONSE_S), np.sin(np.pi * (time_s - 0.3) / RESPONSE_S), 0)
        for i in range(n):
            label = i % choices["n_classes"]
            latent = sources(length, n_sources, rate, rng)
            arrays.append(observe(latent + choices["effect"] * shape[:, None] * patterns[label]))
            starts.append(2.0 * i)
            events.append(Event(onset_s=2.0 * i, duration_s=TRIAL_S, kind="trial", label=f"class{label}", trial=i))
    channels = tuple(
        Channel(name=f"S{i:02d}", canonical=f"sim:{i:02d}", kind=kind, unit=unit) for i in range(choices["n_channels"])
    )
    return Recording(
        dataset="simulated",
        subject=f"{subject:02d}",
        task="rest" if part == "rest" else "classes",
        run="" if part == "rest" else part,
        modality=choices["modality"],
        streams=(Stream.from_arrays(arrays, rate_hz=rate, channels=channels, unit=unit),),
        interval_start_s=tuple(starts),
        events=tuple(events),
        part="" if part == "rest" else part,
    )
