"""Simulated MEG or fMRI of people who see images, made to ask what a new person's first trials are worth.

A trial is y = M_s z + noise with z the latents of the image and white noise, so the best decoder is known. In *shared*
coordinates (virtual sensors, parcels) the people's mixings M_s are a common one and a share of their own; with *native*
ones (a person's own voxels) they are independent, and as many as each has. MEG trials have staggered windowed oscillations
for time courses, fMRI trials one value per channel. A few samples are multiplied by a large factor, as recordings have it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.sources.base import Item
from data_prep.sources.sim_base import rng_of
from data_prep.sources.sim_shown import PARTS, SimShown
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.recording import Channel, Event, Recording, Stream

KINDS = {"meg": ("meg", "mag", "fT"), "fmri": ("fmri", "parcel", "au")}
DRAWS = 50


class SimSharedLatents(SimShown):
    """Trials of people whose channels mix the same latents; the images' embedding is "truth".

    Parameters
    ----------
    modality : str
        "meg" or "fmri".
    native : bool
        Whether each person has channels of their own: other ones, and another number of them.
    n_subjects, n_channels : int
        People; channels of each (with `native` the largest number).
    n_train, n_test : int
        Images, each shown once to everybody.
    n_latents, n_dims : int
        Latents, and length of the embedding that holds them.
    n_times, rate_hz
        Of a MEG trial; an fMRI trial is one sample.
    spread : float
        A person's own mixing relative to the common one.
    noise : float
        Standard deviation of the noise, where signals have 1.
    outlier_share, outlier_gain : float
        Share of samples multiplied by a factor; the oracle does not know of them.
    seed : int
        Everything follows from it.
    """

    name = "sim_shared_latents"
    id = "sim_shared_latents"
    modalities = ("meg", "fmri")
    layer = "latents, rotated"

    def __init__(
        self, *, modality: str = "fmri", native: bool = False, n_subjects: int = 6, n_channels: int = 48, n_train: int = 1500,
        n_test: int = 100, n_latents: int = 12, n_dims: int = 64, n_times: int = 60, rate_hz: float = 100.0, spread: float = 0.3,
        noise: float = 1.0, outlier_share: float = 0.0, outlier_gain: float = 200.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(**{k: v for k, v in locals().items() if k not in ("self", "__class__")})
        if modality not in KINDS:
            raise ConfigError(f"source '{self.name}': unknown modality '{modality}': {nearest(modality, KINDS)}")
        if n_latents > n_dims:
            raise ConfigError(f"source '{self.name}': n_latents is {n_latents}, above n_dims, {n_dims}")

    def images(self, part: str) -> Iterator[tuple[str, str, np.ndarray]]:
        """Yield (id, concept, embedding) of every image of a part; each is a concept of its own."""
        n_dims, n_latents = self.choices["n_dims"], self.choices["n_latents"]
        mix = np.linalg.qr(rng_of(self.choices, 3).standard_normal((n_dims, n_latents)))[0]
        for i, z in enumerate(latents(self.choices, part)):
            yield f"{part}-{i:05d}", f"{part}-{i:05d}", mix @ z

    def oracle(self) -> dict[str, Any]:
        """Return what the best possible decoder reaches on single trials without outliers."""
        return oracle(self.choices)

    def list(self) -> list[Item]:
        """Return one item per person and part."""
        return self.items(simulate)


def latents(choices: dict[str, Any], part: str) -> np.ndarray:
    """Latents of a part's images, [image, L]."""
    return rng_of(choices, 0, PARTS.index(part)).standard_normal((choices[f"n_{part}"], choices["n_latents"]))


