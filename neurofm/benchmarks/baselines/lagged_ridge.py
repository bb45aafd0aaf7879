"""Ridge regression on lagged regions from one Gram matrix per person, so that people add and targets share a solve."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from neurofm.schema.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Gram:
    """Sums over time that ridge needs: ``G = FᵀF`` and ``B = FᵀY``; those of several people add up.

    Attributes
    ----------
    G : array, shape (lag · region, lag · region)
    B : array, shape (lag · region, region)
    n : int
        Number of time points summed.
    """

    G: NDArray[np.float64]
    B: NDArray[np.float64]
    n: int

    def __add__(self, other: Gram) -> Gram:
        return Gram(G=self.G + other.G, B=self.B + other.B, n=self.n + other.n)


def add_up(parts: Iterable[Gram]) -> Gram:
    """Sum of Gram matrices; at least one."""
    total: Gram | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise DataError("ridge: there is nobody to learn from; give at least one run")
    return total


def lagged(values: ArrayLike, lags: Sequence[int]) -> tuple[NDArray[np.float64], int, int]:
    """Features of every time point that has all its lags.

    Parameters
    ----------
    values : array_like, shape (..., time, region)
    lags : sequence of int
        In volumes; −1 is the volume before, +1 the volume after.

    Returns
    -------
    features : array, shape (..., stop − start, lag · region)
        Lag-major: column ``i · region + r`` is region r at lag i.
    start, stop : int
        The time points they belong to.
    """
    x = np.asarray(values, dtype=np.float64)
    length = x.shape[-2]
    start, stop = max(0, -min(lags)), length - max(0, *lags)
    if stop <= start:
        raise DataError(f"ridge: {length} volumes are too few for lags {list(lags)}")
    return np.concatenate([x[..., start + k : stop + k, :] for k in lags], axis=-1), start, stop


def gram(values: ArrayLike, lags: Sequence[int]) -> Gram:
    """Gram matrix of one run of normalised values, shape (time, region)."""
    x = np.asarray(values, dtype=np.float64)
    features, start, stop = lagged(x, lags)
    return Gram(G=features.T @ features, B=features.T @ x[start:stop], n=stop - start)


def solve(data: Gram, penalty: float, prior: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Weights W that minimise ``‖Y − F W‖² + penalty ‖W − prior‖²``, shape (feature, region)."""
    system = data.G + penalty * np.eye(len(data.G))
    right = data.B if prior is None else data.B + penalty * prior
    return cho_solve(cho_factor(system, lower=True), right)


def solve_without_target(
    data: Gram, penalty: float, targets: Sequence[int], prior: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """As `solve`, but each target's own region (at every lag) is left out of its features.

    One inverse P = (G + penalty I)⁻¹ serves all targets: leaving out the features S of a target is the block identity
    ``w ← w − P[:, S] P[S, S]⁻¹ w[S]`` with ``w = P b`` and b[S] = 0, which leaves exact zeros at S.

    Returns
    -------
    array, shape (lag · region, target)
    """
    n_regions = data.B.shape[1]
    n_lags = len(data.G) // n_regions
    right = data.B[:, targets].copy()
    if prior is not None:
        right += penalty * prior
    left_out = [np.arange(n_lags) * n_regions + target for target in targets]
    for column, S in enumerate(left_out):
        right[S, column] = 0.0
    factor = cho_factor(data.G + penalty * np.eye(len(data.G)), lower=True)
    P = cho_solve(factor, np.eye(len(data.G)))
    W = cho_solve(factor, right)
    for column, S in enumerate(left_out):
        W[:, column] -= P[:, S] @ np.linalg.solve(P[np.ix_(S, S)], W[S, column])
        W[S, column] = 0.0
    return W
