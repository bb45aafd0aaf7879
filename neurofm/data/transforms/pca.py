"""Principal components over channels, learned from the training part: what is not among the leading ones is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.data.transforms.fitting import Pool, check_per, fitted_on, moments, n_samples_of, pools, values_of
from neurofm.schema.errors import ConfigError, DataError

# Numbers that may be held while fitting: the smaller of samples² and channels², and samples × channels for the former.
MAX_HELD = 1 << 28
# variances below this share of the largest are rounding, not signal
NEGLIGIBLE = 1e-12


class Axes(NamedTuple):
    """Mean [C], components [K, C] by falling variance (orthonormal rows) and their variances [K], float64."""

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray


@dataclass(kw_only=True)
class Pca(Transform):
    """Project each sample onto the leading principal components of the fitted spans.

    A window keeps its channels, so that models, positions and names stay what they are: what comes out is
    mean + (x − mean) · Vᵀ · V, in the physical unit, and without the mean when `whiten`, where each component is
    divided by its standard deviation before it returns to the channels. `scores` gives the components themselves.

    Parameters
    ----------
    n_components : int, optional
        How many are kept; no more than there are with any variance. Default as many as `variance` asks for.
    variance : float
        Without `n_components`: the fewest that explain this share, 0 to 1.
    whiten : bool
        Give every kept component variance one.
    per : str
        "subject": fitted spans of all recordings of a person with the same channels are pooled and hold for every
        recording of that person with those channels; or "recording".
    """

    name: ClassVar[str] = "pca"
    learns: ClassVar[bool] = True
    n_components: int | None = None
    variance: float = 0.99
    whiten: bool = False
    per: str = "subject"
    _fitted: dict[str, Axes] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        check_per(self.per, self.name)
        if self.n_components is not None and not (isinstance(self.n_components, int) and self.n_components >= 1):
            raise ConfigError(f"pca: n_components is {self.n_components}; expected a whole number of 1 or more")
        if not 0 < self.variance <= 1:
            raise ConfigError(f"pca: variance is {self.variance}; expected a share above 0 and up to 1")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Read the spans once and keep their leading components."""
        super().fit(dataset, spans, allowed=allowed)
        for pool in pools(dataset, spans, per=self.per, transform=self.name):
            mean, values, vectors = _decompose(dataset, pool)
            n = self._n_kept(values)
            for r, order in pool.holders:
                self._fitted[r] = Axes(mean[order], vectors[:n, order], values[:n])

    def _n_kept(self, values: np.ndarray) -> int:
        there = int((values > NEGLIGIBLE * values[0]).sum()) if values[0] > 0 else 0
        if self.n_components is not None:
            return min(self.n_components, there)
        shares = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
        return min(int(np.searchsorted(shares, self.variance - NEGLIGIBLE)) + 1, there)

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return what the kept components hold, shape (T, C)."""
        known = self.axes(recording_id, values.shape[1])
        back = self.scores(values, recording_id) @ known.components
        return (back if self.whiten else back + known.mean).astype(np.float32)

    def scores(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return the components of a window, shape (T, K), float64; those of variance one when `whiten`."""
        known = self.axes(recording_id, values.shape[1])
        scores = (values - known.mean) @ known.components.T
        return scores / np.sqrt(known.variance) if self.whiten else scores

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return the window in its physical unit; what was not in the kept components is gone."""
        if not self.whiten:
            return values
        known = self.axes(recording_id, values.shape[1])
        scores = values.astype(np.float64) @ known.components.T * np.sqrt(known.variance)
        return (scores @ known.components + known.mean).astype(np.float32)

    def axes(self, recording_id: str, n_channels: int) -> Axes:
        """Components of a fitted recording, in the order of its good channels.

        Raises
        ------
        DataError
            When the recording was never fitted, or has another number of channels.
        """
        return fitted_on(
            self._fitted, recording_id, n_channels, mean="mean", transform="pca",
            where="a part of this subject that may be looked at",
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Mean, components and variances of every fitted recording."""
        return {r: {k: v.tolist() for k, v in axes._asdict().items()} for r, axes in sorted(self._fitted.items())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take what was fitted."""
        self._fitted = {}
        for r, axes in state.items():
            mean, variance = (np.array(axes[k], np.float64) for k in ("mean", "variance"))
            components = np.array(axes["components"], np.float64).reshape(len(variance), len(mean))
            self._fitted[r] = Axes(mean, components, variance)


def _decompose(dataset: Dataset, pool: Pool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean [C], variances by falling size [K] and orthonormal rows [K, C], K = min(samples, C).

    Exact either way: from the covariance of channels, summed block by block, or with fewer samples than channels
    (voxels) from the products of samples.
    """
    n, n_channels = n_samples_of(dataset, pool), len(pool.names)
    if n < 2:
        raise DataError(f"transform 'pca': the spans of '{pool.group}' hold {n} samples; expected 2 or more")
    if min(n, n_channels) * n_channels > MAX_HELD:
        raise DataError(
            f"transform 'pca': {n_channels} channels of {n} samples of '{pool.group}' do not fit in memory; prepare "
            "fewer channels (a mask, parcels) or fit on fewer spans"
        )
    blocks = (block.astype(np.float64) for block in values_of(dataset, pool))
    if n >= n_channels:
        mean, covariance = moments(blocks, f"transform 'pca': the spans of '{pool.group}'")
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1], vectors[:, ::-1].T
    else:
        x = np.concatenate(list(blocks))
        mean = x.mean(axis=0)
        _, size, vectors = np.linalg.svd(x - mean, full_matrices=False)
        values = size**2 / n
    # a component and its negative are the same: the largest weight is positive
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1, keepdims=True), axis=1)
    return mean, np.maximum(values, 0), vectors * np.where(largest < 0, -1.0, 1.0)
