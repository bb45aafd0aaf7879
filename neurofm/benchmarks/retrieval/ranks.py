"""Retrieval: which of the gallery's stimuli was shown? Ranks and what is made of them.

Shape legend: n queries, K candidates, D embedding (flattened).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurofm.benchmarks.stats.intervals import Interval, bootstrap
from neurofm.schema.errors import DataError

# queries per block of similarities
BLOCK = 512


def cosine(queries: NDArray, gallery: NDArray) -> NDArray[np.float64]:
    """Cosine of every query with every candidate, (n, K); both are flattened, a zero vector has cosine 0."""
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (queries, gallery))
    a = a / np.maximum(np.linalg.norm(a, axis=1, keepdims=True), 1e-30)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-30)
    return a @ b.T


def ranks_of(similarity: NDArray, target: NDArray) -> NDArray[np.float64]:
    """Rank of the right candidate, 0 = first; among ties the mean of the places they share.

    (number greater + number greater or equal − 1) / 2, so a decoder that gives every candidate the same similarity is
    at chance and not always right.
    """
    own = np.take_along_axis(similarity, np.asarray(target)[:, None], axis=1)
    return ((similarity > own).sum(axis=1) + (similarity >= own).sum(axis=1) - 1) / 2


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """What ranks say.

    Attributes
    ----------
    ranks : ndarray, shape (n,)
        0 = first.
    n_candidates : int
        Size of the gallery.
    top : dict of int to Interval
        k → share of queries ranked below k, with its interval over stimuli.
    median_rank, mrr : float
        Median of the rank counted from 1; mean of 1 / rank.
    hubness : float
        Skewness of how often each candidate is among the first ten: high when a few candidates are always found.
    """

    ranks: NDArray[np.float64]
    n_candidates: int
    top: dict[int, Interval]
    median_rank: float
    mrr: float
    hubness: float

    def chance(self, k: int) -> float:
        """Share expected without any signal."""
        return min(1.0, k / self.n_candidates)


def retrieve(
    queries: NDArray, gallery: NDArray, target: NDArray, *, ks: Sequence[int] = (1, 5, 10), unit: NDArray | None = None
) -> Retrieval:
    """Rank the gallery for every query by cosine.

    Parameters
    ----------
    queries, gallery : ndarray, shape (n, …), (K, …)
        Decoded embeddings, and those of the candidates.
    target : ndarray of int, shape (n,)
        Row of the gallery that is right.
    ks : sequence of int
        For top-k.
    unit : ndarray, shape (n,), optional
        What was sampled (the stimulus): its queries stay together in the bootstrap.
    """
    if len(queries) == 0 or len(queries) != len(target):
        raise DataError(f"retrieval: {len(queries)} queries have {len(target)} answers; expected one each, and some")
    if np.min(target) < 0 or np.max(target) >= len(gallery):
        raise DataError(f"retrieval: an answer lies outside the gallery of {len(gallery)}")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise DataError("retrieval: an embedding is not finite")
    ranks, counts = [], np.zeros(len(gallery))
    for i in range(0, len(queries), BLOCK):
        similarity = cosine(queries[i : i + BLOCK], gallery)
        ranks.append(ranks_of(similarity, np.asarray(target)[i : i + BLOCK]))
        first = np.argpartition(-similarity, min(10, len(gallery)) - 1, axis=1)[:, :10]
        counts += np.bincount(first.ravel(), minlength=len(gallery))
    return summarise(np.concatenate(ranks), len(gallery), ks=ks, unit=unit, counts=counts)


def summarise(
    ranks: NDArray, n_candidates: int, *, ks: Sequence[int] = (1, 5, 10), unit: NDArray | None = None,
    counts: NDArray | None = None,
) -> Retrieval:  # fmt: skip
    """Make a `Retrieval` of ranks."""
    names, where = np.unique(np.arange(len(ranks)) if unit is None else np.asarray(unit), return_inverse=True)
    size = np.bincount(where)
    top = {}
    for k in ks:
        hits = np.bincount(where, weights=ranks < k)

        def share(index: NDArray[np.int64], hits: NDArray = hits) -> float:
            return float(hits[index].sum() / size[index].sum())

        top[k] = bootstrap(len(names), share, n_draws=500)
    centred = np.zeros(1) if counts is None else counts - counts.mean()
    spread = centred.std()
    return Retrieval(
        ranks=ranks, n_candidates=n_candidates, top=top, median_rank=float(np.median(ranks) + 1),
        mrr=float((1 / (ranks + 1)).mean()), hubness=float((centred**3).mean() / spread**3) if spread > 0 else 0.0,
    )  # fmt: skip


def two_way(predicted: NDArray, true: NDArray) -> NDArray[np.float64]:
    """Two-way identification score of each item: share of other items that its reconstruction resembles less.

    R_ij is Pearson's correlation over features of true item i with reconstruction j; the score of j is the share of
    i ≠ j with R_ij < R_jj, ties counting as failures; chance is one half.
    """
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (true, predicted))
    if a.shape != b.shape or len(a) < 2:
        raise DataError(f"two-way identification: shapes {a.shape} and {b.shape}; expected the same, two items or more")
    r = cosine(a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True))
    return (r < np.diag(r)).sum(axis=0) / (len(a) - 1)


def subsets_of_k(ranks: NDArray, n_candidates: int, *, k: int, n_draws: int = 30, seed: int = 0) -> NDArray[np.float64]:
    """Top-1 of k-way retrieval: the right candidate and k − 1 others drawn anew for every query, (n_draws,).

    MindEye's protocol for NSD: 300 of the test images, 30 draws. Given its rank among all candidates, the right one is
    first of k when none of those ahead of it is drawn; candidates that tie count half a place, which is drawn as well.
    """
    if not 2 <= k <= n_candidates:
        raise DataError(f"{k}-way retrieval needs a gallery of at least {k}, there are {n_candidates}")
    rng = np.random.default_rng(seed)
    floor = np.floor(ranks)
    made = []
    for _ in range(n_draws):
        ahead = (floor + (rng.random(len(ranks)) < ranks - floor)).astype(int)
        made.append((rng.hypergeometric(ahead, n_candidates - 1 - ahead, k - 1) == 0).mean())
    return np.array(made)
