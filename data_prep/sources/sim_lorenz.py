"""A population whose log-rates are linear in the state of a Lorenz system (as in Pandarinath et al. 2018, LFADS)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import (
    TRAIN_AND_TEST,
    SimSource,
    spike_stream,
    trial_events,
    trial_starts,
    units,
    values_stream,
)
from neurofm.schema.recording import Recording

BIN_S = 0.01
STEP = 0.006
BURN_IN = 500
MOST_HZ = 200.0


class SimLorenz(SimSource):
    """Trials of one second at 10 ms: conditions × repeats, four fifths of the repeats in part "train", the rest in "test".

    log rate = log base + gain · z W, with z the three z-scored coordinates (σ 10, ρ 28, β 8/3) and weights
    ±U(1, 2)/√3; rates stop at 200 Hz. The last `n_held_out` units are for co-smoothing.

    Parameters
    ----------
    n_conditions, n_repeats : int
        Initial states, and trials of each.
    n_units, n_held_out : int
        Units, and how many of them are predicted from the others.
    trial_s : float
        Length of a trial.
    gain, base_hz : float
        Of the rates.
    seed : int
        Everything follows from it. 14, because its weights have the oracle of the published set-up (.410 bits/spike of all
        units, .441 of those held out; draws differ by .05 and more); chosen before any model was scored.
    """

    name = "sim_lorenz"
    id = "sim_lorenz"
    oracle: ClassVar[dict[str, float]] = {"bits_per_spike": 0.413, "bits_per_spike_held_out": 0.442}

    def __init__(
        self,
        *,
        n_conditions: int = 65,
        n_repeats: int = 20,
        n_units: int = 30,
        n_held_out: int = 8,
        trial_s: float = 1.0,
        gain: float = 0.5,
        base_hz: float = 5.0,
        seed: int = 14,
    ) -> None:
        super().__init__(
            n_conditions=n_conditions, n_repeats=n_repeats, n_units=n_units, n_held_out=n_held_out, trial_s=trial_s,
            gain=gain, base_hz=base_hz, seed=seed,
        )  # fmt: skip

    def list(self) -> list[Item]:
        """Return the training and the test trials."""
        return self.items(simulate, TRAIN_AND_TEST)


def latent(choices: dict[str, Any]) -> np.ndarray:
    """Return the z-scored states, shape (condition, bin, 3)."""
    rng = np.random.default_rng([choices["seed"], 0])
    n_bins = round(choices["trial_s"] / BIN_S)
    state = rng.standard_normal((choices["n_conditions"], 3)) * 5 + [0, 0, 25]
    out = np.empty((len(state), n_bins, 3))
    for t in range(BURN_IN + n_bins):
        x, y, z = state.T
        state = state + STEP * np.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=1)
        if t >= BURN_IN:
            out[:, t - BURN_IN] = state
    return (out - out.mean((0, 1))) / out.std((0, 1))


def rates_hz(choices: dict[str, Any]) -> np.ndarray:
    """Return the true rates, shape (condition, bin, unit)."""
    rng = np.random.default_rng([choices["seed"], 1])
    shape = (3, choices["n_units"])
    weights = rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 2, shape) / np.sqrt(3)
    return np.minimum(choices["base_hz"] * np.exp(choices["gain"] * latent(choices) @ weights), MOST_HZ)


def repeats_of(choices: dict[str, Any], part: str) -> range:
    """Return which repeats are of a part: the last fifth (at least one) is the test."""
    n = choices["n_repeats"]
    first = max(1, n - max(1, n // 5)) if n > 1 else 0
    return range(first, n) if part == "test" else range(first)


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the trials of one part, one repeat of all conditions after the other."""
    rng = np.random.default_rng([choices["seed"], 2, ("train", "test").index(part)])
    rates, z = rates_hz(choices), latent(choices)
    trials = [c for _ in repeats_of(choices, part) for c in range(choices["n_conditions"])]
    counts = [rng.poisson(rates[c] * BIN_S) for c in trials]
    starts = trial_starts(len(trials), choices["trial_s"])
    channels = units(choices["n_units"], owner="sim_lorenz", n_held_out=choices["n_held_out"])
    return Recording(
        dataset="sim_lorenz",
        subject=subject,
        task="lorenz",
        run=part,
        modality="spikes",
        streams=(
            spike_stream(counts, BIN_S, channels, rng),
            values_stream("true_rates", [rates[c] for c in trials], 1 / BIN_S, unit="Hz"),
            values_stream("true_latent", [z[c] for c in trials], 1 / BIN_S, names=("x", "y", "z")),
        ),
        interval_start_s=starts,
        events=trial_events([f"condition{c:03d}" for c in trials], starts, choices["trial_s"]),
        part=part,
    )
