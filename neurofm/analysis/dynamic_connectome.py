"""Which networks of cells are active when, and in which animals (Dyballa et al. 2024, ICLR).

Affinities of every pair of cells at every moment, of all animals, form a non-negative tensor; its non-negative factors are
networks, their courses in time, and their strengths in the animals. The published affinity could not be verified; here it
is the product of two cells' smoothed, robustly scaled derivatives where both rise or both fall, and 0 elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Factors, strongest first.

    Attributes
    ----------
    network : array, shape (rank, cell, cell)
        Symmetric, largest entry 1.
    course : array, shape (rank, block)
        Largest entry 1.
    animal : array, shape (rank, animal)
        Strengths.
    explained : float
        Share of the squared affinities (where they are known) that the factors account for.
    """

    network: Array
    course: Array
    animal: Array
    explained: float


def derivatives(traces: ArrayLike, *, rate_hz: float, sd_s: float = 1.0) -> Array:
    """Smoothed derivatives of traces (time, cell), divided by 1.48 times their median absolute deviation."""
    from scipy.ndimage import gaussian_filter1d

    x = np.asarray(traces, np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"dynamic connectome: traces of shape {x.shape}; expected finite values (time, cell)")
    d = gaussian_filter1d(x, sd_s * rate_hz, axis=0, order=1) * rate_hz
    spread = 1.4826 * np.median(np.abs(d - np.median(d, axis=0)), axis=0)
    return d / np.where(spread > 0, spread, 1.0)


def affinities(traces: ArrayLike, *, rate_hz: float, sd_s: float = 1.0, block_s: float = 5.0) -> Array:
    """Mean over blocks of time of max(0, d_i d_j), where d_i and d_j have one sign.

    Returns
    -------
    array, shape (pair, block)
        Pairs as ``np.triu_indices(cell, 1)``.
    """
    d = derivatives(traces, rate_hz=rate_hz, sd_s=sd_s)
    size = round(block_s * rate_hz)
    n_blocks = len(d) // max(size, 1)
    if size < 1 or n_blocks < 2:
        raise ConfigError(f"dynamic connectome: block_s is {block_s}; {len(d)} samples make fewer than two such blocks")
    i, j = np.triu_indices(d.shape[1], 1)
    out = np.empty((len(i), n_blocks))
    for b in range(n_blocks):
        x = d[b * size : (b + 1) * size]
        # Σ max(0, xy) = (Σ xy + Σ |x||y|) / 2, one product each instead of all pairs at all times
        out[:, b] = ((x.T @ x + np.abs(x).T @ np.abs(x)) / (2 * size))[i, j]
    return out


def factorise(tensor: ArrayLike, *, rank: int, n_starts: int = 3, n_rounds: int = 20, seed: int = 0) -> Networks:
    """Non-negative factors of affinities (tensorly's hierarchical alternating least squares).

    Parameters
    ----------
    tensor : array_like, shape (animal, pair, block)
        NaN where a cell was not recorded in an animal: such entries are filled by the factors themselves, round by round
        (expectation–maximisation), and do not count.
    rank : int
        Number of networks.
    n_starts, n_rounds, seed : int
        Random starts of which the best is kept, rounds of filling in.

    Raises
    ------
    DataError
        When the tensor is negative, or a pair was recorded in no animal.
    """
    try:
        import tensorly as tl
        from tensorly.decomposition import non_negative_parafac_hals
    except ImportError as error:
        raise ConfigError("dynamic connectome needs tensorly (pip install neurofm[spikes])") from error
    x = np.asarray(tensor, np.float64)
    known = np.isfinite(x)
    if x.ndim != 3 or rank < 1 or (x[known] < 0).any():
        raise DataError(
            f"dynamic connectome: a tensor of shape {x.shape}; expected (animal, pair, block), none below 0"
        )
    if not known.any((0, 2)).all():
        raise DataError("dynamic connectome: a pair of cells was recorded together in no animal; leave it out")
    # a pair's mean over the animals that have it is the first guess for those that do not
    mean = np.broadcast_to(np.nanmean(np.where(known, x, np.nan), axis=0), x.shape)
    total = (x[known] ** 2).sum()
    best: tuple[float, list[Array]] | None = None
    for start in range(n_starts):
        filled = np.where(known, x, mean)
        factors = non_negative_parafac_hals(
            tl.tensor(filled), rank, n_iter_max=100, init="random", random_state=seed + start, tol=1e-7
        )
        if not known.all():
            for _ in range(n_rounds):
                filled = np.where(known, x, tl.cp_to_tensor(factors))
                factors = non_negative_parafac_hals(tl.tensor(filled), rank, n_iter_max=10, init=factors, tol=1e-7)
        miss = ((x - tl.cp_to_tensor(factors))[known] ** 2).sum()
        if best is None or miss < best[0]:
            scale = np.asarray(factors[0])
            best = (float(miss), [np.asarray(f) * (scale if k == 0 else 1.0) for k, f in enumerate(factors[1])])
    assert best is not None
    animal, pair, course = best[1]
    sizes = [np.where(f.max(0) > 0, f.max(0), 1.0) for f in (pair, course)]
    animal = animal * sizes[0] * sizes[1]
    order = np.argsort(-animal.sum(0))
    return Networks(
        network=np.stack([_square(p) for p in (pair / sizes[0]).T[order]]),
        course=(course / sizes[1]).T[order],
        animal=animal.T[order],
        explained=1 - best[0] / total,
    )


def communities(network: ArrayLike, *, n_groups: int, seed: int = 0) -> NDArray[np.int64]:
    """Group of each cell in a network, shape (cell,), by spectral clustering (the paper: nested block models)."""
    from sklearn.cluster import SpectralClustering

    w = np.asarray(network, np.float64)
    # a cell that is tied to nobody would split the graph
    w = w + 1e-6 * w.max()
    labels = SpectralClustering(n_groups, affinity="precomputed", random_state=seed, assign_labels="kmeans").fit(w)
    return np.asarray(labels.labels_, np.int64)


def _square(pairs: Array) -> Array:
    n = round((1 + np.sqrt(1 + 8 * len(pairs))) / 2)
    out = np.zeros((n, n))
    out[np.triu_indices(n, 1)] = pairs
    return out + out.T
