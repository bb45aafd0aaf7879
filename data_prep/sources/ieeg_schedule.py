"""What happens when in a simulated recording: states, seizures and artefacts, all fixed before a sample is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.sources.ieeg_person import Person

RAMP_S = 1.0
FAST_S = 5.0
STATE_RAMP_S = 10.0
POSTICTAL_S = 40.0
ARTEFACTS = ("movement", "muscle", "pop", "chewing")


@dataclass(frozen=True, kw_only=True)
class Seizure:
    """One seizure.

    Attributes
    ----------
    onset_s, duration_s : float
        On the recording's clock; of the onset zone.
    start_s, stop_s : array, shape (K,)
        When each node takes part, from the onset; NaN where it is not recruited.
    first_hz, last_hz, phase : float
        Discharge frequency falls exponentially from the one to the other.
    wobble : array, shape (3, 3)
        Amplitude (cycles), frequency (Hz) and phase of three slow waves in the discharge's phase.
    amplitude : float
        At the source, relative to the background.
    """

    onset_s: float
    duration_s: float
    start_s: np.ndarray
    stop_s: np.ndarray
    first_hz: float
    last_hz: float
    phase: float
    wobble: np.ndarray
    amplitude: float
    fast: bool

    def cycles(self, s: np.ndarray) -> np.ndarray:
        """Phase in cycles at seconds `s` from the onset: the integral of the frequency, with a slow wobble."""
        fall = math.log(self.first_hz / self.last_hz) / self.duration_s
        smooth = self.first_hz * (1 - np.exp(-fall * s)) / fall if abs(fall) > 1e-9 else self.first_hz * s
        return self.phase + smooth + sum(a * np.sin(2 * np.pi * (f * s + p)) for a, f, p in self.wobble)

    def waveform(self, t: np.ndarray, node: int, lag_s: float) -> np.ndarray:
        """Activity of one node at times `t`, shape (T,); about 1 in root mean square while it takes part, else 0."""
        s = t - self.onset_s
        if np.isnan(self.start_s[node]):
            return np.zeros(len(t))
        rise = np.clip((s - self.start_s[node]) / RAMP_S, 0, 1)
        fall = np.clip((self.stop_s[node] - s) / RAMP_S, 0, 1)
        envelope = np.minimum(rise, fall)
        if not envelope.any():
            return np.zeros(len(t))
        own = s - lag_s
        wave = spike_wave(self.cycles(own))
        if self.fast:
            # low fast activity first, slowing from 25 to 15 Hz, which discharges take over
            into = np.clip((s - self.start_s[node]) / FAST_S, 0, 1)
            fast = 0.7 * np.sin(2 * np.pi * (25 * own - own**2))
            wave = (1 - into) * fast + into * wave
        return envelope * wave


def spike_wave(cycles: np.ndarray) -> np.ndarray:
    """A sharp spike and a slow wave per cycle, mean about 0 and root mean square about 1."""
    x = cycles % 1.0
    spike = np.exp(-0.5 * ((x - 0.12) / 0.03) ** 2) - 0.5 * np.exp(-0.5 * ((x - 0.21) / 0.04) ** 2)
    wave = np.where(x > 0.3, np.sin(np.pi * (x - 0.3) / 0.7) ** 2, 0.0)
    return (3.2 * spike - 1.6 * wave + 0.44) / 1.01


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A disturbance that is no brain activity: `kind` of `ARTEFACTS`, when, and how strongly in each channel (C,)."""

    kind: str
    onset_s: float
    duration_s: float
    gain: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """States as (start_s, stop_s, label), seizures and artefacts of one recording, in time order."""

    states: tuple[tuple[float, float, str], ...]
    seizures: tuple[Seizure, ...]
    artefacts: tuple[Artefact, ...]

    def sleep(self, t: np.ndarray) -> np.ndarray:
        """Depth of sleep in [0, 1] at times `t`, with ramps centred on the changes."""
        depth = np.zeros(len(t))
        for start, stop, label in self.states:
            if label == "sleep":
                up = np.clip((t - start) / STATE_RAMP_S + 0.5, 0, 1)
                down = np.clip((stop - t) / STATE_RAMP_S + 0.5, 0, 1)
                depth = np.maximum(depth, np.minimum(up, down))
        return depth

    def suppression(self, t: np.ndarray) -> np.ndarray:
        """Factor on the background: 0.4 at a seizure's end, back to 1 over `POSTICTAL_S`."""
        factor = np.ones(len(t))
        for z in self.seizures:
            after = t - (z.onset_s + z.duration_s)
            factor = np.where((after >= 0) & (after < POSTICTAL_S), 0.4 + 0.6 * after / POSTICTAL_S, factor)
        return factor


