"""Transport distances against closed forms, an independent solver and finite differences, in float64."""

import numpy as np
import pytest
import torch

from neurofm.nn.transport import sinkhorn_cost, sinkhorn_divergence, sliced_wasserstein

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(6, 3, generator=G, dtype=torch.float64), 1 + torch.randn(6, 3, generator=G, dtype=torch.float64)


def test_two_points_cost_their_squared_distance():
    x, y = X[:1], Y[:1]
    assert float(sinkhorn_cost(x, y, blur=0.3)) == pytest.approx(float((x - y).square().sum()), rel=1e-12)


def test_moved_cloud_costs_the_squared_shift():
    """The divergence of a cloud from itself moved by v is |v|², whatever the blur."""
    v = torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64)
    for blur in (1.0, 2.0):
        value = sinkhorn_divergence(X, X + v, blur=blur, n_iterations=2000)
        assert float(value) == pytest.approx(float(v.square().sum()), rel=1e-9)


def test_sinkhorn_against_an_independent_solver():
    ot = pytest.importorskip("ot")
    blur = 0.7
    cost = ((X[:, None] - Y[None]) ** 2).sum(-1).numpy()
    weight = np.full(6, 1 / 6)
    plan = ot.sinkhorn(weight, weight, cost, blur**2, method="sinkhorn_log", numItermax=100000, stopThr=1e-15)
    # the dual value is ⟨plan, cost⟩ + ε KL(plan ‖ a ⊗ b)
    entropy = (plan * np.log(plan / np.outer(weight, weight))).sum()
    value = sinkhorn_cost(X, Y, blur=blur, n_iterations=3000)
    assert float(value) == pytest.approx(float((plan * cost).sum() + blur**2 * entropy), rel=1e-9)


def test_divergence_of_equal_clouds_is_zero():
    assert abs(float(sinkhorn_divergence(X, X[torch.randperm(6)], blur=0.5, n_iterations=3000))) < 1e-10
    assert abs(float(sliced_wasserstein(X, X[torch.randperm(6)]))) < 1e-14


@pytest.mark.parametrize("which", ["sliced", "sinkhorn"])
def test_gradient_is_that_of_finite_differences(which):
    """The release's term was measured on detached arrays, so its gradient was zero."""

    def value(x, y):
        if which == "sliced":
            return sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(1))
        return sinkhorn_divergence(x, y, blur=0.7, n_iterations=3000)

    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    value(x, y).backward()
    step = 1e-5
    for leaf, other, order in ((x, Y, 1), (y, X, -1)):
        for at in ((0, 0), (3, 2)):
            moved = [leaf.detach().clone(), leaf.detach().clone()]
            moved[0][at] += step
            moved[1][at] -= step
            high, low = (float(value(*((m, other) if order == 1 else (other, m)))) for m in moved)
            assert float(leaf.grad[at]) == pytest.approx((high - low) / (2 * step), rel=1e-5, abs=1e-9)


def test_sliced_in_one_dimension_joins_equal_ranks():
    x, y = X[:, :1], Y[:, :1]
    slow = (np.sort(x[:, 0].numpy()) - np.sort(y[:, 0].numpy())) ** 2
    assert float(sliced_wasserstein(x, y)) == pytest.approx(slow.mean(), rel=1e-12)


def test_default_iterations_are_enough_for_vectors_of_length_one():
    x, y = (torch.nn.functional.normalize(torch.randn(40, 16, generator=G, dtype=torch.float64), dim=1) for _ in "xy")
    few, many = sinkhorn_divergence(x, y), sinkhorn_divergence(x, y, n_iterations=5000)
    assert float(few) == pytest.approx(float(many), rel=1e-2)
