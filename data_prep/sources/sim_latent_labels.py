"""A label moves a two-dimensional latent, which drives a hundred units through fixed mixing (pi-VAE, CEBRA)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import SimSource, spike_stream, units, values_stream
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.recording import Recording

BIN_S = 0.1
N_BLOCKS, HIDDEN = 4, 32
LOG_RANGE = 2.2
# size of the couplings' shifts: at .4 the oracle comes near the reference's (.075 bits/spike, linear R² of z .839)
SHIFT = 0.4
NOISES = ("poisson", "gaussian", "laplace", "uniform", "t")


class SimLatentLabels(SimSource):
    """Independent samples (bins of 100 ms): u ~ U(0, 2π), z ~ N((u, 2 sin u), diag(.6 − .3|sin u|, .3|sin u|)).

    z is padded with zeros to the number of units and sent through four coupling blocks with permutations in between (the
    scale of half of the coordinates and a shift are functions of the other half); rate per bin = exp(2.2 tanh(·)). Bins
    do not depend on their neighbours: only the label and the latent explain a bin. Streams: `label` (u), `true_latent`,
    `true_rates`; with other noises than Poisson's the recording is a matrix of "calcium"-like values instead of spikes.

    Parameters
    ----------
    n_units, n_samples : int
        Units, bins.
    scale : float
        Of the couplings' exponents; .1 is nearly additive.
    noise : str
        "poisson", or "gaussian", "laplace", "uniform", "t" of unit scale around the rate.
    seed : int
        Of the labels, latents and noise.
    mixing_seed : int
        Of the coupling blocks.
    """

    name = "sim_latent_labels"
    id = "sim_latent_labels"
    modalities = ("spikes", "calcium")
    oracle: ClassVar[dict[str, float]] = {"bits_per_spike": 0.073, "linear_r2_of_latent": 0.819}

    def __init__(
        self, *, n_units: int = 100, n_samples: int = 15000, scale: float = 0.1, noise: str = "poisson", seed: int = 777,
        mixing_seed: int = 0,
    ) -> None:  # fmt: skip
        if noise not in NOISES:
            raise ConfigError(f"source 'sim_latent_labels': noise '{noise}' is unknown: {nearest(str(noise), NOISES)}")
        super().__init__(
            n_units=n_units, n_samples=n_samples, scale=scale, noise=noise, seed=seed, mixing_seed=mixing_seed
        )

    def fewest(self, name: str) -> int:
        """Two units carry the latent before it is mixed."""
        return 4 if name == "n_units" else 1

    def list(self) -> list[Item]:
        """Return the one recording."""
        return self.items(simulate, [("01", "", "")])


def latent(choices: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return labels u, shape (sample,), and latents, shape (sample, 2)."""
    rng = np.random.default_rng([choices["seed"], 0])
    u = rng.uniform(0, 2 * np.pi, choices["n_samples"])
    mean = np.stack([u, 2 * np.sin(u)], axis=1)
    variance = np.stack([0.6 - 0.3 * np.abs(np.sin(u)), 0.3 * np.abs(np.sin(u))], axis=1)
    return u, mean + np.sqrt(variance) * rng.standard_normal(mean.shape)


def rates_per_bin(choices: dict[str, Any], z: np.ndarray) -> np.ndarray:
    """Return expected spikes per bin, shape (sample, unit)."""
    rng = np.random.default_rng([choices["mixing_seed"], 1])
    n = choices["n_units"]
    x = np.zeros((len(z), n))
    x[:, :2] = z
    half = n // 2
    for _ in range(N_BLOCKS):
        x = x[:, rng.permutation(n)]
        a, b = x[:, :half], x[:, half:]
        inner = rng.standard_normal((half, HIDDEN)) / np.sqrt(half)
        hidden = np.tanh(a @ inner * np.sqrt(half) / 4)
        outer = rng.standard_normal((2, HIDDEN, n - half)) / np.sqrt(HIDDEN)
        x = np.concatenate(
            [a, b * np.exp(choices["scale"] * np.tanh(hidden @ outer[0])) + SHIFT * hidden @ outer[1]], axis=1
        )
    return np.exp(LOG_RANGE * np.tanh(x))


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the recording."""
    from neurofm.schema.recording import Stream

    u, z = latent(choices)
    rates = rates_per_bin(choices, z)
    rng = np.random.default_rng([choices["seed"], 1])
    kind = "unit" if choices["noise"] == "poisson" else "calcium"
    channels = units(choices["n_units"], owner="sim_latent_labels", kind=kind)
    if choices["noise"] == "poisson":
        first: Any = spike_stream([rng.poisson(rates)], BIN_S, channels, rng)
    else:
        draw: dict[str, Any] = {
            "gaussian": rng.standard_normal, "laplace": lambda s: rng.laplace(size=s),
            "uniform": lambda s: rng.uniform(-1, 1, s), "t": lambda s: rng.standard_t(3, s),
        }  # fmt: skip
        values = rates + draw[choices["noise"]](rates.shape)
        first = Stream.from_arrays([values], rate_hz=1 / BIN_S, channels=channels, name="signal", unit="au")
    return Recording(
        dataset="sim_latent_labels",
        subject=subject,
        task="labels",
        modality="spikes" if choices["noise"] == "poisson" else "calcium",
        streams=(
            first,
            values_stream("label", [u[:, None]], 1 / BIN_S, names=("u",)),
            values_stream("true_latent", [z], 1 / BIN_S),
            values_stream("true_rates", [rates / BIN_S], 1 / BIN_S, unit="Hz"),
        ),
    )