def make_schedule(choices: Mapping[str, Any], person: Person, subject: int, run: int) -> Schedule:
    """Draw the schedule of one recording: one seizure in each slot of equal length, states in turn, artefacts at random."""
    rng = np.random.default_rng([choices["seed"], 11, subject, run])
    duration = float(choices["duration_s"])
    states = []
    at, label = 0.0, "wake" if rng.random() < 0.5 else "sleep"
    while at < duration:
        stop = min(duration, at + choices["state_s"] * rng.uniform(0.7, 1.3))
        states.append((at, stop, label))
        at, label = stop, "sleep" if label == "wake" else "wake"
    return Schedule(
        states=tuple(states),
        seizures=tuple(_seizures(choices, person, duration, rng)),
        artefacts=tuple(_artefacts(choices, len(person.names), duration, rng)),
    )


def _seizures(choices: Mapping[str, Any], person: Person, duration: float, rng: np.random.Generator) -> list[Seizure]:
    if choices["seizures_per_hour"] == 0:
        return []
    slot = 3600 / choices["seizures_per_hour"]
    made = []
    for i in range(math.floor(duration / slot + 1e-9)):
        length = float(person.duration_s * rng.uniform(0.75, 1.25))
        onset = i * slot + rng.uniform(0.1 * slot, 0.9 * slot - length)
        start, stop = np.full(len(person.parent), np.nan), np.full(len(person.parent), np.nan)
        start[0], stop[0] = 0.0, length
        for k in range(1, len(start)):
            passed = rng.random() < person.recruitment
            begin = start[person.parent[k]] + person.spread_s[k] * rng.uniform(0.7, 1.3)
            if passed and begin < length - 2 * RAMP_S:
                start[k], stop[k] = begin, length - rng.uniform(0, RAMP_S)
        made.append(
            Seizure(
                onset_s=float(onset), duration_s=length, start_s=start, stop_s=stop,
                first_hz=person.first_hz * rng.uniform(0.93, 1.07), last_hz=person.last_hz * rng.uniform(0.93, 1.07),
                phase=float(rng.random()),
                wobble=np.stack([rng.uniform(0, 0.15, 3), rng.uniform(0.05, 0.3, 3), rng.random(3)], axis=1),
                amplitude=person.amplitude * rng.uniform(0.8, 1.2), fast=person.fast,
            )
        )  # fmt: skip
    return made


def _artefacts(
    choices: Mapping[str, Any], n_channels: int, duration: float, rng: np.random.Generator
) -> list[Artefact]:
    made = []
    for _ in range(rng.poisson(choices["artefacts_per_hour"] * duration / 3600)):
        kind = ARTEFACTS[rng.integers(len(ARTEFACTS))]
        length = {"movement": (0.5, 2.5), "muscle": (1.0, 8.0), "pop": (1.0, 3.0), "chewing": (5.0, 20.0)}[kind]
        gain = np.abs(rng.normal(1.0, 0.4, n_channels)) * rng.uniform(1.0, 4.0)
        if kind == "pop":
            gain = np.where(np.arange(n_channels) == rng.integers(n_channels), 3 * gain, 0.0)
        elif kind != "chewing":
            # some channels only, as when one cable is pulled
            gain = gain * (rng.random(n_channels) < rng.uniform(0.2, 1.0))
        onset = float(rng.uniform(0, max(duration - length[1], 0)))
        made.append(Artefact(kind=kind, onset_s=onset, duration_s=float(rng.uniform(*length)), gain=gain))
    return sorted(made, key=lambda a: a.onset_s)
