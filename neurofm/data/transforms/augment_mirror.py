"""Left–right reflection of the head, with the labels that change sides."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.storage.catalogue import channel_name
from neurofm.data.transforms.base import Transform
from neurofm.schema.errors import ConfigError, DataError, nearest

# letters of the 10-05 system; a midline electrode ends in z, one on the left in an odd number, on the right in an even one
REGIONS = frozenset(
    "FP AFP AF AFF F FFC FC FCC C CCP CP CPP P PPO PO POO O OI I N FFT FT FTT T TTP TP TPP A M".split()  # noqa: SIM905
)
TEN_TWENTY = re.compile(r"([A-Za-z]+?)(\d+)(h?)")
MIDLINE = re.compile(r"([A-Za-z]+?)[zZ]")
# how far from the mirrored place the partner may be
TOLERANCE_M = 0.01


@dataclass(kw_only=True)
class LeftRight(Transform):
    """Exchange the channels of the two sides, and the classes that name one, with some probability.

    Partners are found by 10-05 names where all channels have one, else by positions (x to the right). A channel whose
    partner is absent or bad becomes zero.

    Parameters
    ----------
    probability : float
        Share of training windows that are reflected.
    swap : mapping of str to str
        Classes that become each other, such as ``{"left": "right"}``; each pair once. Other classes stay.
    """

    name: ClassVar[str] = "left_right"
    probability: float = 0.5
    swap: Mapping[str, str] = field(default_factory=dict)
    _partner: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _target: dict[int, int] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.swap = dict(self.swap)
        if not 0 <= self.probability <= 1:
            raise ConfigError(f"left_right: probability is {self.probability}; expected 0 to 1")
        both = [*self.swap, *self.swap.values()]
        if len(set(both)) != len(both):
            raise ConfigError(f"left_right: swap is {self.swap}; every class may be named once")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Find the partner of every channel of the recordings."""
        super().fit(dataset, spans, allowed=allowed)
        for r in {s.recording_id for s in spans}:
            self._partner[r] = partners(dataset.channels(r), f"left_right: '{r}'")

    def tell_classes(self, classes: Sequence[str]) -> None:
        """Learn what targets count in."""
        for name in (*self.swap, *self.swap.values()):
            if name not in classes:
                raise ConfigError(f"left_right: swap names the class '{name}': {nearest(name, classes)}")
        pairs = [(list(classes).index(a), list(classes).index(b)) for a, b in self.swap.items()]
        self._target = dict(pairs) | {b: a for a, b in pairs}

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values with sides exchanged, or as they are."""
        return self.apply_labelled(values, recording_id, None, rng=rng)[0]

    def apply_labelled(
        self, values: np.ndarray, recording_id: str, target: Any, *, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, Any]:
        """Return values and class, both reflected or both as they are."""
        if rng is None or rng.random() >= self.probability:
            return values, target
        if recording_id not in self._partner:
            raise DataError(f"left_right: was not fitted on '{recording_id}', so its channels are not known")
        if self.swap and isinstance(target, int) and not self._target:
            raise ConfigError("left_right: swap names classes, but the windows come without a task that has them")
        partner = self._partner[recording_id]
        mirrored = values[:, np.maximum(partner, 0)]
        mirrored[:, partner < 0] = 0
        return mirrored, self._target.get(target, target) if isinstance(target, int) else target

    def state(self) -> dict[str, Any]:
        """Partners in the recordings fitted, and which target becomes which."""
        return {"partner": {r: p.tolist() for r, p in self._partner.items()}, "target": list(self._target.items())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self._partner = {str(r): np.array(p, np.int64) for r, p in state["partner"].items()}
        self._target = {int(a): int(b) for a, b in state["target"]}


def partners(rows: Sequence[Mapping[str, Any]], what: str) -> np.ndarray:
    """Index of each channel's mirror image, its own on the midline, −1 where there is none; shape (C,)."""
    mirrored = [_mirrored(channel_name(dict(r))) for r in rows]
    if all(m is not None for m in mirrored):
        at = {channel_name(dict(r)).upper(): i for i, r in enumerate(rows)}
        return np.array([at.get(str(m).upper(), -1) for m in mirrored])
    places = np.array([[r["x"], r["y"], r["z"]] for r in rows], np.float64)
    if not np.isfinite(places).all():
        odd = next(channel_name(dict(r)) for r, m in zip(rows, mirrored, strict=True) if m is None)
        raise DataError(f"{what}: channel '{odd}' has no 10-05 name, and not every channel has a position")
    apart = np.linalg.norm(places[:, None] * [-1, 1, 1] - places[None], axis=-1)
    found = apart.argmin(axis=1)
    return np.where(apart.min(axis=1) <= TOLERANCE_M, found, -1)


def _mirrored(name: str) -> str | None:
    """10-05 name on the other side; None for what is no such name."""
    middle, side = MIDLINE.fullmatch(name), TEN_TWENTY.fullmatch(name)
    if middle and middle[1].upper() in REGIONS:
        return name
    if side is None or side[1].upper() not in REGIONS or int(side[2]) == 0:
        return None
    number = int(side[2])
    return f"{side[1]}{number + 1 if number % 2 else number - 1}{side[3]}"
