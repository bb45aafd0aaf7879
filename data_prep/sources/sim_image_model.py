"""The generative model of `sim_image_eeg`: linear in the image's features, Gaussian, so the best decoder is known.

A trial is y = M_s z + b_s + noise with y the (channel, time) values, z the features of the image shown, and noise of
covariance Σ_channel ⊗ Σ_time. M_s = Σ_k l_sk ⊗ (T_sk W_k): dipole k projects to the scalp of person s through a spherical
head (l_sk), and its time course is made of bumps (T_sk) whose amplitudes are linear in z (W_k).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from data_prep.sources import sphere_head
from data_prep.sources.sim_base import rng_of
from data_prep.sources.sphere_head import HEAD_M

# 33 places of the 10-20 system, most of them behind, where pictures are seen
ELECTRODES = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "FC5", "FC1", "FC2", "FC6", "T7", "C3", "Cz", "C4", "T8", "CP5", "CP1",
    "CP2", "CP6", "P7", "P3", "Pz", "P4", "P8", "PO7", "PO3", "POz", "PO4", "PO8", "O1", "Oz", "O2",
)  # fmt: skip
BUMPS = 3
# what a dipole's moment and the background amount to on the scalp, in µV
BACKGROUND_UV = 10.0
EVOKED_UV = 4.0


class World(NamedTuple):
    """What everybody shares: features of the images, dipoles, and how features drive them.

    features [image, R]; mix [R, D] with orthonormal rows; place, moment [K, 3]; weights [K, BUMPS, R].
    """

    features: dict[str, np.ndarray]
    mix: np.ndarray
    place: np.ndarray
    moment: np.ndarray
    weights: np.ndarray


class Person(NamedTuple):
    """One person: M [C, T, R], mean response b [C, T], and square roots of the noise covariances."""

    pattern: np.ndarray
    mean: np.ndarray
    channel_root: np.ndarray
    time_root: np.ndarray


def world_of(choices: dict[str, Any]) -> World:
    """Draw what everybody shares.

    Images of a concept lie around it, concepts around one of `n_families`; each level adds a third of the variance.
    """
    r, d, k = choices["n_features"], choices["n_dims"], choices["n_dipoles"]
    rng = rng_of(choices, 0)
    family = rng.standard_normal((choices["n_families"], r))
    features = {}
    for part, n, per in (("train", "n_train_concepts", "n_train_images"), ("test", "n_test_concepts", None)):
        n_concepts, n_images = choices[n], choices[per] if per else 1
        concept = family[np.arange(n_concepts) % len(family)] + rng.standard_normal((n_concepts, r))
        image = np.repeat(concept, n_images, axis=0) + rng.standard_normal((n_concepts * n_images, r))
        features[part] = image / np.sqrt(3)
    mix = np.linalg.qr(rng.standard_normal((d, r)))[0].T
    # in the back half of the head, not too near its middle or the scalp
    place = _directions(rng, k, back=True) * rng.uniform(0.45, 0.8, (k, 1)) * HEAD_M
    weights = rng.standard_normal((k, BUMPS, r)) / np.sqrt(r)
    return World(features, mix, place, _directions(rng, k), weights)


def person_of(choices: dict[str, Any], subject: int) -> Person:
    """Draw one person around what everybody shares."""
    world, rng = world_of(choices), rng_of(choices, 1, subject)
    k, spread = choices["n_dipoles"], choices["subject_spread"]
    place = world.place + spread * 0.02 * rng.standard_normal((k, 3))
    place *= np.minimum(1, 0.8 * HEAD_M / np.linalg.norm(place, axis=1, keepdims=True))
    moment = world.moment + spread * rng.standard_normal((k, 3))
    moment /= np.linalg.norm(moment, axis=1, keepdims=True)
    noise_place = _directions(rng_of(choices, 2), 80) * rng_of(choices, 3).uniform(0.3, 0.8, (80, 1)) * HEAD_M
    noise_moment = _directions(rng_of(choices, 4), 80)
    lead = lead_field(np.concatenate([place, noise_place]), np.concatenate([moment, noise_moment]))
    gain = np.exp(spread * 0.5 * rng.standard_normal((len(lead), 1)))
    own, others = gain * lead[:, :k], gain * lead[:, k:]
    own = own / np.sqrt((own**2).mean())
    t = times_s(choices)
    latency = np.linspace(0.09, 0.32, k) + spread * 0.02 * rng.standard_normal(k)
    bumps = np.stack([bump(t, latency + 0.05 * j, 0.02 + 0.01 * j) for j in range(BUMPS)], axis=1)
    own_weights = spread * rng.standard_normal(world.weights.shape) / np.sqrt(choices["n_features"])
    weights = (world.weights + own_weights) / np.sqrt(1 + spread**2)
    pattern = EVOKED_UV * np.einsum("ck,kjt,kjr->ctr", own, bumps, weights) / np.sqrt(k)
    average = EVOKED_UV * np.einsum("ck,kjt,kj->ct", own, bumps, rng.standard_normal((k, BUMPS))) / np.sqrt(k)
    covariance = others @ others.T
    covariance = covariance / np.trace(covariance) * len(covariance) + 0.05 * np.eye(len(covariance))
    return Person(
        pattern, average, choices["noise"] * BACKGROUND_UV * _root(covariance), _root(one_over_f(choices, len(t)))
    )


def times_s(choices: dict[str, Any]) -> np.ndarray:
    """Time of each sample from the image's onset; the trial begins 0.1 s before."""
    return np.arange(round(choices["trial_s"] * choices["rate_hz"])) / choices["rate_hz"] - 0.1


def bump(t: np.ndarray, centre_s: np.ndarray, width_s: float) -> np.ndarray:
    """Gaussian bumps [K, T] that are nothing before the image."""
    return np.where(t > 0, np.exp(-0.5 * ((t - centre_s[:, None]) / width_s) ** 2), 0.0)


def one_over_f(choices: dict[str, Any], n: int) -> np.ndarray:
    """Covariance over time [n, n] of unit variance, of a stationary process with power 1 / (f² + 1 Hz²)^(α / 2)."""
    f = np.fft.rfftfreq(16 * n, 1 / choices["rate_hz"])
    power = (f**2 + 1.0) ** (-choices["slope"] / 2)
    autocovariance = np.fft.irfft(power)[:n]
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return autocovariance[lag] / autocovariance[0]


def lead_field(place: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Potential of unit dipoles at the electrodes, average reference, [C, dipole]."""
    return sphere_head.lead_field(place, moment, ELECTRODES)


def electrode_positions() -> np.ndarray:
    """Metres in the head frame, [C, 3]."""
    return sphere_head.electrode_positions(ELECTRODES)


def _directions(rng: np.random.Generator, n: int, *, back: bool = False) -> np.ndarray:
    v = rng.standard_normal((n, 3))
    if back:
        v[:, 1], v[:, 2] = -np.abs(v[:, 1]), np.abs(v[:, 2])
    return v / np.linalg.norm(v, axis=1, keepdims=True)


def _root(covariance: np.ndarray) -> np.ndarray:
    return np.linalg.cholesky(covariance + 1e-9 * np.eye(len(covariance)))
