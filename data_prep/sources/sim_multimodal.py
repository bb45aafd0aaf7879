"""Counts and images driven by shared and private Gaussian processes (Gondur et al. 2024, MM-GPVAE).

The paper turns and zooms a handwritten digit; here it is a drawn glyph without symmetry, so that nothing is fetched.
"""

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
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Recording

BIN_S = 0.05
TURN_DEGREES = 120.0
# shared (turns the image), of the units alone, of the image alone (zooms it)
VARIANCES = (0.3, 0.5, 0.8)
SMALLEST_ZOOM, LARGEST_ZOOM = 0.25, 3.0


class SimMultimodal(SimSource):
    """Trials of 60 steps of 50 ms: rate per step = exp(W [shared, own] + b), and an image turned by the shared process.

    Processes have an RBF kernel of length 10 steps. Streams: `image` (role stimulus, pixels row by row), `true_latent`
    (shared, units' own, image's own), `true_rates` (Hz).

    Parameters
    ----------
    n_trials, n_steps, n_units : int
        Trials (four of five are part "train"), steps of a trial, units.
    side : int
        Pixels of the image along one side.
    length : float
        Of the kernel, in steps.
    seed : int
        Everything follows from it.
    """

    name = "sim_multimodal"
    id = "sim_multimodal"
    oracle: ClassVar[dict[str, float]] = {"bits_per_spike": 0.571}

    def __init__(
        self, *, n_trials: int = 300, n_steps: int = 60, n_units: int = 100, side: int = 36, length: float = 10.0,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if side < 8 or not length > 0:
            raise ConfigError(f"source 'sim_multimodal': side is {side}, length {length}; expected 8 or more, above 0")
        super().__init__(n_trials=n_trials, n_steps=n_steps, n_units=n_units, side=side, length=length, seed=seed)

    def list(self) -> list[Item]:
        """Return the training and the test trials."""
        return self.items(simulate, TRAIN_AND_TEST)


def latent(choices: dict[str, Any]) -> np.ndarray:
    """Return the three processes, shape (trial, step, 3)."""
    rng = np.random.default_rng([choices["seed"], 0])
    t = np.arange(choices["n_steps"])
    kernel = np.exp(-0.5 * ((t[:, None] - t) / choices["length"]) ** 2) + 1e-6 * np.eye(len(t))
    root = np.linalg.cholesky(kernel)
    noise = rng.standard_normal((choices["n_trials"], len(t), 3))
    return np.einsum("st,btk->bsk", root, noise) * np.sqrt(VARIANCES)


def rates_per_step(choices: dict[str, Any], z: np.ndarray) -> np.ndarray:
    """Return expected spikes per step, shape (trial, step, unit)."""
    rng = np.random.default_rng([choices["seed"], 1])
    weights = 1.5 * rng.uniform(-1, 1, (2, choices["n_units"]))
    offset = 0.5 * rng.uniform(-1, 1, choices["n_units"])
    return np.exp(z[..., :2] @ weights + offset)


def glyph(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the brightness of the drawn figure at places in [−1, 1]²: a hook with a dot, alike under no turn."""
    stem = (np.abs(x + 0.25) < 0.12) & (np.abs(y) < 0.65)
    bar = (np.abs(y + 0.55) < 0.12) & (x > -0.35) & (x < 0.45)
    dot = (x - 0.35) ** 2 + (y - 0.3) ** 2 < 0.03
    return (stem | bar | dot).astype(np.float64)


def images(choices: dict[str, Any], z: np.ndarray) -> np.ndarray:
    """Return the images of one trial, shape (step, pixel); `z` is (step, 3)."""
    side = choices["side"]
    # three points across each pixel soften the edges
    points = ((np.arange(side * 3) + 0.5) / (side * 3) * 2 - 1) * 1.2
    x, y = np.meshgrid(points, points)
    out = np.empty((len(z), side * side), np.float32)
    for i, (turn, _, grow) in enumerate(z):
        angle, zoom = np.deg2rad(TURN_DEGREES * turn), np.clip(1 + grow, SMALLEST_ZOOM, LARGEST_ZOOM)
        u, v = (np.cos(angle) * x + np.sin(angle) * y) / zoom, (np.cos(angle) * y - np.sin(angle) * x) / zoom
        out[i] = glyph(u, v).reshape(side, 3, side, 3).mean((1, 3)).ravel()
    return out


def simulate(choices: dict[str, Any], subject: str, session: str, part: str) -> Recording:
    """Make the trials of one part."""
    z = latent(choices)
    n_train = max(1, choices["n_trials"] * 4 // 5)
    chosen = range(n_train) if part == "train" else range(n_train, choices["n_trials"])
    z = z[chosen.start : chosen.stop]
    rates = rates_per_step(choices, z)
    rng = np.random.default_rng([choices["seed"], 2, ("train", "test").index(part)])
    duration_s = choices["n_steps"] * BIN_S
    starts = trial_starts(len(chosen), duration_s)
    channels = units(choices["n_units"], owner="sim_multimodal")
    return Recording(
        dataset="sim_multimodal",
        subject=subject,
        task="multimodal",
        run=part,
        modality="spikes",
        streams=(
            spike_stream([rng.poisson(r) for r in rates], BIN_S, channels, rng),
            values_stream("image", [images(choices, trial) for trial in z], 1 / BIN_S, role="stimulus"),
            values_stream("true_latent", list(z), 1 / BIN_S, names=("shared", "units", "image")),
            values_stream("true_rates", list(rates / BIN_S), 1 / BIN_S, unit="Hz"),
        ),
        interval_start_s=starts,
        events=trial_events(["" for _ in chosen], starts, duration_s),
        part=part,
    )
