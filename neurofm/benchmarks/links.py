"""What a map of directed influence between channels is worth where the links are known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError


class LinkScores(NamedTuple):
    """How well a map tells planted links.

    Attributes
    ----------
    directed : float
        Area under the ROC curve over all ordered pairs of channels: linked in this direction or not.
    linked : float
        The same over unordered pairs, by the larger of a pair's two values: linked in either direction or not.
    direction : float
        Share of the linked pairs whose value is larger in the true direction; a tie counts as half. 0.5 is chance.
    """

    directed: float
    linked: float
    direction: float


def link_scores(score: ArrayLike, truth: ArrayLike) -> LinkScores:
    """Score a map against the planted links.

    Parameters
    ----------
    score : array_like, shape (from, to)
        Larger where the first channel is said to act on the second; the diagonal is not looked at.
    truth : array_like, shape (from, to), bool
        The links; at most one direction of a pair.

    Raises
    ------
    DataError
        When shapes differ, a value is not finite, both directions of a pair are linked, or all or no pairs are.
    """
    s, linked = np.asarray(score, dtype=np.float64), np.asarray(truth, dtype=bool)
    if s.ndim != 2 or s.shape[0] != s.shape[1] or s.shape != linked.shape:
        raise DataError(f"links: score {s.shape} and truth {linked.shape} must be square and alike")
    apart = ~np.eye(len(s), dtype=bool)
    if not np.isfinite(s[apart]).all():
        raise DataError("links: a score is not finite")
    linked = linked & apart
    if (linked & linked.T).any():
        raise DataError("links: both directions of a pair are linked, so its direction cannot be scored")
    upper = np.triu(apart)
    either = (linked | linked.T)[upper]
    if not either.any() or either.all():
        raise DataError("links: all pairs or none are linked, nothing can be told apart")
    forth, back = s[linked], s.T[linked]
    return LinkScores(
        directed=auroc(s[apart], linked[apart]),
        linked=auroc(np.maximum(s, s.T)[upper], either),
        direction=float(np.mean((forth > back) + 0.5 * (forth == back))),
    )


def auroc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Return the probability that a positive has the larger score, ties half (Mann-Whitney U)."""
    from scipy.stats import rankdata

    n = int(positive.sum())
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * (len(score) - n)))
