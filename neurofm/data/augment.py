"""Augmentations: transforms that do something in training only, drawn from the sample's own generator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from neurofm.data.transforms import Transform
from neurofm.schema.errors import ConfigError


@dataclass(kw_only=True)
class ChannelDropout(Transform):
    """Set each channel to zero with some probability, never all of them."""

    name: ClassVar[str] = "channel_dropout"
    probability: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise ConfigError(f"channel_dropout: probability is {self.probability}; expected 0 <= p < 1")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values with some columns zero."""
        if rng is None:
            return values
        kept = np.greater_equal(rng.random(values.shape[1]), self.probability)
        if not kept.any():
            kept[rng.integers(len(kept))] = True
        return values * kept.astype(np.float32)


@dataclass(kw_only=True)
class GaussianNoise(Transform):
    """Add white noise of standard deviation `sd`, in the units that reach it."""

    name: ClassVar[str] = "gaussian_noise"
    sd: float = 0.1

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values plus noise."""
        if rng is None:
            return values
        return values + np.float32(self.sd) * rng.standard_normal(values.shape, dtype=np.float32)


@dataclass(kw_only=True)
class AmplitudeScale(Transform):
    """Multiply a window by one factor, drawn log-uniformly from [1 / `factor`, `factor`]."""

    name: ClassVar[str] = "amplitude_scale"
    factor: float = 1.2

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ConfigError(f"amplitude_scale: factor is {self.factor}; expected 1 or more")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return factor · values."""
        if rng is None:
            return values
        return values * np.float32(self.factor ** rng.uniform(-1, 1))


@dataclass(kw_only=True)
class TimeShift(Transform):
    """Move a window by up to `max_samples` either way, repeating its edge.

    For shifts that read true samples instead, give the windows slack (jitter) when cutting them.
    """

    name: ClassVar[str] = "time_shift"
    max_samples: int = 5

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the shifted window."""
        if rng is None or self.max_samples == 0:
            return values
        shift = int(rng.integers(-self.max_samples, self.max_samples + 1))
        return values[np.clip(np.arange(len(values)) + shift, 0, len(values) - 1)]
