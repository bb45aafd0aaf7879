"""Fluorescence of simulated spikes: a rise and a decay, slow drift, noise, and a camera's rate."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, people, units
from data_prep.sources.sim_hub import SimHub
from data_prep.sources.sim_hub import simulate as simulate_hub
from data_prep.sources.sim_velocity import SimVelocity
from data_prep.sources.sim_velocity import simulate as simulate_velocity
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.recording import EventStream, Recording, Stream

# name → (rise τ, decay τ) in seconds
INDICATORS = {"gcamp6s": (0.07, 1.2), "gcamp6f": (0.03, 0.4)}
FINE_S = 0.01
DRIFT_PERIOD_S = 60.0
ORIGINS = {"velocity": SimVelocity, "hub": SimHub}


class SimCalcium(SimSource):
    """The spikes of `sim_velocity` or `sim_hub`, seen through an indicator at a frame rate.

    f = a c + b + drift + noise, with c the spikes convolved with exp(−t/τ_decay) − exp(−t/τ_rise) of peak 1, and noise of
    standard deviation a / snr: `snr` is that of a single spike. Drift is a slow sinusoid of each cell's own phase. Beside
    the traces come the spikes (`true_spikes`) and the streams of their origin (velocity; stimulus and connectivity).

    Parameters
    ----------
    origin : str
        "velocity" or "hub": whose spikes they are.
    n_subjects, n_units : int
        Subjects ("hub": 1) and cells.
    duration_s, rate_hz : float
        Length, frames per second.
    indicator : str
        "gcamp6s" (rise .07 s, decay 1.2 s) or "gcamp6f" (.03, .4).
    snr, drift : float
        Peak of one spike over the noise's standard deviation, and over the drift's amplitude times drift.
    seed : int
        Everything follows from it.
    """

    name = "sim_calcium"
    id = "sim_calcium"
    modalities = ("calcium",)
    oracle: ClassVar[dict[str, float]] = {"trace_r2_of_true_spikes": 0.977}

    def __init__(
        self,
        *,
        origin: str = "velocity",
        n_subjects: int = 4,
        n_units: int = 60,
        duration_s: float = 240.0,
        rate_hz: float = 30.0,
        indicator: str = "gcamp6s",
        snr: float = 3.0,
        drift: float = 0.5,
        seed: int = 0,
    ) -> None:
        if origin not in ORIGINS:
            raise ConfigError(f"source 'sim_calcium': origin '{origin}' is unknown: {nearest(str(origin), ORIGINS)}")
        if indicator not in INDICATORS:
            raise ConfigError(
                f"source 'sim_calcium': indicator '{indicator}' is unknown: {nearest(str(indicator), INDICATORS)}"
            )
        if not snr > 0 or drift < 0:
            raise ConfigError(f"source 'sim_calcium': snr is {snr}, drift {drift}; expected above 0, and 0 or more")
        if origin == "hub" and n_subjects != 1:
            raise ConfigError(f"source 'sim_calcium': n_subjects is {n_subjects}; the circuit of 'hub' is one, set 1")
        super().__init__(
            origin=origin, n_subjects=n_subjects, n_units=n_units, duration_s=duration_s, rate_hz=rate_hz,
            indicator=indicator, snr=snr, drift=drift, seed=seed,
        )  # fmt: skip

    def list(self) -> list[Item]:
        """Return one item per subject."""
        return self.items(simulate, people(self.choices))


def kernel(indicator: str) -> np.ndarray:
    """Return the response to one spike at steps of 10 ms, peak 1."""
    rise_s, decay_s = INDICATORS[indicator]
    t = np.arange(0, 6 * decay_s, FINE_S)
    response = np.exp(-t / decay_s) - np.exp(-t / rise_s)
    return response / response.max()


def fluorescence(choices: dict[str, Any], spikes: EventStream, rng: np.random.Generator) -> np.ndarray:
    """Return the traces, shape (frame, cell)."""
    from scipy.signal import fftconvolve

    n, n_units = round(choices["duration_s"] / FINE_S), len(spikes.channels)
    time_s, unit = spikes.read(0, 0.0, spikes.duration_s[0])
    counts = np.zeros((n, n_units))
    np.add.at(counts, (np.minimum((time_s / FINE_S).astype(np.int64), n - 1), unit), 1.0)
    clean = fftconvolve(counts, kernel(choices["indicator"])[:, None], axes=0)[:n]
    frame_s = np.arange(int(choices["duration_s"] * choices["rate_hz"] + 1e-6)) / choices["rate_hz"]
    # a frame holds the last value computed before it, so no frame sees a later spike
    values = clean[np.minimum((frame_s / FINE_S + 1e-6).astype(np.int64), n - 1)]
    phase = rng.uniform(0, 2 * np.pi, n_units)
    slow = choices["drift"] * np.sin(2 * np.pi * frame_s[:, None] / DRIFT_PERIOD_S + phase)
    return 1.0 + values + slow + rng.standard_normal(values.shape) / choices["snr"]


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make one recording."""
    shared = {k: choices[k] for k in ("n_units", "duration_s", "seed")}
    if choices["origin"] == "velocity":
        made = simulate_velocity(SimVelocity(n_subjects=choices["n_subjects"], **shared).choices, subject, "day1", "")
    else:
        made = simulate_hub(SimHub(**shared).choices, subject, "", "")
    spikes = made.first
    assert isinstance(spikes, EventStream)
    rng = np.random.default_rng([choices["seed"], 20, int(subject)])
    traces = fluorescence(choices, spikes, rng)
    channels = units(choices["n_units"], owner=f"sim_calcium/{subject}", kind="calcium")
    true_spikes = EventStream(
        name="true_spikes", role="covariate", channels=spikes.channels, duration_s=spikes.duration_s, read=spikes.read
    )
    return Recording(
        dataset="sim_calcium",
        subject=subject,
        task=choices["origin"],
        modality="calcium",
        streams=(
            Stream.from_arrays([traces], rate_hz=choices["rate_hz"], channels=channels),
            true_spikes,
            *made.streams[1:],
        ),
    )
