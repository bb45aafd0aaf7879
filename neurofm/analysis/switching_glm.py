"""States and couplings of a switching Poisson GLM: forward–backward, Viterbi, alignment, and fits with a prior.

Counts x of unit n are Poisson with rate σ(b_n + Σ_m W^{(z)}_{nm} Σ_k φ_k x_{t−k,m}), z a hidden Markov chain (Li et al.
2024, "One-hot Generalized Linear Model for Switching Brain State Discovery", ICLR). Two priors tie the states' couplings:

- "gaussian": W^{(s)} is normal around a mean shared by the states, which is re-estimated;
- "one_hot": a pair has one strength, shared by the states, and in each state one of three signs (inhibitory, none,
  excitatory), whose probabilities, shared too, act as a prior;
- "none": free couplings.

Bins have the shape (trial, bin, unit) throughout; all trials are of one length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError

Array = NDArray[np.float64]


def filtered(counts: ArrayLike, basis: ArrayLike) -> Array:
    """Σ_k φ_k x_{t−k}, k from 1 on: the past of every unit, zeros before the trial; shape of `counts`."""
    x, phi = np.asarray(counts, np.float64), np.asarray(basis, np.float64)
    if x.ndim != 3 or phi.ndim != 1:
        raise DataError(f"switching GLM: counts have shape {x.shape}; expected (trial, bin, unit)")
    out = np.zeros_like(x)
    for k, weight in enumerate(phi, 1):
        out[:, k:] += weight * x[:, :-k]
    return out


def log_likelihoods(counts: ArrayLike, *, bias: ArrayLike, weights: ArrayLike, basis: ArrayLike) -> Array:
    """Log-probability of each bin's counts in each state, (trial, bin, state), without the states' own constant (log x!).

    Parameters
    ----------
    counts : array_like, shape (trial, bin, unit)
    bias : array_like, shape (unit,)
    weights : array_like, shape (state, post, pre)
    basis : array_like, shape (lag,)
        Nearest bin first.
    """
    x, past, b = np.asarray(counts, np.float64), filtered(counts, basis), np.asarray(bias, np.float64)
    out = np.empty((*x.shape[:2], len(np.asarray(weights))))
    for s, w in enumerate(np.asarray(weights, np.float64)):
        drive = b + past @ w.T
        # log σ(a) = −softplus(−a)
        out[..., s] = (x * -np.logaddexp(0, -drive) - 1 / (1 + np.exp(-drive))).sum(-1)
    return out


def forward_backward(log_like: ArrayLike, transition: ArrayLike) -> tuple[Array, Array, float]:
    """Posterior of the states of a hidden Markov chain that starts evenly.

    Parameters
    ----------
    log_like : array_like, shape (trial, bin, state)
    transition : array_like, shape (state, state)
        From row to column.

    Returns
    -------
    posterior : array, shape (trial, bin, state)
    pairs : array, shape (state, state)
        Expected transitions, summed over trials and bins.
    log_likelihood : float
        Of everything.
    """
    like, a = np.asarray(log_like, np.float64), np.asarray(transition, np.float64)
    n_trials, n_bins, n_states = like.shape
    top = like.max(-1, keepdims=True)
    p = np.exp(like - top)
    alpha, scale = np.empty_like(p), np.empty((n_trials, n_bins))
    state = p[:, 0] / n_states
    for t in range(n_bins):
        if t:
            state = (alpha[:, t - 1] @ a) * p[:, t]
        scale[:, t] = state.sum(-1)
        alpha[:, t] = state / scale[:, t, None]
    beta = np.ones((n_trials, n_states))
    posterior, pairs = np.empty_like(p), np.zeros((n_states, n_states))
    posterior[:, -1] = alpha[:, -1]
    for t in range(n_bins - 2, -1, -1):
        message = p[:, t + 1] * beta / scale[:, t + 1, None]
        pairs += a * (alpha[:, t].T @ message)
        beta = message @ a.T
        posterior[:, t] = alpha[:, t] * beta
    return posterior, pairs, float(np.log(scale).sum() + top.sum())


def viterbi(log_like: ArrayLike, transition: ArrayLike) -> NDArray[np.int64]:
    """Most likely sequence of states, (trial, bin)."""
    like, a = np.asarray(log_like, np.float64), np.log(np.maximum(np.asarray(transition, np.float64), 1e-300))
    best, came = like[:, 0].copy(), np.empty(like.shape, np.int64)
    for t in range(1, like.shape[1]):
        ways = best[:, :, None] + a
        came[:, t] = ways.argmax(1)
        best = ways.max(1) + like[:, t]
    path = np.empty(like.shape[:2], np.int64)
    path[:, -1] = best.argmax(-1)
    rows = np.arange(len(like))
    for t in range(like.shape[1] - 1, 0, -1):
        path[:, t - 1] = came[rows, t, path[:, t]]
    return path


def posterior_states(
    counts: ArrayLike, *, bias: ArrayLike, weights: ArrayLike, transition: ArrayLike, basis: ArrayLike
) -> Array:
    """Posterior probability of each state in each bin, (trial, bin, state), of given parameters."""
    return forward_backward(log_likelihoods(counts, bias=bias, weights=weights, basis=basis), transition)[0]


def most_likely_states(
    counts: ArrayLike, *, bias: ArrayLike, weights: ArrayLike, transition: ArrayLike, basis: ArrayLike
) -> NDArray[np.int64]:
    """Most likely sequence of states, (trial, bin), of given parameters."""
    return viterbi(log_likelihoods(counts, bias=bias, weights=weights, basis=basis), transition)


def align_states(true: ArrayLike, found: ArrayLike, *, n_states: int) -> tuple[NDArray[np.int64], float]:
    """Renumber found states to agree best with the true ones (Hungarian method).

    Returns
    -------
    order : array, shape (n_states,)
        Found state that plays the part of each true one.
    accuracy : float
        Share of bins that then agree.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = np.asarray(true).ravel().astype(np.int64), np.asarray(found).ravel().astype(np.int64)
    if a.shape != b.shape:
        raise DataError(f"states: {len(a)} true ones and {len(b)} found ones; they must be of the same bins")
    table = np.zeros((n_states, n_states))
    np.add.at(table, (a, b), 1)
    rows, columns = linear_sum_assignment(-table)
    return columns, float(table[rows, columns].sum() / len(a))
