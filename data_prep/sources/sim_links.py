"""Recordings of networks whose directed links are known: coupled damped oscillators, seen through noise.

Each channel is a second-order autoregression that rings at a frequency of its own (Box & Jenkins, AR(2)); a sparse set
of links adds to a channel what another one was some samples before. Links go one way only between two channels. A part
of the drive is common to all channels, and every channel is recorded with white noise: so channels correlate without a
link, at lag 0 most of all, and no linear model of what was recorded is exact.

Every network is a subject with several recordings; another number of networks or recordings changes none that is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.base import Item, Source
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Channel, Recording, Stream

WARM_UP = 1000
RING_M = 0.08
MICROVOLT = 30.0


class SimLinks(Source):
    """Networks of channels with planted directed links.

    Parameters
    ----------
    n_networks, n_runs : int
        Networks, and recordings of each.
    n_channels : int
        Channels of a network, on a ring.
    link_share : float
        Share of the unordered pairs of channels that have a link, in one of its two directions.
    lag : pair of int
        Shortest and longest delay of a link, samples.
    strength : pair of float
        Range of the weights of links, before all are shrunk together where the network would be unstable.
    radius : pair of float
        Range of channels' decay per sample; nearer to 1 rings longer.
    cycles : pair of float
        Range of channels' frequency, cycles per sample.
    common : float
        Share of the variance of each channel's drive that is common to all.
    noise : float
        Standard deviation of what the recording adds, in standard deviations of the channel.
    duration_s, rate_hz : float
        Of a recording.
    seed : int
        Everything follows from it.
    """

    name = "sim_links"
    id = "sim_links"
    licence = "simulated, public domain (CC0)"
    citation = "simulated by neurofm; no person was recorded"
    modalities = ("ieeg",)

    def __init__(
        self,
        *,
        n_networks: int = 4,
        n_runs: int = 4,
        n_channels: int = 16,
        link_share: float = 0.3,
        lag: tuple[int, int] = (2, 8),
        strength: tuple[float, float] = (0.15, 0.4),
        radius: tuple[float, float] = (0.8, 0.95),
        cycles: tuple[float, float] = (0.04, 0.2),
        common: float = 0.6,
        noise: float = 0.5,
        duration_s: float = 120.0,
        rate_hz: float = 100.0,
        seed: int = 0,
    ) -> None:
        if n_networks < 1 or n_runs < 1 or n_channels < 3:
            raise ConfigError(
                f"source 'sim_links': n_networks={n_networks}, n_runs={n_runs}, n_channels={n_channels}; expected at "
                "least 1, 1 and 3"
            )
        for name, pair in (("lag", lag), ("strength", strength), ("radius", radius), ("cycles", cycles)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ConfigError(
                    f"source 'sim_links': {name} is {list(pair)}; expected two numbers above 0, smaller first"
                )
        if radius[1] >= 1 or not 0 < link_share <= 1 or not 0 <= common < 1:
            raise ConfigError("source 'sim_links': radius and common must be below 1, and link_share from above 0 to 1")
        if not (duration_s > 0 and rate_hz > 0 and noise >= 0):
            raise ConfigError("source 'sim_links': duration_s and rate_hz must be above 0, noise not below")
        self.choices: dict[str, Any] = {
            "n_networks": n_networks, "n_runs": n_runs, "n_channels": n_channels, "link_share": float(link_share),
            "lag": list(lag), "strength": list(strength), "radius": list(radius), "cycles": list(cycles),
            "common": float(common), "noise": float(noise), "duration_s": float(duration_s), "rate_hz": float(rate_hz),
            "seed": seed,
        }  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Return name and choices."""
        return {"name": self.name, "version": self.version, **self.choices}

    def list(self) -> list[Item]:
        """Return one item per network and run."""
        facts = {k: v for k, v in self.describe().items() if k not in ("n_networks", "n_runs")}
        return [
            Item(
                key=f"sub-{network:02d}_run-{run}",
                fingerprint=hash_of([facts, network, run]),
                open=partial(simulate, self.choices, network, run),
                subject=f"{network:02d}",
            )
            for network in range(1, self.choices["n_networks"] + 1)
            for run in range(1, self.choices["n_runs"] + 1)
        ]


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is planted.

    Attributes
    ----------
    weight : array, shape (from, to)
        Weight of each link, 0 where there is none.
    lag : array of int, shape (from, to)
        Its delay in samples, 0 where there is none.
    own : array, shape (channel, 2)
        Each channel's weights on its own last and last but one sample.
    """

    weight: NDArray[np.float64]
    lag: NDArray[np.int64]
    own: NDArray[np.float64]

    @property
    def order(self) -> int:
        """Samples of the past that the present depends on."""
        return max(2, int(self.lag.max()))

    def matrices(self) -> NDArray[np.float64]:
        """Return it as a vector autoregression, shape (order, from, to); row k is lag k + 1."""
        out = np.zeros((self.order, *self.weight.shape))
        for k in (0, 1):
            np.fill_diagonal(out[k], self.own[:, k])
        for i, j in np.argwhere(self.lag > 0):
            out[self.lag[i, j] - 1, i, j] += self.weight[i, j]
        return out


def make_network(choices: dict[str, Any], network: int) -> Network:
    """Draw the links of one network, weak enough together for it to be stable."""
    rng = np.random.default_rng([choices["seed"], 31, network])
    C = choices["n_channels"]
    pairs = np.argwhere(np.triu(np.ones((C, C)), 1) > 0)
    n_links = max(1, round(choices["link_share"] * len(pairs)))
    chosen = pairs[rng.permutation(len(pairs))[:n_links]]
    turned = rng.random(n_links) < 0.5
    chosen[turned] = chosen[turned][:, ::-1]
    weight, lag = np.zeros((C, C)), np.zeros((C, C), dtype=np.int64)
    sign = np.where(rng.random(n_links) < 0.5, -1.0, 1.0)

    def within(pair: list[float], n: int) -> NDArray[np.float64]:
        return rng.uniform(pair[0], pair[1], n)

    weight[tuple(chosen.T)] = within(choices["strength"], n_links) * sign
    lag[tuple(chosen.T)] = rng.integers(choices["lag"][0], choices["lag"][1] + 1, n_links)
    radius, omega = within(choices["radius"], C), 2 * np.pi * within(choices["cycles"], C)
    own = np.stack([2 * radius * np.cos(omega), -(radius**2)], axis=1)
    found = Network(weight=weight, lag=lag, own=own)
    while _spectral_radius(found) > 0.98:
        found = Network(weight=found.weight * 0.9, lag=lag, own=own)
    return found


def _spectral_radius(network: Network) -> float:
    """Largest modulus of the eigenvalues of the companion matrix; below 1 where the network is stable."""
    lags = network.matrices()
    p, C, _ = lags.shape
    companion = np.zeros((p * C, p * C))
    companion[:C] = np.concatenate([a.T for a in lags], axis=1)
    companion[C:, :-C] = np.eye((p - 1) * C)
    return float(np.abs(np.linalg.eigvals(companion)).max())


def activity(
    choices: dict[str, Any], network: Network, n_samples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return what the channels do, without what recording adds, shape (time, channel), each of unit variance."""
    lags = network.matrices()
    p, C, _ = lags.shape
    total = n_samples + WARM_UP
    shared = rng.standard_normal(total)
    drive = np.sqrt(1 - choices["common"]) * rng.standard_normal((total, C))
    drive += np.sqrt(choices["common"]) * shared[:, None]
    stacked = lags.reshape(p * C, C)
    x = np.zeros((total + p, C))
    for t in range(total):
        x[t + p] = x[t : t + p][::-1].ravel() @ stacked + drive[t]
    x = x[-n_samples:]
    return x / x.std(0)


def simulate(choices: dict[str, Any], network: int, run: int) -> Recording:
    """Make one recording of one network."""
    found = make_network(choices, network)
    rng = np.random.default_rng([choices["seed"], 32, network, run])
    n_samples = max(found.order + 1, round(choices["duration_s"] * choices["rate_hz"]))
    x = activity(choices, found, n_samples, rng)
    x += choices["noise"] * rng.standard_normal(x.shape)
    angle = 2 * np.pi * np.arange(choices["n_channels"]) / choices["n_channels"]
    channels = tuple(
        Channel(
            name=f"N{i:02d}", canonical=f"sim:{i:02d}", kind="seeg", unit="uV",
            x=float(RING_M * np.sin(a)), y=float(RING_M * np.cos(a)), z=0.0, frame="head",
        )
        for i, a in enumerate(angle)
    )  # fmt: skip
    return Recording(
        dataset="sim_links",
        subject=f"{network:02d}",
        task="rest",
        run=str(run),
        modality="ieeg",
        streams=(Stream.from_arrays([MICROVOLT * x], rate_hz=choices["rate_hz"], channels=channels, unit="uV"),),
    )
