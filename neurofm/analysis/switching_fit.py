"""Fit a switching Poisson GLM by expectation–maximisation, its states' couplings tied by a prior (see `switching_glm`).

The published one-hot model draws signs by Gumbel-softmax; here their probabilities are used themselves, so that a fit is
deterministic: weights are strength × (p_excitatory − p_inhibitory), and the probabilities of each state are drawn to those
shared by the states by the Kullback–Leibler divergence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.analysis.switching_glm import Array, filtered, forward_backward, log_likelihoods
from neurofm.schema.errors import ConfigError, DataError, nearest

PRIORS = ("none", "gaussian", "one_hot")
# standard deviation of a state's couplings around the states' mean (published)
SPREAD = 1 / 3
# of the first guess: bins whose couplings are taken together
WINDOW = 25


@dataclass(frozen=True, kw_only=True)
class SwitchingGlm:
    """A fitted model.

    Attributes
    ----------
    bias : array, shape (unit,)
    weights : array, shape (state, post, pre)
    transition : array, shape (state, state)
    basis : array, shape (lag,)
    history : list of float
        Log-likelihood of the training bins before each update, without the counts' own constant.
    """

    bias: Array
    weights: Array
    transition: Array
    basis: Array
    history: list[float]

    def posterior(self, counts: ArrayLike) -> Array:
        """Posterior probability of each state, (trial, bin, state), of counts (trial, bin, unit)."""
        like = log_likelihoods(counts, bias=self.bias, weights=self.weights, basis=self.basis)
        return forward_backward(like, self.transition)[0]


def fit_switching_glm(
    counts: ArrayLike,
    *,
    n_states: int,
    basis: ArrayLike,
    prior: str = "gaussian",
    n_rounds: int = 20,
    n_steps: int = 8,
    stay: float = 0.98,
    seed: int = 0,
    start: SwitchingGlm | None = None,
) -> SwitchingGlm:
    """Fit couplings and transitions to counts.

    Parameters
    ----------
    counts : array_like, shape (trial, bin, unit)
        Training trials.
    n_states : int
    basis : array_like, shape (lag,)
        Weights of the past bins, nearest first.
    prior : str
        "none", "gaussian" or "one_hot"; see `switching_glm`.
    n_rounds, n_steps : int
        Rounds of E and M step, and L-BFGS steps of an M step.
    stay : float
        First guess of the probability of staying in a state.
    seed : int
        Of the first guess: couplings in windows of 25 bins, clustered.
    start : SwitchingGlm, optional
        Begin from this instead.

    Raises
    ------
    DataError
        When a unit never fires or counts are not of the form asked for.
    """
    if prior not in PRIORS:
        raise ConfigError(f"switching GLM: prior '{prior}' is unknown: {nearest(str(prior), PRIORS)}")
    x, phi = np.asarray(counts, np.float64), np.asarray(basis, np.float64)
    if x.ndim != 3 or not (x.sum((0, 1)) > 0).all():
        raise DataError(f"switching GLM: counts of shape {x.shape}; expected (trial, bin, unit) and no silent unit")
    past = filtered(x, phi)
    if start is None:
        weights, bias = _first_guess(x, past, n_states, seed)
        other = (1 - stay) / max(1, n_states - 1)
        transition = np.full((n_states, n_states), other) + (stay - other) * np.eye(n_states)
    else:
        weights, bias, transition = start.weights, start.bias, start.transition
    model = _Couplings(weights, bias, prior)
    flat, seen = (torch.from_numpy(a.reshape(-1, x.shape[-1]).astype(np.float32)) for a in (x, past))
    history = []
    for _ in range(n_rounds):
        like = log_likelihoods(x, bias=model.bias_array(), weights=model.array(), basis=phi)
        posterior, pairs, total = forward_backward(like, transition)
        history.append(total)
        transition = pairs / pairs.sum(1, keepdims=True)
        model.improve(flat, seen, torch.from_numpy(posterior.reshape(-1, n_states).astype(np.float32)), n_steps)
    return SwitchingGlm(
        bias=model.bias_array(), weights=model.array(), transition=transition, basis=phi, history=history
    )


def _first_guess(x: Array, past: Array, n_states: int, seed: int) -> tuple[Array, Array]:
    """One GLM for all, then windows clustered by how they depart from it; returns weights (state, post, pre) and bias.

    In each window Σ (x − λ) ⊗ past is the gradient of its likelihood in the couplings: windows of one state point the
    same way. Its leading components are clustered, and each cluster takes a step along its mean.
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n = x.shape[-1]
    one = _Couplings(np.zeros((1, n, n)), np.full(n, np.log(x.mean() + 1e-3)), "none")
    flat, seen = (torch.from_numpy(a.reshape(-1, n).astype(np.float32)) for a in (x, past))
    one.improve(flat, seen, torch.ones(len(flat), 1), 15)
    weights, bias = one.array()[0], one.bias_array()
    chance = 1 / (1 + np.exp(-(bias + past @ weights.T)))
    usable = x.shape[1] // WINDOW * WINDOW
    if not usable:
        raise DataError(f"switching GLM: trials of {x.shape[1]} bins are shorter than a window of {WINDOW}")

    def windows(a: Array) -> Array:
        return a[:, :usable].reshape(-1, WINDOW, n)

    # ∂ log λ / ∂ drive is 1 − λ for a sigmoid rate
    residual, before = windows((x - chance) * (1 - chance)), windows(past)
    gradient = np.einsum("wti,wtj->wij", residual, before)
    scale = np.sqrt(np.einsum("wti,wtj->ij", windows(chance * (1 - chance) ** 2), before**2) / len(gradient)) + 1e-6
    features = PCA(min(2 * n_states, len(gradient) - 1), random_state=seed).fit_transform(
        (gradient / scale).reshape(len(gradient), -1)
    )
    label = KMeans(n_states, n_init=10, random_state=seed).fit(features).labels_
    step = np.stack([gradient[label == s].mean(0) / (scale**2) for s in range(n_states)])
    return weights + step, bias


