"""Representational geometry: dissimilarity matrices, their comparison (RSA), and their topology (tRSA).

Kriegeskorte et al. 2008 (RSA); Lin & Kriegeskorte 2024, "The topology and geometry of neural representations" (tRSA).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError, nearest

Array = NDArray[np.float64]
METRICS = ("correlation", "euclidean", "crossvalidated")


def rdm(responses: ArrayLike, *, metric: str = "correlation") -> Array:
    """Dissimilarity of every two conditions, shape (condition, condition).

    Parameters
    ----------
    responses : array_like, shape (condition, unit), or (2, condition, unit) for "crossvalidated"
        Mean responses; for "crossvalidated" those of two independent halves of the trials.
    metric : str
        "correlation": 1 − r. "euclidean": mean squared difference per unit. "crossvalidated": the product of the two
        halves' differences, whose mean is the squared distance without the bias of noise; it may be below 0.
    """
    if metric not in METRICS:
        raise ConfigError(f"rdm: metric '{metric}' is unknown: {nearest(str(metric), METRICS)}")
    x = np.asarray(responses, np.float64)
    wanted = 3 if metric == "crossvalidated" else 2
    if x.ndim != wanted or x.shape[-2] < 3 or not np.isfinite(x).all() or (wanted == 3 and len(x) != 2):
        raise DataError(f"rdm: responses of shape {x.shape}; expected finite values of three conditions or more")
    if metric == "correlation":
        z = x - x.mean(1, keepdims=True)
        size = np.linalg.norm(z, axis=1)
        if not (size > 0).all():
            raise DataError(f"rdm: condition {int(np.argmin(size))} has the same response in all units; use euclidean")
        out = 1 - (z @ z.T) / np.outer(size, size)
    elif metric == "euclidean":
        out = ((x[:, None] - x[None]) ** 2).mean(-1)
    else:
        a, b = (h[:, None] - h[None] for h in x)
        out = (a * b).mean(-1)
    np.fill_diagonal(out, 0.0)
    return (out + out.T) / 2


def upper(matrix: ArrayLike) -> Array:
    """Entries above the diagonal, one vector."""
    m = np.asarray(matrix, np.float64)
    if m.ndim != 2 or m.shape[0] != m.shape[1]:
        raise DataError(f"a dissimilarity matrix of shape {m.shape} is not square")
    return m[np.triu_indices(len(m), 1)]


def geotopology(matrix: ArrayLike, *, low: float = 0.1, high: float = 0.9) -> Array:
    """Keep who is near to whom and forget how far the far ones are: 0 up to one quantile, 1 from another on.

    Parameters
    ----------
    matrix : array_like, shape (condition, condition)
    low, high : float
        Quantiles of the dissimilarities; linear in between. ``low = high`` gives a graph of neighbours.
    """
    if not 0 <= low <= high <= 1:
        raise ConfigError(f"geotopology: low is {low}, high {high}; expected 0 <= low <= high <= 1")
    m = np.asarray(matrix, np.float64)
    a, b = np.quantile(upper(m), [low, high])
    out = (m > a).astype(np.float64) if b <= a else np.clip((m - a) / (b - a), 0.0, 1.0)
    np.fill_diagonal(out, 0.0)
    return out


def compare_rdms(a: ArrayLike, b: ArrayLike, *, method: str = "spearman") -> float:
    """Agreement of two dissimilarity matrices: "spearman", "pearson", or "cosine" (for cross-validated ones)."""
    x, y = upper(a), upper(b)
    if x.shape != y.shape:
        raise DataError(
            f"RSA: the matrices are of {np.shape(a)[0]} and {np.shape(b)[0]} conditions; they must be the same"
        )
    if method == "spearman":
        from scipy.stats import rankdata

        x, y = rankdata(x), rankdata(y)
    elif method not in ("pearson", "cosine"):
        raise ConfigError(
            f"RSA: method '{method}' is unknown: {nearest(str(method), ('spearman', 'pearson', 'cosine'))}"
        )
    if method != "cosine":
        x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size > 0 else float("nan")


def rsa(
    first: ArrayLike, second: ArrayLike, *, n_permutations: int = 1000, seed: int = 0, method: str = "spearman"
) -> tuple[float, float]:
    """Agreement of two dissimilarity matrices, and how often one with its conditions shuffled agrees as well.

    Returns
    -------
    agreement : float
    p : float
        One-sided, the observed order counted among the shuffled ones.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    found = compare_rdms(a, b, method=method)
    rng = np.random.default_rng(seed)
    null = []
    for _ in range(n_permutations):
        order = rng.permutation(len(b))
        null.append(compare_rdms(a, b[np.ix_(order, order)], method=method))
    return found, float((1 + np.sum(np.array(null) >= found - 1e-12)) / (1 + n_permutations))


def noise_ceiling(matrices: Sequence[ArrayLike], *, method: str = "spearman") -> tuple[float, float]:
    """How well any model can agree with several people's matrices, lower and upper bound (Nili et al. 2014).

    The lower bound compares each person with the mean of the others, the upper with the mean of all.
    """
    m = np.stack([np.asarray(x, np.float64) for x in matrices])
    if len(m) < 2:
        raise DataError("noise ceiling: expected the matrices of two people or more")
    from scipy.stats import rankdata

    # ranks are averaged where ranks are compared
    v = np.stack([rankdata(upper(x)) if method == "spearman" else upper(x) for x in m])
    if method != "cosine":
        v = v - v.mean(1, keepdims=True)
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    total = v.sum(0)

    def agreement(i: int, other: Array) -> float:
        return compare_rdms(m[i], _square(other, m.shape[1]), method=method)

    return (
        float(np.mean([agreement(i, total - v[i]) for i in range(len(m))])),
        float(np.mean([agreement(i, total) for i in range(len(m))])),
    )


def _square(values: Array, n: int) -> Array:
    out = np.zeros((n, n))
    out[np.triu_indices(n, 1)] = values
    return out + out.T
