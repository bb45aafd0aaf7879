"""Counts of a generalised linear model whose couplings switch with a hidden state (Li et al. 2024, one-hot HMM-GLM).

States and couplings are known. What is inhibitory or excitatory in one state need not be in another, the strength of a
pair is the same in all: weights are strength × (excitatory − inhibitory).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import (
    TRAIN_AND_TEST,
    SimSource,
    matrix_stream,
    spike_stream,
    trial_events,
    trial_starts,
    units,
    values_stream,
)
from neurofm.schema.recording import Recording

BIN_S = 0.02
N_LAGS = 5
# inhibitory, none, excitatory
PRIOR = 2.0 * np.array([0.1, 0.8, 0.1])


class SimSwitching(SimSource):
    """Trials of `n_bins` bins of 20 ms: x ~ Poisson(σ(b + W(z) Σ_k φ_k x_{t−k})), φ_k ∝ exp(−(k − 1)), k = 1 … 5.

    Streams: `true_state`, `true_rates` (per bin × rate), `true_weights`: states one below the other, row = postsynaptic
    unit of a state, column = presynaptic unit.

    Parameters
    ----------
    n_states, n_units, n_trials, n_bins : int
        States, units, trials (three of five are part "train"), bins of a trial.
    stay : float
        Probability of staying in a state from a bin to the next; the others share the rest.
    seed : int
        Everything follows from it.
    """

    name = "sim_switching"
    id = "sim_switching"
    oracle: ClassVar[dict[str, float]] = {"bits_per_spike": 0.144, "state_accuracy": 0.978}

    def __init__(
        self, *, n_states: int = 5, n_units: int = 20, n_trials: int = 50, n_bins: int = 2000, stay: float = 0.98,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(n_states=n_states, n_units=n_units, n_trials=n_trials, n_bins=n_bins, stay=stay, seed=seed)

    def list(self) -> list[Item]:
        """Return the training and the test trials."""
        return self.items(simulate, TRAIN_AND_TEST)


def basis() -> np.ndarray:
    """Return the weights of the last bins, nearest first, shape (5,), sum 1."""
    phi = np.exp(-np.arange(N_LAGS, dtype=np.float64))
    return phi / phi.sum()


def parameters(choices: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the truth: bias (unit,), weights (state, post, pre), adjacency in −1, 0, 1 of that shape, transition."""
    rng = np.random.default_rng([choices["seed"], 0])
    s, n = choices["n_states"], choices["n_units"]
    share = rng.dirichlet(PRIOR, (n, n))
    drawn = (rng.random((s, n, n, 1)) > share.cumsum(-1)[..., :2]).sum(-1) - 1
    # softplus(log(3 U)), the same in every state
    strength = np.logaddexp(0, np.log(3 * rng.uniform(size=(n, n))))
    other = (1 - choices["stay"]) / max(1, s - 1)
    transition = np.full((s, s), other) + (choices["stay"] - other) * np.eye(s)
    bias = 0.1 * (rng.uniform(size=n) - 0.5)
    return {"bias": bias, "weights": drawn * strength, "adjacency": drawn, "transition": transition}


def run(choices: dict[str, Any]) -> dict[str, np.ndarray]:
    """Simulate all trials; return counts and rates (trial, bin, unit) and states (trial, bin)."""
    truth, phi = parameters(choices), basis()
    rng = np.random.default_rng([choices["seed"], 1])
    n_trials, n_bins, n = (choices[k] for k in ("n_trials", "n_bins", "n_units"))
    state = np.empty((n_trials, n_bins), np.int64)
    rates, counts = np.empty((n_trials, n_bins, n)), np.zeros((n_trials, n_bins + N_LAGS, n))
    z = rng.integers(choices["n_states"], size=n_trials)
    cumulative = truth["transition"].cumsum(1)
    for t in range(n_bins):
        if t:
            z = (rng.random((n_trials, 1)) > cumulative[z][:, :-1]).sum(1)
        # counts are kept with N_LAGS empty bins in front
        past = np.einsum("k,bkn->bn", phi[::-1], counts[:, t : t + N_LAGS])
        drive = truth["bias"] + np.einsum("bij,bj->bi", truth["weights"][z], past)
        rates[:, t] = 1 / (1 + np.exp(-drive))
        counts[:, t + N_LAGS] = rng.poisson(rates[:, t])
        state[:, t] = z
    return {"counts": counts[:, N_LAGS:], "rates": rates, "state": state}


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the trials of one part."""
    made, truth = run(choices), parameters(choices)
    n_train = max(1, choices["n_trials"] * 3 // 5)
    chosen = range(n_train) if part == "train" else range(n_train, choices["n_trials"])
    duration_s = choices["n_bins"] * BIN_S
    starts = trial_starts(len(chosen), duration_s)
    rng = np.random.default_rng([choices["seed"], 2, ("train", "test").index(part)])
    channels = units(choices["n_units"], owner="sim_switching")
    return Recording(
        dataset="sim_switching",
        subject=subject,
        task="switching",
        run=part,
        modality="spikes",
        streams=(
            spike_stream([made["counts"][i] for i in chosen], BIN_S, channels, rng),
            values_stream("true_rates", [made["rates"][i] / BIN_S for i in chosen], 1 / BIN_S, unit="Hz"),
            values_stream("true_state", [made["state"][i][:, None] for i in chosen], 1 / BIN_S),
            matrix_stream("true_weights", np.concatenate(truth["weights"]), [duration_s] * len(chosen)),
        ),
        interval_start_s=starts,
        events=trial_events(["" for _ in chosen], starts, duration_s),
        part=part,
    )
