"""Distances between two clouds of points that pass gradients: sliced Wasserstein and the Sinkhorn divergence.

MTAM's release measures the distance on detached arrays, so that term teaches nothing; these do.

Shape legend: N points of the one cloud, M of the other, D dimension, R directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def sliced_wasserstein(
    x: Tensor, y: Tensor, *, n_directions: int = 64, generator: torch.Generator | None = None
) -> Tensor:
    """Mean over random directions of the squared 2-Wasserstein distance of the projections (Bonneel et al. 2015).

    In one dimension the optimal plan joins equal ranks, so it is the mean squared difference of the sorted projections.

    Parameters
    ----------
    x, y : Tensor, shape (N, D)
        Clouds of equal size.
    n_directions : int
        R.
    generator : torch.Generator, optional
        On the CPU; of the directions.

    Returns
    -------
    Tensor, shape ()
    """
    direction = torch.randn(x.shape[1], n_directions, generator=generator).to(x)
    direction = F.normalize(direction, dim=0)
    gap = (x @ direction).sort(0).values - (y @ direction).sort(0).values
    return gap.square().mean()


def sinkhorn_cost(x: Tensor, y: Tensor, *, blur: float, n_iterations: int = 50) -> Tensor:
    """Entropy-regularised transport cost with squared Euclidean cost and uniform weights, shape ().

    Dual value ⟨a, f⟩ + ⟨b, g⟩ after `n_iterations` symmetric updates in the log domain (Feydy et al. 2019,
    arXiv:1810.08278, eq. 10); ε = blur². Only the last update carries the gradient: at the fixed point the derivative
    by the potentials vanishes (envelope theorem), so x learns through f alone and y through g alone.
    """
    eps = blur**2
    log_a, log_b = x.new_full((len(x),), -math.log(len(x))), y.new_full((len(y),), -math.log(len(y)))

    def update(cost: Tensor, potential: Tensor, log_weight: Tensor, e: Tensor | float = eps) -> Tensor:
        return -e * torch.logsumexp(log_weight + (potential - cost) / e, dim=1)

    with torch.no_grad():
        cost = _squared_distance(x, y)
        f, g = torch.zeros_like(log_a), torch.zeros_like(log_b)
        e = cost.max().clamp(min=eps)
        for _ in range(n_iterations):
            # averaged updates treat both clouds alike and do not oscillate
            f, g = 0.5 * (f + update(cost, g, log_b, e)), 0.5 * (g + update(cost.T, f, log_a, e))
            # from coarse to fine: hundreds of updates at the last ε would do no better
            e = (0.7 * e).clamp(min=eps)
    last_f = update(_squared_distance(x, y.detach()), g, log_b)
    last_g = update(_squared_distance(y, x.detach()), f, log_a)
    return last_f.mean() + last_g.mean()


def _squared_distance(x: Tensor, y: Tensor) -> Tensor:
    return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


def sinkhorn_divergence(x: Tensor, y: Tensor, *, blur: float = 0.2, n_iterations: int = 50) -> Tensor:
    """``OT(x, y) − ½ OT(x, x) − ½ OT(y, y)``: zero for equal clouds, and positive otherwise (Feydy et al. 2019, eq. 3).

    Parameters
    ----------
    x, y : Tensor, shape (N, D) and (M, D)
    blur : float
        √ε, in the units of the points; smaller needs more iterations.
    n_iterations : int
        Of each of the three problems.

    Returns
    -------
    Tensor, shape ()
    """
    cross = sinkhorn_cost(x, y, blur=blur, n_iterations=n_iterations)
    own_x = sinkhorn_cost(x, x, blur=blur, n_iterations=n_iterations)
    own_y = sinkhorn_cost(y, y, blur=blur, n_iterations=n_iterations)
    return cross - 0.5 * (own_x + own_y)
