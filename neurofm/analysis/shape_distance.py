"""Distances between stochastic representations that ignore rotations (Duong et al. 2023, ICLR).

A network's response to condition i is normal with mean μ_i and covariance Σ_i. Between two networks

    d² = min_T (1/M) Σ_i [ α ‖μ_i − ν_i T‖² + (2 − α) B²(Σ_i, Tᵀ Λ_i T) ],  T orthogonal,

B the Bures distance; α 2 compares means alone, 1 is the 2-Wasserstein distance, 0 compares covariances alone.

The minimum is looked for by alternating two Procrustes problems, which ends in local minima: with α 0 a rotated copy is
found from one random start in four. So there are 30 starts, from both sides, and the smaller result counts; the triangle
inequality holds up to what they still miss.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError

Array = NDArray[np.float64]
JITTER = 1e-6


def bures(first: ArrayLike, second: ArrayLike) -> float:
    """Squared Bures distance of two covariances: tr A + tr B − 2 ‖A^½ B^½‖ in the nuclear norm."""
    a, b = roots(np.asarray(first, np.float64)[None])[0], roots(np.asarray(second, np.float64)[None])[0]
    return float(max(0.0, (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b, compute_uv=False).sum()))


def roots(covariances: Array) -> Array:
    """Symmetric square roots, shape (condition, unit, unit)."""
    values, vectors = np.linalg.eigh((covariances + covariances.transpose(0, 2, 1)) / 2)
    if values.min() < -1e-6 * max(values.max(), 1.0):
        raise DataError(f"shape distance: a covariance has the eigenvalue {values.min():.3g}; expected none below 0")
    return (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.transpose(0, 2, 1)


def moments(responses: ArrayLike) -> tuple[Array, Array]:
    """Means (condition, unit) and covariances (condition, unit, unit) of responses (condition, repeat, unit)."""
    x = np.asarray(responses, np.float64)
    if x.ndim != 3 or x.shape[1] < 2:
        raise DataError(
            f"shape distance: responses of shape {x.shape}; expected (condition, repeat, unit), two repeats"
        )
    away = x - x.mean(1, keepdims=True)
    covariance = np.einsum("crn,crm->cnm", away, away) / (x.shape[1] - 1)
    return x.mean(1), covariance + JITTER * np.eye(x.shape[2])


def shape_distance(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    alpha: float = 1.0,
    n_starts: int = 30,
    max_iter: int = 500,
    tol: float = 1e-9,
    seed: int = 0,
) -> float:
    """Distance of two stochastic representations of the same conditions.

    Parameters
    ----------
    first, second : pair of array_like
        Means (condition, unit) and covariances (condition, unit, unit). The smaller network is padded with silent units;
        means are centred over conditions.
    alpha : float
        0 to 2; see the module.
    n_starts, max_iter, tol, seed
        Random rotations to start from (the identity is one), rounds of each, relative gain that ends it.
    """
    if not 0 <= alpha <= 2 or n_starts < 1:
        raise ConfigError(f"shape distance: alpha is {alpha}, n_starts {n_starts}; expected 0 to 2, and 1 or more")
    a, b = (_prepared(*x) for x in (first, second))
    if len(a[0]) != len(b[0]):
        raise DataError(f"shape distance: {len(a[0])} conditions against {len(b[0])}; both must be of the same ones")
    width = max(a[0].shape[1], b[0].shape[1])
    a, b = _padded(a, width), _padded(b, width)
    rng = np.random.default_rng(seed)
    starts = [np.eye(width)]
    starts += [np.linalg.qr(rng.standard_normal((width, width)))[0] for _ in range(n_starts - 1)]
    best = min(_minimum(x, y, t, alpha, max_iter, tol) for x, y in ((a, b), (b, a)) for t in starts)
    return float(np.sqrt(max(best, 0.0)))


def _prepared(means: ArrayLike, covariances: ArrayLike) -> tuple[Array, Array]:
    m, c = np.asarray(means, np.float64), np.asarray(covariances, np.float64)
    if m.ndim != 2 or c.shape != (*m.shape, m.shape[1]) or not (np.isfinite(m).all() and np.isfinite(c).all()):
        raise DataError(
            f"shape distance: means {m.shape}, covariances {c.shape}; expected (condition, unit), (…, unit, unit)"
        )
    return m - m.mean(0), roots(c)


def _padded(x: tuple[Array, Array], width: int) -> tuple[Array, Array]:
    more = width - x[0].shape[1]
    return np.pad(x[0], ((0, 0), (0, more))), np.pad(x[1], ((0, 0), (0, more), (0, more)))


def _minimum(
    a: tuple[Array, Array], b: tuple[Array, Array], turn: Array, alpha: float, max_iter: int, tol: float
) -> float:
    """Alternate: best turns of each condition's root, then the one rotation of everything."""
    (mu, p), (nu, q) = a, b
    cross = alpha * nu.T @ mu
    last = np.inf
    for _ in range(max_iter):
        # Tᵀ Λ T has the root Tᵀ Λ^½ T, and any orthogonal factor in front of it is free
        moved = q @ turn
        u, s, v = np.linalg.svd(moved @ p.transpose(0, 2, 1))
        free = (u @ v).transpose(0, 2, 1)
        value = (
            alpha * ((mu - nu @ turn) ** 2).sum() + (2 - alpha) * ((p**2).sum() + (q**2).sum() - 2 * s.sum())
        ) / len(mu)
        if last - value <= tol * max(abs(last), 1e-12) and np.isfinite(last):
            return float(min(value, last))
        last = value
        # maximise tr Tᵀ [α νᵀμ + (2 − α) Σ (free q)ᵀ p]
        total = cross + (2 - alpha) * ((free @ q).transpose(0, 2, 1) @ p).sum(0)
        left, _, right = np.linalg.svd(total)
        turn = left @ right
    return float(last)
