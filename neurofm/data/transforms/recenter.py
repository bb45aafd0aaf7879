"""Alignment of people by the mean of their covariances: each person's becomes the identity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.data.transforms.fitting import fitted_on, names_of
from neurofm.data.windows import stretches
from neurofm.schema.errors import ConfigError, DataError, nearest

MEANS = ("euclidean", "riemannian")
# a mean over more trials than this moves no more, and the Riemannian one costs an eigendecomposition for each
MOST = 500


@dataclass(kw_only=True)
class Recenter(Transform):
    """Multiply each window's channels by R^(−1/2), R the mean covariance of a person's fitted trials.

    With ``mean="euclidean"`` R is the arithmetic mean: Euclidean alignment (He & Wu 2020, IEEE TBME 67:399, eq. 10 and
    11). With ``mean="riemannian"`` it is the geometric mean of the affine-invariant metric: Riemannian re-centring
    (Zanini et al. 2018, IEEE TBME 65:1107). Covariances are of single windows of the fitted spans, without their mean,
    shrunk towards the mean variance so that short ones have an inverse. Labels are never looked at.

    A person's recordings with the same good channels, in any order, share R, so a test recording is aligned by its calibration.

    Parameters
    ----------
    mean : str
        "euclidean" or "riemannian".
    window_s : float
        Length of the pieces that covariances are taken of; a shorter trial is one piece.
    shrinkage : float
        From 0 to 1.
    per : str
        "subject", or "recording".
    """

    name: ClassVar[str] = "recenter"
    learns: ClassVar[bool] = True
    mean: str = "euclidean"
    window_s: float = 2.0
    shrinkage: float = 0.05
    per: str = "subject"
    _fitted: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise ConfigError(f"recenter: mean '{self.mean}' is unknown: {nearest(self.mean, MEANS)}")
        if self.per not in ("subject", "recording"):
            raise ConfigError(f"recenter: per is '{self.per}'; expected 'subject' or 'recording'")
        if not 0 <= self.shrinkage <= 1 or not self.window_s > 0:
            raise ConfigError(
                f"recenter: shrinkage is {self.shrinkage}, window_s {self.window_s}; expected 0 to 1, and above 0"
            )

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Average the covariances of each person's spans; spans outside `allowed` are refused."""
        super().fit(dataset, spans, allowed=allowed)
        groups: dict[tuple[str, frozenset[str]], list[Span]] = defaultdict(list)
        for span in sorted(set(spans)):
            r = span.recording_id
            groups[dataset.subject(r) if self.per == "subject" else r, frozenset(names_of(dataset, r))].append(span)
        for (group, known), members in groups.items():
            order = sorted(known)
            inverse_root = self._inverse_root(self._covariances(dataset, members, order), group)
            for r in dataset.select(subject=group) if self.per == "subject" else [group]:
                names = names_of(dataset, r)
                if frozenset(names) == known:
                    at = [order.index(n) for n in names]
                    self._fitted[r] = inverse_root[np.ix_(at, at)]

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (values − their mean over the window) · R^(−1/2)."""
        matrix = self._matrix(recording_id, values.shape[1])
        return ((values - values.mean(axis=0, dtype=np.float64)) @ matrix).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """Matrices by recording."""
        return {"recordings": {r: m.tolist() for r, m in self._fitted.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`."""
        self._fitted = {r: np.asarray(m, np.float64) for r, m in state["recordings"].items()}

    def _matrix(self, recording_id: str, n_channels: int) -> np.ndarray:
        where = "a part of this subject that may be looked at"
        return fitted_on(self._fitted, recording_id, n_channels, transform="recenter", where=where)

    def _covariances(self, dataset: Dataset, spans: Sequence[Span], order: Sequence[str]) -> np.ndarray:
        """Shrunk covariances of the pieces of all spans, (piece, C, C), channels in this order."""
        pieces = []
        for span in spans:
            rate = dataset.rate_hz(span.recording_id)
            for origin, first, last in stretches(dataset, span):
                n = min(last - first, max(2, round(self.window_s * rate)))
                pieces += [(span.recording_id, origin + at / rate, n) for at in range(first, last - n + 1, n)]
        if len(pieces) > MOST:
            pieces = [pieces[i] for i in np.linspace(0, len(pieces) - 1, MOST).astype(int)]
        made = []
        for r, start_s, n in pieces:
            x = dataset.read(r, start_s, n).astype(np.float64)
            x = x[:, [names_of(dataset, r).index(name) for name in order]]
            x -= x.mean(axis=0)
            s = x.T @ x / len(x)
            level = np.trace(s) / len(s)
            if level > 0:
                made.append((1 - self.shrinkage) * s + self.shrinkage * level * np.eye(len(s)))
        return np.array(made)

    def _inverse_root(self, covariances: np.ndarray, group: str) -> np.ndarray:
        if not len(covariances):
            raise DataError(f"transform 'recenter': the signal of '{group}' does not vary in the fitted spans")
        if self.mean == "euclidean":
            r = covariances.mean(axis=0)
        else:
            from pyriemann.geometry.mean import mean_riemann

            # a scale near one, which the iteration's tolerance is made for
            scale = float(np.trace(covariances.mean(axis=0))) / covariances.shape[1]
            r = scale * mean_riemann(covariances / scale)
        values, vectors = np.linalg.eigh(r)
        if values[0] <= 1e-12 * values[-1]:
            raise DataError(
                f"transform 'recenter': the mean covariance of '{group}' has no inverse (a channel is a sum of others, as "
                "after an average reference); raise shrinkage"
            )
        return (vectors / np.sqrt(values)) @ vectors.T
