"""Least squares over a whole run: what confounds and slow drifts explain is taken out of every channel."""

from __future__ import annotations

import numpy as np

from neurofm.schema.errors import DataError


def drifts(n: int, order: int) -> np.ndarray:
    """Return Legendre polynomials of degree 1 … `order` over n samples, shape (n, order)."""
    return np.polynomial.legendre.legvander(np.linspace(-1, 1, n), order)[:, 1:]


def regress_out(values: np.ndarray, regressors: np.ndarray, *, keep: np.ndarray | None = None) -> np.ndarray:
    """Subtract what the regressors explain; each channel's mean over the kept samples stays.

    Equals ``nilearn.signal.clean(values, confounds=regressors, standardize=None, detrend=False)`` when all samples
    are kept. With `keep` the weights are learned from the kept samples only and used for all, so that no volume is
    lost and a spike teaches nothing.

    The weights see the whole run: what is made of it is transductive for tests within the run.

    Parameters
    ----------
    values : array, shape (time, channel)
    regressors : array, shape (time, regressor)
    keep : array of bool, shape (time,), optional
        Samples to learn from; default all.

    Returns
    -------
    array, shape (time, channel), float64

    Raises
    ------
    DataError
        When there are as many regressors as samples to learn from: nothing would be left.
    """
    kept = np.ones(len(values), bool) if keep is None else np.asarray(keep, bool)
    n, k = int(kept.sum()), regressors.shape[1]
    if k == 0:
        return np.asarray(values, np.float64)
    if k + 1 >= n:
        raise DataError(f"{k} confounds for {n} usable volumes would leave no signal; choose fewer confounds")
    x = np.asarray(regressors, np.float64)
    x = x - x[kept].mean(axis=0)
    # Confounds differ in size by many powers of ten (millimetres, squared radians, signal): one scale for lstsq.
    size = np.sqrt((x[kept] ** 2).mean(axis=0))
    x = x / np.where(size > 0, size, 1.0)
    y = np.asarray(values, np.float64)
    weights = np.linalg.lstsq(x[kept], y[kept] - y[kept].mean(axis=0), rcond=None)[0]
    return y - x @ weights
