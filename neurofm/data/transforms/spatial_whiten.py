"""Slow waves with the common part of neighbouring sensors taken out: low-pass, then decorrelate over channels."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.signal import butter, sosfiltfilt

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.data.transforms.fitting import check_per, fitted_on, moments, pools, values_of
from neurofm.schema.errors import ConfigError

FILTER_ORDER = 4
# eigenvalues below this share of the largest are rounding, not signal
NEGLIGIBLE = 1e-12


class Whitening(NamedTuple):
    """Mean [C], symmetric matrix [C, C], both float64, and the rate that the filter is made for."""

    mean: np.ndarray
    matrix: np.ndarray
    rate_hz: float


@dataclass(kw_only=True)
class SpatialWhiten(Transform):
    """Low-pass each window, then whiten over channels (ZCA) with a covariance shrunk towards its mean variance.

    The window is filtered on its own, so nothing outside it has a part in it. With C channels of covariance S
    (population, of the fitted spans after the filter) the matrix is S'^(-1/2) / σ, where
    S' = (1 − shrinkage) · S + shrinkage · tr(S) / C · I, and σ makes the overall variance of the fitted spans one.
    With one channel that is a z-score. Labels are never looked at.

    Parameters
    ----------
    lowpass_hz : float, optional
        Edge of a Butterworth filter of order 4, run forwards and backwards (zero phase); None for no filter.
    shrinkage : float
        From 0, the plain covariance, to 1, one factor for all channels.
    per : str
        "subject": fitted spans of all recordings of a person with the same channel names are pooled and hold for
        every recording of that person with those names (so for an official test recording, from the training
        recordings); or "recording".
    """

    name: ClassVar[str] = "spatial_whiten"
    learns: ClassVar[bool] = True
    lowpass_hz: float | None = None
    shrinkage: float = 0.05
    per: str = "subject"
    _fitted: dict[str, Whitening] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_per(self.per, self.name)
        if not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"spatial_whiten: shrinkage is {self.shrinkage}; expected a number from 0 to 1")
        if self.lowpass_hz is not None and not self.lowpass_hz > 0:
            raise ConfigError(f"spatial_whiten: lowpass_hz is {self.lowpass_hz}; expected a number above 0, or null")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Filter the spans, each stretch on its own, and keep what their covariance gives."""
        super().fit(dataset, spans, allowed=allowed)
        for pool in pools(dataset, spans, per=self.per, transform=self.name):
            filtered = (self._lowpass(x, pool.rate_hz) for x in values_of(dataset, pool))
            mean, covariance = moments(filtered, f"transform 'spatial_whiten': the spans of '{pool.group}'")
            for r, order in pool.holders:
                matrix = whitening_matrix(covariance[np.ix_(order, order)], self.shrinkage)
                self._fitted[r] = Whitening(mean[order], matrix, pool.rate_hz)

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (low-passed − mean) · matrix."""
        known = self.whitening(recording_id, values.shape[1])
        return ((self._lowpass(values, known.rate_hz) - known.mean) @ known.matrix).astype(np.float32)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return the low-passed signal in its physical unit; what the filter took away is gone."""
        known = self.whitening(recording_id, values.shape[1])
        return (np.linalg.solve(known.matrix, values.T.astype(np.float64)).T + known.mean).astype(np.float32)

    def whitening(self, recording_id: str, n_channels: int) -> Whitening:
        """Mean and matrix of a fitted recording, in the order of its good channels.

        Raises
        ------
        DataError
            When the recording was never fitted, or has another number of channels.
        """
        return fitted_on(
            self._fitted, recording_id, n_channels, mean="mean", transform="spatial_whiten",
            where="a part of this subject that may be looked at",
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Mean, matrix and rate of every fitted recording."""
        return {
            r: {"mean": w.mean.tolist(), "matrix": w.matrix.tolist(), "rate_hz": w.rate_hz}
            for r, w in sorted(self._fitted.items())
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take what was fitted."""
        self._fitted = {
            r: Whitening(np.array(w["mean"], np.float64), np.array(w["matrix"], np.float64), float(w["rate_hz"]))
            for r, w in state.items()
        }

    def _lowpass(self, values: np.ndarray, rate_hz: float) -> np.ndarray:
        x = values.astype(np.float64)
        if self.lowpass_hz is None:
            return x
        if not self.lowpass_hz < rate_hz / 2:
            raise ConfigError(
                f"spatial_whiten: lowpass_hz={self.lowpass_hz:g} must lie below half the rate, {rate_hz / 2:g} Hz"
            )
        sos = _filter(self.lowpass_hz, rate_hz)
        # scipy's own padding, shortened for windows that are not longer than it
        return sosfiltfilt(sos, x, axis=0, padlen=min(3 * (2 * len(sos) + 1), len(x) - 1))


@functools.lru_cache
def _filter(lowpass_hz: float, rate_hz: float) -> np.ndarray:
    """Second-order sections; designing them takes longer than filtering a window."""
    return butter(FILTER_ORDER, lowpass_hz, fs=rate_hz, output="sos")


def whitening_matrix(covariance: np.ndarray, shrinkage: float) -> np.ndarray:
    """Inverse square root of the shrunk covariance [C, C], scaled to an overall variance of one.

    A flat recording, of covariance 0, gives the identity: it becomes zeros and not noise of rounding.
    """
    n = len(covariance)
    level = np.trace(covariance) / n
    if not level > 0:
        return np.eye(n)
    shrunk = (1 - shrinkage) * covariance + shrinkage * level * np.eye(n)
    values, vectors = np.linalg.eigh(shrunk)
    # a direction without any signal stays without
    factor = np.where(values > NEGLIGIBLE * values[-1], np.maximum(values, NEGLIGIBLE * values[-1]) ** -0.5, 1.0)
    matrix = (vectors * factor) @ vectors.T
    return matrix / np.sqrt(np.einsum("ij,jk,ik->", matrix, covariance, matrix) / n)
