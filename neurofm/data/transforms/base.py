"""What is done to a window after reading: fitted on training or calibration spans, saved with the model.

Shape legend: T time, C good channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span, require_inside
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.registry import Registry

TRANSFORMS = Registry(
    "transform",
    {
        "amplitude_scale": "neurofm.data.transforms.augment:AmplitudeScale",
        "channel_dropout": "neurofm.data.transforms.augment:ChannelDropout",
        "clip": "neurofm.data.transforms.base:Clip",
        "compose": "neurofm.data.transforms.base:Compose",
        "demean_window": "neurofm.data.transforms.base:DemeanWindow",
        "frequency_shift": "neurofm.data.transforms.augment:FrequencyShift",
        "gaussian_noise": "neurofm.data.transforms.augment:GaussianNoise",
        "left_right": "neurofm.data.transforms.augment_mirror:LeftRight",
        "recenter": "neurofm.data.transforms.recenter:Recenter",
        "mvnn": "neurofm.data.transforms.mvnn:Mvnn",
        "pca": "neurofm.data.transforms.pca:Pca",
        "robust_scale": "neurofm.data.transforms.robust_scale:RobustScale",
        "scale_fixed": "neurofm.data.transforms.base:ScaleFixed",
        "sign_flip": "neurofm.data.transforms.augment:SignFlip",
        "spatial_whiten": "neurofm.data.transforms.spatial_whiten:SpatialWhiten",
        "standardize": "neurofm.data.transforms.standardize:Standardize",
        "surrogate_phase": "neurofm.data.transforms.augment:SurrogatePhase",
        "time_mask": "neurofm.data.transforms.augment:TimeMask",
        "time_shift": "neurofm.data.transforms.augment:TimeShift",
    },
)


@dataclass(kw_only=True)
class Transform:
    """One step; its fields are the user's choices, what it learns is its state.

    A transform never changes the array it is given. `rng` is a generator in training and None otherwise: what is
    random happens only where there is one.
    """

    name: ClassVar[str] = ""
    learns: ClassVar[bool] = False

    @property
    def draws(self) -> bool:
        """Whether it makes use of `rng`, which takes time to make; what is fitted mostly does not."""
        return not self.learns

    @property
    def is_transductive(self) -> bool:
        """Whether it looks at the recording it is applied to as a whole; so is then every score made with it."""
        return False

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Learn from `spans`, which must lie inside `allowed` (the training or calibration part).

        Fitting again adds recordings and replaces those already known.

        Raises
        ------
        DataError
            When a span lies outside.
        """
        require_inside(spans, allowed, f"transform '{self.name}'")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return the transformed window, shape (T, C), float32."""
        raise NotImplementedError

    def apply_labelled(
        self, values: np.ndarray, recording_id: str, target: Any, *, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, Any]:
        """Return the transformed window and its target; only an augmentation that changes sides or the like changes it."""
        return self.apply(values, recording_id, rng=rng), target

    def tell_classes(self, classes: Sequence[str]) -> None:
        """Learn which class each target is the index of; of use only to what changes targets."""

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Undo `apply` where that is possible, to show predictions in physical units."""
        raise ConfigError(f"transform '{self.name}' cannot be undone")

    def state(self) -> dict[str, Any]:
        """Return what was learned, as plain JSON."""
        return {}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""

    def to_json(self) -> dict[str, Any]:
        """Plain dict of name, choices and state."""
        choices = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        choices = {k: list(v) if isinstance(v, tuple) else v for k, v in choices.items()}
        return {"name": self.name, "choices": choices, "state": self.state()}


def transform_from_json(raw: Mapping[str, Any]) -> Transform:
    """Inverse of `Transform.to_json`; only registered names are built."""
    try:
        transform = TRANSFORMS.build(raw["name"], **raw["choices"])
        transform.set_state(raw["state"])
    except (KeyError, TypeError) as error:
        raise DataError(f"saved transform: field {error} is missing or wrong; export the model again") from error
    return transform


@dataclass(kw_only=True)
class Compose(Transform):
    """Several transforms, one after the other; one that learns must come first, as it is fitted on the data as stored.

    Parameters
    ----------
    transforms : sequence of Transform or dict
        Dicts are ``{"name": …, **choices}`` or what `to_json` gave.
    """

    name: ClassVar[str] = "compose"
    transforms: Sequence[Any] = ()

    def __post_init__(self) -> None:
        self.transforms = [t if isinstance(t, Transform) else _build(t) for t in self.transforms]
        for t in self.transforms[1:]:
            if t.learns:
                raise ConfigError(
                    f"compose: '{t.name}' is fitted on the data as stored, so it must be the first transform"
                )

    @property
    def draws(self) -> bool:
        """Whether any step does."""
        return any(t.draws for t in self.transforms)

    @property
    def is_transductive(self) -> bool:
        """Whether any step is."""
        return any(t.is_transductive for t in self.transforms)

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Fit every step."""
        for t in self.transforms:
            t.fit(dataset, spans, allowed=allowed)

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Apply every step."""
        for t in self.transforms:
            values = t.apply(values, recording_id, rng=rng)
        return values

    def apply_labelled(
        self, values: np.ndarray, recording_id: str, target: Any, *, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, Any]:
        """Apply every step to the window and its target."""
        for t in self.transforms:
            values, target = t.apply_labelled(values, recording_id, target, rng=rng)
        return values, target

    def tell_classes(self, classes: Sequence[str]) -> None:
        """Tell every step."""
        for t in self.transforms:
            t.tell_classes(classes)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Undo every step, the last first."""
        for t in reversed(self.transforms):
            values = t.inverse(values, recording_id)
        return values

    def to_json(self) -> dict[str, Any]:
        """Plain dict that holds those of the steps."""
        return {"name": self.name, "choices": {"transforms": [t.to_json() for t in self.transforms]}, "state": {}}


def _build(raw: Mapping[str, Any]) -> Transform:
    if set(raw) == {"name", "choices", "state"}:
        return transform_from_json(raw)
    if "name" not in raw:
        raise ConfigError(f"transform {dict(raw)} has no field 'name'")
    return TRANSFORMS.build(raw["name"], **{k: v for k, v in raw.items() if k != "name"})


@dataclass(kw_only=True)
class DemeanWindow(Transform):
    """Subtract each channel's mean over the window itself."""

    name: ClassVar[str] = "demean_window"

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values minus their mean over time."""
        return values - values.mean(axis=0, dtype=np.float64).astype(np.float32)


@dataclass(kw_only=True)
class ScaleFixed(Transform):
    """Multiply by a constant, such as 0.01 for µV as many EEG models take it."""

    name: ClassVar[str] = "scale_fixed"
    factor: float = 1.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.factor) or self.factor == 0:
            raise ConfigError(f"scale_fixed: factor is {self.factor}; expected a finite number other than 0")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return factor · values."""
        return values * np.float32(self.factor)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return values / factor."""
        return values / np.float32(self.factor)


@dataclass(kw_only=True)
class Clip(Transform):
    """Limit values to ± `limit`."""

    name: ClassVar[str] = "clip"
    limit: float = 20.0

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ConfigError(f"clip: limit is {self.limit}; expected a number above 0")

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values within ± limit."""
        return np.clip(values, -self.limit, self.limit, dtype=np.float32)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Values beyond the limit are gone; the others are as they were."""
        return values
