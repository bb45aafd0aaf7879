"""Directed connections from cross-correlograms: how many more spikes follow at conduction's lags than long after."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import ConfigError, DataError


def cross_counts(counts: ArrayLike, lags: range) -> NDArray[np.float64]:
    """Pairs of spikes a number of bins apart, added up over `lags`: [i, j] counts i first, j later.

    Parameters
    ----------
    counts : array_like, shape (bin, unit)
    lags : range
        Bins, 0 or more.
    """
    x = np.asarray(counts, np.float32)
    total = np.zeros((x.shape[1], x.shape[1]))
    for lag in lags:
        # float32 sums of small whole numbers are exact up to 2^24
        total += x[: len(x) - lag].T @ x[lag:]
    return total


def connectivity(
    counts: ArrayLike, *, bin_s: float = 0.001, near_s: tuple[float, float] = (0.012, 0.019),
    far_s: tuple[float, float] = (0.040, 0.070),
) -> NDArray[np.float64]:  # fmt: skip
    """Score every directed pair: excess of pairs at near lags over far ones, in standard deviations of chance.

    Parameters
    ----------
    counts : array_like, shape (bin, unit)
        Spikes in bins fine enough for conduction (1 ms).
    bin_s : float
        Width of a bin.
    near_s, far_s : pair of float
        First and last lag of the window in which a connection shows, and of the one it is compared with.

    Returns
    -------
    array, shape (presynaptic, postsynaptic)
        Above 0 excites, below inhibits; the diagonal is 0.
    """
    x = np.asarray(counts)
    near, far = (range(round(a / bin_s), round(b / bin_s) + 1) for a, b in (near_s, far_s))
    if not 0 <= near.start < near.stop <= far.start < far.stop:
        raise ConfigError(f"correlogram: lags {near_s} and {far_s} s in bins of {bin_s} s overlap or are empty")
    if x.ndim != 2 or len(x) <= far.stop:
        raise DataError(f"correlogram: counts have shape {x.shape}; expected (bin, unit) with more bins than lags")
    expected = cross_counts(x, far) * len(near) / len(far)
    score = (cross_counts(x, near) - expected) / np.sqrt(np.maximum(expected, 1.0))
    np.fill_diagonal(score, 0.0)
    return score


def score_connectivity(said: ArrayLike, true: ArrayLike, *, signed: bool = True) -> dict[str, float]:
    """AUROC and average precision of connections, over all ordered pairs of different units.

    Parameters
    ----------
    said : array_like, shape (presynaptic, postsynaptic)
        Strength of evidence; with `signed`, below 0 for inhibition, and its size is what ranks all connections.
    true : array_like, same shape
        Weights; 0 = not connected.
    signed : bool
        Whether `said` tells excitation from inhibition; attention does not.

    Returns
    -------
    dict
        "auroc", "ap", and with `signed` "auroc_excitatory" and "auroc_inhibitory" (that sign against no connection),
        NaN where one does not occur. "chance_ap" is the share of pairs that are connected.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    a, w = np.asarray(said, np.float64), np.asarray(true, np.float64)
    if a.shape != w.shape or a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise DataError(f"connectivity: scores have shape {a.shape}, truth {w.shape}; expected equal squares")
    off = ~np.eye(len(a), dtype=bool)
    a, w = a[off], w[off]
    there = w != 0
    if there.all() or not there.any():
        raise DataError("connectivity: all pairs are connected, or none; there is nothing to tell apart")
    size = np.abs(a) if signed else a
    out = {
        "auroc": float(roc_auc_score(there, size)),
        "ap": float(average_precision_score(there, size)),
        "chance_ap": float(there.mean()),
    }
    if signed:
        for name, sign in (("excitatory", 1.0), ("inhibitory", -1.0)):
            mine = sign * w > 0
            among = mine | ~there
            out[f"auroc_{name}"] = float(roc_auc_score(mine[among], sign * a[among])) if mine.any() else float("nan")
    return out
