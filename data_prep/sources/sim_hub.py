"""A circuit of integrate-and-fire cells with a few hubs: who is connected to whom, and in which direction, is known."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, matrix_stream, values_stream
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Channel, EventStream, Recording

DT_S = 0.001
TAU_MEMBRANE_S, TAU_SYNAPSE_S, REFRACTORY_S, DELAY_S = 0.020, 0.005, 0.003, 0.012
# millivolts above rest, to which a cell is reset
THRESHOLD_MV = 15.0
DRIVE_MV, NOISE_MV = 7.0, 5.0
EXCITATORY_MV, INHIBITORY_MV = 8.0, -16.0
HUB_OUT, OTHER_OUT, INHIBITORY_SHARE = 0.4, 0.08, 0.2
STIMULUS_DIMS, STIMULUS_HOLD_S = 3, 0.2
# steps of noise drawn at once
BLOCK = 1000


class SimHub(SimSource):
    """One circuit, one long recording per part; conduction takes 12 ms, more than a token of 10 ms.

    Leaky cells (τ 20 ms, threshold 15 mV above rest, reset to rest, refractory 3 ms) under a constant drive of 7 mV and
    noise of 5 mV; exponential synapses (τ 5 ms) of 8·U(.5, 1.5) mV, −16·U(.5, 1.5) for the fifth of the cells that inhibit
    (never hubs). Hubs project to 40 % of the others, the rest to 8 %. A common stimulus (three Gaussian numbers held for
    200 ms, projected to all cells by fixed weights N(0, 1)) correlates cells that are not connected.

    Streams: `stimulus` (role stimulus), `true_connectivity` (row = presynaptic, column = postsynaptic cell, mV).

    Parameters
    ----------
    n_units, n_hubs : int
        Cells, and how many of them are hubs.
    duration_s : float
        Length of the recording.
    stimulus_gain : float
        Millivolts per unit of the projected stimulus; 0 = none.
    seed : int
        Everything follows from it.
    """

    name = "sim_hub"
    id = "sim_hub"
    oracle: ClassVar[dict[str, float]] = {
        "correlogram_auroc": 0.979,
        "correlogram_ap": 0.929,
        "unigram_entropy_nats": 4.066,
    }

    def __init__(
        self,
        *,
        n_units: int = 60,
        n_hubs: int = 6,
        duration_s: float = 200.0,
        stimulus_gain: float = 3.0,
        seed: int = 0,
    ) -> None:
        if n_hubs >= n_units:
            raise ConfigError(f"source 'sim_hub': n_hubs is {n_hubs}; expected fewer than n_units, {n_units}")
        super().__init__(n_units=n_units, n_hubs=n_hubs, duration_s=duration_s, stimulus_gain=stimulus_gain, seed=seed)

    def fewest(self, name: str) -> int:
        """A circuit may be without hubs."""
        return 0 if name == "n_hubs" else super().fewest(name)

    def list(self) -> list[Item]:
        """Return the one recording."""
        return self.items(simulate, [("01", "", "")])


def connectivity(choices: dict[str, Any]) -> np.ndarray:
    """Return weights in millivolts, shape (presynaptic, postsynaptic); the first cells are the hubs."""
    rng = np.random.default_rng([choices["seed"], 0])
    n, n_hubs = choices["n_units"], choices["n_hubs"]
    out = np.where(np.arange(n) < n_hubs, HUB_OUT, OTHER_OUT)
    there = rng.random((n, n)) < out[:, None]
    np.fill_diagonal(there, False)
    inhibits = np.zeros(n, bool)
    n_inhibiting = min(round(INHIBITORY_SHARE * n), n - n_hubs)
    inhibits[rng.choice(np.arange(n_hubs, n), n_inhibiting, replace=False)] = True
    size = np.where(inhibits, INHIBITORY_MV, EXCITATORY_MV)[:, None] * rng.uniform(0.5, 1.5, (n, n))
    return there * size


def stimulus_weights(choices: dict[str, Any]) -> np.ndarray:
    """Return how the stimulus drives each cell, shape (stimulus, cell)."""
    return np.random.default_rng([choices["seed"], 1]).standard_normal((STIMULUS_DIMS, choices["n_units"]))


def run(choices: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate; return spike times (s), cells, and the stimulus, shape (hold, 3)."""
    rng = np.random.default_rng([choices["seed"], 2])
    n, n_steps = choices["n_units"], round(choices["duration_s"] / DT_S)
    hold, delay, refractory = (round(t / DT_S) for t in (STIMULUS_HOLD_S, DELAY_S, REFRACTORY_S))
    weights = connectivity(choices)
    stimulus = rng.standard_normal((-(-n_steps // hold), STIMULUS_DIMS))
    drive = DRIVE_MV + choices["stimulus_gain"] * stimulus @ stimulus_weights(choices)
    leak, fade = DT_S / TAU_MEMBRANE_S, np.exp(-DT_S / TAU_SYNAPSE_S)
    scale = NOISE_MV * np.sqrt(2 * leak)
    v, synapse, ready = rng.uniform(0, THRESHOLD_MV, n), np.zeros(n), np.zeros(n, np.int64)
    # who fired in each of the last steps: a spike arrives `delay` steps later
    fired: list[np.ndarray] = [np.zeros(0, np.int64)] * delay
    steps, cells = [], []
    for t in range(n_steps):
        if t % BLOCK == 0:
            noise = scale * rng.standard_normal((BLOCK, n))
        synapse *= fade
        arriving = fired[t % delay]
        if len(arriving):
            synapse += weights[arriving].sum(0)
        v += leak * (drive[t // hold] + synapse - v) + noise[t % BLOCK]
        v[ready > t] = 0.0
        spiking = np.flatnonzero(v >= THRESHOLD_MV)
        if len(spiking):
            v[spiking] = 0.0
            ready[spiking] = t + 1 + refractory
            steps.append(np.full(len(spiking), t))
            cells.append(spiking)
        fired[t % delay] = spiking
    at = np.concatenate(steps) if steps else np.zeros(0, np.int64)
    unit = np.concatenate(cells) if cells else np.zeros(0, np.int64)
    # within its step a spike may be anywhere; sorted so that times increase
    time_s = (at + rng.uniform(0.02, 0.98, len(at))) * DT_S
    order = np.argsort(time_s, kind="stable")
    return time_s[order], unit[order].astype(np.int32), stimulus


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the recording."""
    time_s, unit, stimulus = run(choices)
    weights, duration_s = connectivity(choices), round(choices["duration_s"] / DT_S) * DT_S
    channels = tuple(
        Channel(
            name=f"u{i:03d}", canonical=f"sim_hub/u{i:03d}", kind="unit", unit="au",
            region="hub" if i < choices["n_hubs"] else "other",
        )
        for i in range(choices["n_units"])
    )  # fmt: skip
    return Recording(
        dataset="sim_hub",
        subject=subject,
        task="hub",
        modality="spikes",
        streams=(
            EventStream.from_arrays([(time_s, unit)], duration_s=[duration_s], channels=channels),
            values_stream("stimulus", [stimulus], 1 / STIMULUS_HOLD_S, role="stimulus"),
            matrix_stream("true_connectivity", weights, [duration_s]),
        ),
    )