def pattern(choices: dict[str, Any], subject: int) -> np.ndarray:
    """M_s [channel, time, L]: one latent of unit variance in every channel and sample gives a signal of variance 1 on average."""
    n, n_latents, own = choices["n_channels"], choices["n_latents"], rng_of(choices, 1, subject)
    mixing = rng_of(choices, 2).standard_normal((n, n_latents)) + choices["spread"] * own.standard_normal(
        (n, n_latents)
    )
    mixing /= np.sqrt(1 + choices["spread"] ** 2)
    if choices["native"]:
        # the first person has the most, so that a table of maps holds everybody
        mixing = own.standard_normal((n if subject == 1 else int(own.integers(3 * n // 4, n + 1)), n_latents))
    if choices["modality"] == "fmri":
        return mixing[:, None] / np.sqrt(n_latents)
    t = np.arange(choices["n_times"])
    centre = np.linspace(0.2, 0.8, n_latents)[:, None] * len(t)
    course = np.exp(-0.5 * ((t - centre) / (0.08 * len(t))) ** 2) * np.sin(2 * np.pi * (t - centre) * 0.08 + 1)
    course /= np.sqrt((course**2).mean(axis=1, keepdims=True))
    return np.einsum("cl,lt->ctl", mixing, course) / np.sqrt(n_latents)


def oracle(choices: dict[str, Any]) -> dict[str, Any]:
    """Bayes-optimal top-1 and top-5 of single trials without outliers: argmax_j y'M z_j − |M z_j|² / 2."""
    gallery, found = latents(choices, "test"), {}
    for s in range(1, choices["n_subjects"] + 1):
        m = pattern(choices, s).reshape(-1, choices["n_latents"])
        a = m.T @ m / choices["noise"] ** 2
        root, rng = np.linalg.cholesky(a + 1e-10 * np.trace(a) * np.eye(len(a))), rng_of(choices, 9, s)
        noise = rng.standard_normal((DRAWS, len(gallery), len(a))) @ root.T
        score = (gallery @ a + noise) @ gallery.T - 0.5 * np.einsum("ir,rs,is->i", gallery, a, gallery)
        rank = (score > np.einsum("dii->di", score)[..., None]).sum(axis=-1)
        found[f"{s:02d}"] = {"1": {"top1": float((rank < 1).mean()), "top5": float((rank < 5).mean())}}
    return {
        "what": "Bayes-optimal retrieval of single trials with the true parameters; gallery: the test images",
        "candidates": len(gallery), "draws": DRAWS * len(gallery), "by_subject": found,
    }  # fmt: skip


def simulate(choices: dict[str, Any], subject: int, part: str) -> Recording:
    """Make one part of one person: every image once, in random order."""
    modality, kind, unit = KINDS[choices["modality"]]
    m, z = pattern(choices, subject), latents(choices, part)
    rng = rng_of(choices, 5, subject, PARTS.index(part))
    rate = float(choices["rate_hz"]) if modality == "meg" else 1.0
    step = float(np.ceil(m.shape[1] / rate) + 1)
    arrays, events = [], []
    for trial, i in enumerate(rng.permutation(len(z)).tolist()):
        y = m @ z[i] + choices["noise"] * rng.standard_normal(m.shape[:2])
        y = np.where(rng.random(y.shape) < choices["outlier_share"], choices["outlier_gain"] * y, y)
        arrays.append(y.T)
        events.append(
            Event(
                onset_s=step * trial, duration_s=m.shape[1] / rate, kind="image", label=f"{part}-{i:05d}",
                stimulus_id=f"{part}-{i:05d}", trial=trial,
            )
        )  # fmt: skip
    channels = tuple(Channel(name=f"v{c:03d}", canonical=f"v{c:03d}", kind=kind, unit=unit) for c in range(len(m)))
    return Recording(
        dataset="sim_shared_latents", subject=f"{subject:02d}", task="images", run=part, modality=modality, part=part,
        streams=(Stream.from_arrays(arrays, rate_hz=rate, channels=channels, unit=unit),),
        interval_start_s=tuple(e.onset_s for e in events), events=tuple(events),
    )  # fmt: skip