class _Couplings:
    """Weights of all states as a function of what is fitted."""

    def __init__(self, weights: Array, bias: Array, prior: str) -> None:
        self.prior = prior
        w = torch.from_numpy(np.asarray(weights, np.float32))
        self.bias = torch.from_numpy(np.asarray(bias, np.float32)).requires_grad_()
        if prior == "one_hot":
            size = w.abs().amax(0).clamp(min=0.2)
            self.strength = (size + torch.log(-torch.expm1(-size))).requires_grad_()
            share = w / size
            # inhibitory, none, excitatory
            self.logits = (4 * torch.stack([-share, torch.full_like(share, 0.4), share], -1)).requires_grad_()
            self.shared = self.logits.detach().mean(0).requires_grad_()
            self.fitted = [self.bias, self.strength, self.logits, self.shared]
        else:
            self.free = w.requires_grad_()
            self.fitted = [self.bias, self.free]

    def weights(self) -> Tensor:
        if self.prior != "one_hot":
            return self.free
        p = self.logits.softmax(-1)
        return F.softplus(self.strength) * (p[..., 2] - p[..., 0])

    def penalty(self) -> Tensor:
        """Negative log-prior."""
        if self.prior == "gaussian":
            # the mean that fits best is the states' own
            away = self.free - self.free.mean(0)
            return (away**2).sum() / (2 * SPREAD**2)
        if self.prior == "one_hot":
            mine, shared = self.logits.log_softmax(-1), self.shared.log_softmax(-1)
            return (mine.exp() * (mine - shared)).sum() + 1e-3 * (self.logits**2).sum()
        return self.free.new_zeros(())

    def improve(self, counts: Tensor, past: Tensor, posterior: Tensor, n_steps: int) -> None:
        """M step: raise the expected log-likelihood plus log-prior."""
        optimiser = torch.optim.LBFGS(self.fitted, max_iter=n_steps, history_size=10, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            weights, total = self.weights(), self.penalty()
            for s, w in enumerate(weights):
                drive = past @ w.T + self.bias
                total = total - (posterior[:, s] @ (counts * F.logsigmoid(drive) - drive.sigmoid())).sum()
            # of order one per bin, as L-BFGS' tolerances expect
            total = total / len(counts)
            total.backward()
            return total

        step: Callable[[], Tensor] = loss
        optimiser.step(step)

    def array(self) -> Array:
        return self.weights().detach().numpy().astype(np.float64)

    def bias_array(self) -> Array:
        return self.bias.detach().numpy().astype(np.float64)


def sign_auroc(weights: ArrayLike, adjacency: ArrayLike) -> float:
    """How well weights tell excitatory and inhibitory pairs from all others, mean of the two AUROCs, own past left out.

    Parameters
    ----------
    weights : array_like, shape (state, post, pre)
    adjacency : array_like of −1, 0, 1, same shape
    """
    from sklearn.metrics import roc_auc_score

    w, a = np.asarray(weights, np.float64), np.asarray(adjacency)
    if w.shape != a.shape:
        raise DataError(f"sign AUROC: weights have shape {w.shape}, adjacency {a.shape}; they must be equal")
    off: NDArray[np.bool_] = np.broadcast_to(~np.eye(w.shape[-1], dtype=bool), w.shape)
    return float(np.mean([roc_auc_score((k * a[off]) > 0, k * w[off]) for k in (1, -1)]))
