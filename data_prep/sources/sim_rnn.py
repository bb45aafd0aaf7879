"""A chaotic rate network seen through other units in every session (Sussillo et al. 2016; LFADS' stitching test)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, spike_stream, trial_events, trial_starts, units, values_stream
from data_prep.sources.sim_lorenz import repeats_of
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Recording

BIN_S = 0.01
TAU_S = 0.025


class SimRnn(SimSource):
    """Trials of one second at 10 ms of τ x′ = −x + g W tanh x from random states; each session sees `n_units` of the cells.

    Rates are tanh x, stretched so that each cell spans 0 to `most_hz` in each trial. The network and its initial states are one and
    the same in all sessions (subjects "01", "02", …), the units seen are not, so what is shared is the dynamics.

    Parameters
    ----------
    n_sessions : int
        Sessions.
    n_cells, n_units, n_held_out : int
        Cells of the network, units seen in a session, and how many of these are predicted from the others.
    n_conditions, n_repeats : int
        Initial states, and trials of each in every session; the last fifth of the repeats is part "test".
    trial_s : float
        Length of a trial.
    gain : float
        g; above 1 the network is chaotic.
    most_hz : float
        Highest rate.
    seed : int
        Everything follows from it.
    """

    name = "sim_rnn"
    id = "sim_rnn"
    oracle: ClassVar[dict[str, float]] = {"bits_per_spike": 0.408, "bits_per_spike_held_out": 0.384}

    def __init__(
        self,
        *,
        n_sessions: int = 6,
        n_cells: int = 50,
        n_units: int = 30,
        n_held_out: int = 6,
        n_conditions: int = 130,
        n_repeats: int = 10,
        trial_s: float = 1.0,
        gain: float = 1.5,
        most_hz: float = 30.0,
        seed: int = 5,
    ) -> None:
        if n_units > n_cells:
            raise ConfigError(f"source 'sim_rnn': n_units is {n_units}; expected at most n_cells, {n_cells}")
        super().__init__(
            n_sessions=n_sessions, n_cells=n_cells, n_units=n_units, n_held_out=n_held_out, n_conditions=n_conditions,
            n_repeats=n_repeats, trial_s=trial_s, gain=gain, most_hz=most_hz, seed=seed,
        )  # fmt: skip

    def list(self) -> list[Item]:
        """Return the training and the test trials of every session."""
        sessions = [f"{k:02d}" for k in range(1, self.choices["n_sessions"] + 1)]
        return self.items(simulate, [(s, "", part) for s in sessions for part in ("train", "test")])


def rates_hz(choices: dict[str, Any]) -> np.ndarray:
    """Return the true rates of all cells, shape (condition, bin, cell)."""
    rng = np.random.default_rng([choices["seed"], 0])
    n = choices["n_cells"]
    weights = rng.standard_normal((n, n)) / np.sqrt(n)
    x = rng.standard_normal((choices["n_conditions"], n))
    out = np.empty((len(x), round(choices["trial_s"] / BIN_S), n))
    for t in range(out.shape[1]):
        out[:, t] = x
        x = x + BIN_S / TAU_S * (choices["gain"] * np.tanh(x) @ weights.T - x)
    out = np.tanh(out)
    low, high = out.min(1, keepdims=True), out.max(1, keepdims=True)
    return choices["most_hz"] * (out - low) / (high - low)


def cells_of(choices: dict[str, Any], subject: str) -> np.ndarray:
    """Return which cells a session sees, sorted."""
    rng = np.random.default_rng([choices["seed"], 1, int(subject)])
    return np.sort(rng.choice(choices["n_cells"], choices["n_units"], replace=False))


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the trials of one session and part."""
    rng = np.random.default_rng([choices["seed"], 2, int(subject), ("train", "test").index(part)])
    rates = rates_hz(choices)
    seen = rates[:, :, cells_of(choices, subject)]
    trials = [c for _ in repeats_of(choices, part) for c in range(choices["n_conditions"])]
    starts = trial_starts(len(trials), choices["trial_s"])
    channels = units(choices["n_units"], owner=f"sim_rnn/{subject}", n_held_out=choices["n_held_out"])
    return Recording(
        dataset="sim_rnn",
        subject=subject,
        task="rnn",
        run=part,
        modality="spikes",
        streams=(
            spike_stream([rng.poisson(seen[c] * BIN_S) for c in trials], BIN_S, channels, rng),
            values_stream("true_rates", [seen[c] for c in trials], 1 / BIN_S, unit="Hz"),
            # all cells, seen or not: what the sessions have in common
            values_stream("true_latent", [rates[c] for c in trials], 1 / BIN_S, unit="Hz"),
        ),
        interval_start_s=starts,
        events=trial_events([f"condition{c:03d}" for c in trials], starts, choices["trial_s"]),
        part=part,
    )
