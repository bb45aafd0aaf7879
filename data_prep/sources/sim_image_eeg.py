"""Simulated answers to images, laid out like THINGS-EEG2: concepts, official parts, repetitions, several people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_image_model import ELECTRODES, electrode_positions, person_of, times_s, world_of
from data_prep.sources.sim_image_oracle import oracle
from data_prep.sources.sim_shown import PARTS, SimShown
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Channel, Event, Recording, Stream


class SimImageEeg(SimShown):
    """Trials of people who see images; the images' embedding is stored as "truth" (no pictures exist).

    Beside it stands ``stimuli/oracle.json``: what the best possible decoder reaches for each person and number of
    averaged repetitions. No test concept is among the training concepts.

    Parameters
    ----------
    n_subjects : int
        People, each with own electrode gains, dipoles and latencies.
    n_train_concepts, n_train_images, n_train_repetitions : int
        Training: images per concept, and how often each is shown.
    n_test_concepts, n_test_repetitions : int
        Test: one image each.
    n_families : int
        Super-categories of concepts.
    n_features, n_dims : int
        Features that drive the brain, and length of the embedding that holds them (rotated).
    n_dipoles : int
        Sources in the head.
    rate_hz, trial_s : float
        Of a trial, which begins 0.1 s before the image.
    subject_spread : float
        How far people lie from each other.
    noise, slope : float
        Size of the background relative to 10 µV, and its exponent over frequency.
    outlier_share, outlier_gain : float
        Share of samples multiplied by a factor, to show what robust scaling with a clamp is for. The oracle does not
        know of them.
    seed : int
        Everything follows from it.
    """

    name = "sim_image_eeg"
    id = "sim_image_eeg"
    modalities = ("eeg",)
    layer = "features, rotated"

    def __init__(
        self, *, n_subjects: int = 10, n_train_concepts: int = 300, n_train_images: int = 4, n_train_repetitions: int = 2,
        n_test_concepts: int = 200, n_test_repetitions: int = 10, n_families: int = 12, n_features: int = 12,
        n_dims: int = 64, n_dipoles: int = 8, rate_hz: float = 100.0, trial_s: float = 0.6, subject_spread: float = 0.3,
        noise: float = 1.0, slope: float = 1.0, outlier_share: float = 0.0, outlier_gain: float = 200.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(**{k: v for k, v in locals().items() if k not in ("self", "__class__")})
        if n_features > n_dims:
            raise ConfigError(f"source 'sim_image_eeg': n_features is {n_features}, above n_dims, {n_dims}")
        if trial_s < 0.2:
            raise ConfigError(f"source 'sim_image_eeg': trial_s is {trial_s}; expected at least 0.2")

    def images(self, part: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield (id, concept, embedding) of every image of a part."""
        world = world_of(self.choices)
        for i, z in enumerate(world.features[part]):
            yield image_id(part, i), concept(self.choices, part, i), z @ world.mix

    def oracle(self) -> dict[str, Any]:
        """Return what the best possible decoder reaches, for each number of averaged repetitions."""
        return oracle(self.choices)

    def list(self) -> list[Item]:
        """Return one item per person and part."""
        return self.items(simulate)


def image_id(part: str, i: int) -> str:
    """Name of an image."""
    return f"{part}-{i:05d}"


def concept(choices: dict[str, Any], part: str, i: int) -> str:
    """Concept of image i of a part."""
    return f"{part}-concept-{i // (choices['n_train_images'] if part == 'train' else 1):04d}"


def simulate(choices: dict[str, Any], subject: int, part: str) -> Recording:
    """Make one part of one person: every image as often as asked, in random order."""
    person, features = person_of(choices, subject), world_of(choices).features[part]
    rng = rng_of(choices, 5, subject, PARTS.index(part))
    order = rng.permutation(np.repeat(np.arange(len(features)), choices[f"n_{part}_repetitions"]))
    rate, n_times = float(choices["rate_hz"]), len(times_s(choices))
    arrays, starts, events = [], [], []
    step = float(np.ceil(choices["trial_s"]) + 1)
    for trial, i in enumerate(order.tolist()):
        noise = person.channel_root @ rng.standard_normal((len(ELECTRODES), n_times)) @ person.time_root.T
        y = person.pattern @ features[i] + person.mean + noise
        if choices["outlier_share"]:
            y = np.where(rng.random(y.shape) < choices["outlier_share"], choices["outlier_gain"] * y, y)
        arrays.append(y.T)
        starts.append(step * trial)
        events.append(
            Event(
                onset_s=step * trial + 0.1, duration_s=0.1, kind="image", label=concept(choices, part, i),
                stimulus_id=image_id(part, i), trial=trial,
            )
        )  # fmt: skip
    channels = tuple(
        Channel(name=name, canonical=name, kind="eeg", unit="uV", x=x, y=y, z=z, frame="head", reference="average")
        for name, (x, y, z) in zip(ELECTRODES, electrode_positions().tolist(), strict=True)
    )
    return Recording(
        dataset="sim_image_eeg", subject=f"{subject:02d}", task="images", run=part, modality="eeg", part=part,
        streams=(Stream.from_arrays(arrays, rate_hz=rate, channels=channels, unit="uV"),),
        interval_start_s=tuple(starts), events=tuple(events),
    )  # fmt: skip
