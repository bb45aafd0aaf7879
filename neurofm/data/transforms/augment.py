"""Augmentations: transforms that do something in training only, drawn from the sample's own generator.

None of these changes what a window is labelled as; see `augment_mirror` for one that does. Mixing windows and their
labels in pairs is the objective's (`mixup_alpha` of "supervised"), which has whole batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.schema.errors import ConfigError, DataError


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


@dataclass(kw_only=True)
class TimeMask(Transform):
    """Set a stretch of all channels to zero: up to `max_fraction` of the window, anywhere in it."""

    name: ClassVar[str] = "time_mask"
    max_fraction: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.max_fraction < 1:
            raise ConfigError(f"time_mask: max_fraction is {self.max_fraction}; expected 0 <= fraction < 1")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values with some rows zero."""
        if rng is None:
            return values
        length = int(rng.integers(int(self.max_fraction * len(values)) + 1))
        start = int(rng.integers(len(values) - length + 1))
        masked = values.copy()
        masked[start : start + length] = 0
        return masked


@dataclass(kw_only=True)
class SignFlip(Transform):
    """Multiply a window by −1 with some probability, as a change of polarity would."""

    name: ClassVar[str] = "sign_flip"
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability(self.name, self.probability)

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return ± values."""
        return -values if rng is not None and rng.random() < self.probability else values


@dataclass(kw_only=True)
class SurrogatePhase(Transform):
    """Turn the phase of every frequency at random; amplitudes stay (Schwabedal et al. 2018, arXiv:1806.08675).

    Parameters
    ----------
    probability : float
        Share of training windows that are changed.
    strength : float
        Phases turn by up to this share of a full circle.
    together : bool
        Turn all channels alike, so that their cross-spectra stay; else each by itself.
    """

    name: ClassVar[str] = "surrogate_phase"
    probability: float = 0.5
    strength: float = 1.0
    together: bool = True

    def __post_init__(self) -> None:
        _check_probability(self.name, self.probability)
        if not 0 < self.strength <= 1:
            raise ConfigError(f"surrogate_phase: strength is {self.strength}; expected 0 < strength <= 1")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return a window of the same power spectra."""
        if rng is None or rng.random() >= self.probability:
            return values
        spectrum = np.fft.rfft(values, axis=0)
        turn = rng.uniform(0, 2 * np.pi * self.strength, (len(spectrum), 1 if self.together else values.shape[1]))
        # the mean, and the Nyquist frequency of an even length, have no phase
        turn[0] = 0
        if len(values) % 2 == 0:
            turn[-1] = 0
        return np.fft.irfft(spectrum * np.exp(1j * turn), len(values), axis=0).astype(np.float32)


@dataclass(kw_only=True)
class FrequencyShift(Transform):
    """Move the whole spectrum by one random amount (Rommel et al. 2022, arXiv:2206.14483, section 3.1).

    Parameters
    ----------
    max_hz : float
        The shift is drawn uniformly from ± this.
    """

    name: ClassVar[str] = "frequency_shift"
    max_hz: float = 1.0
    _rate_hz: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.max_hz >= 0:
            raise ConfigError(f"frequency_shift: max_hz is {self.max_hz}; expected 0 or more")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Note the rates of recordings."""
        super().fit(dataset, spans, allowed=allowed)
        self._rate_hz |= {r: dataset.rate_hz(r) for r in {s.recording_id for s in spans}}

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the real part of the shifted analytic signal."""
        if rng is None:
            return values
        if recording_id not in self._rate_hz:
            raise DataError(f"frequency_shift: was not fitted on '{recording_id}', so its rate is not known")
        shift = rng.uniform(-self.max_hz, self.max_hz) / self._rate_hz[recording_id]
        n = len(values)
        # twice the positive frequencies: the analytic signal (Hilbert transform by FFT)
        weight = np.zeros(n)
        weight[: (n + 1) // 2] = 2
        weight[0] = 1
        if n % 2 == 0:
            weight[n // 2] = 1
        analytic = np.fft.ifft(np.fft.fft(values, axis=0) * weight[:, None], axis=0)
        return (analytic * np.exp(2j * np.pi * shift * np.arange(n))[:, None]).real.astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Rates of the recordings fitted."""
        return {"rate_hz": self._rate_hz}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self._rate_hz = {str(r): float(rate) for r, rate in state["rate_hz"].items()}


def _check_probability(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ConfigError(f"{name}: probability is {probability}; expected 0 to 1")
