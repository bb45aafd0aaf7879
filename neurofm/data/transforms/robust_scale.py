"""Median and interquartile range instead of mean and deviation, and a clamp: what artefacts cannot pull along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.data.transforms.fitting import Pool, check_per, fitted_on, n_samples_of, pools, values_of
from neurofm.schema.errors import ConfigError, DataError

# Samples of each channel that quantiles are taken of; more are thinned evenly (the error is then about a thousandth).
MAX_SAMPLES = 1 << 18
# relative to the median, below what float32 can tell from a constant
FLAT = 1e-7


class Quartiles(NamedTuple):
    """Median and interquartile range of each channel, float64 [C]."""

    median: np.ndarray
    range: np.ndarray


@dataclass(kw_only=True)
class RobustScale(Transform):
    """Subtract each channel's median, divide by its interquartile range, limit to ± `clamp`.

    As Défossez et al. (2023, Nat. Mach. Intell. 5:1097, "Preprocessing") and Benchetrit et al. (2024) scale MEG: per
    recording and channel, clamped at 20, without which their accuracy falls from 43 to 10 %.

    Parameters
    ----------
    clamp : float, optional
        In interquartile ranges; None for none.
    per : str
        "recording", or "subject": fitted spans of all recordings of a person with the same channels are pooled, and
        hold for every recording of that person with those channels.
    """

    name: ClassVar[str] = "robust_scale"
    learns: ClassVar[bool] = True
    clamp: float | None = 20.0
    per: str = "recording"
    _fitted: dict[str, Quartiles] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_per(self.per, self.name)
        if self.clamp is not None and not self.clamp > 0:
            raise ConfigError(f"robust_scale: clamp is {self.clamp}; expected a number above 0, or null")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Read the spans once and keep their quartiles."""
        super().fit(dataset, spans, allowed=allowed)
        for pool in pools(dataset, spans, per=self.per, transform=self.name):
            low, median, high = np.percentile(_thinned(dataset, pool), (25, 50, 75), axis=0)
            extent = high - low
            # a flat channel becomes zeros, not magnified rounding
            moves = extent > np.maximum(FLAT * np.abs(median), np.finfo(np.float32).tiny)
            extent = np.where(moves, extent, 1.0)
            for r, order in pool.holders:
                self._fitted[r] = Quartiles(median[order], extent[order])

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (values − median) / interquartile range, within ± clamp."""
        known = self.quartiles(recording_id, values.shape[1])
        out = values - known.median.astype(np.float32)
        out /= known.range.astype(np.float32)
        return out if self.clamp is None else np.clip(out, -self.clamp, self.clamp, dtype=np.float32, out=out)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return values · interquartile range + median; what was beyond the clamp is gone."""
        known = self.quartiles(recording_id, values.shape[1])
        return (values * known.range + known.median).astype(np.float32)

    def quartiles(self, recording_id: str, n_channels: int) -> Quartiles:
        """Median and interquartile range of a fitted recording, in the order of its good channels.

        Raises
        ------
        DataError
            When the recording was never fitted, or has another number of channels.
        """
        return fitted_on(
            self._fitted, recording_id, n_channels, mean="median", transform="robust_scale",
            where="a part that may be looked at (per=subject shares what other recordings of the subject give)",
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Median and interquartile range of every fitted recording."""
        return {r: {"median": q.median.tolist(), "range": q.range.tolist()} for r, q in sorted(self._fitted.items())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take what was fitted."""
        self._fitted = {
            r: Quartiles(np.array(q["median"], np.float64), np.array(q["range"], np.float64)) for r, q in state.items()
        }


def _thinned(dataset: Dataset, pool: Pool) -> np.ndarray:
    """Every k-th sample of the spans [≤ MAX_SAMPLES, C], k as small as that allows."""
    total = n_samples_of(dataset, pool)
    if not total:
        raise DataError(f"transform 'robust_scale': the spans of '{pool.group}' hold no sample")
    step, at, kept = -(-total // MAX_SAMPLES), 0, []
    for block in values_of(dataset, pool):
        kept.append(block[-at % step :: step])
        at += len(block)
    return np.concatenate(kept)
