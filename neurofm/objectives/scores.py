"""Figures that several objectives log."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mse(estimate: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Mean squared error over the true entries of `where` (same shape); 0 when there are none."""
    # select rather than multiply: padding may hold anything, and 0 · inf would be NaN
    error = (estimate - truth).masked_fill(~where, 0.0)
    return error.square().sum() / where.sum().clamp(min=1)


@torch.no_grad()
def r_squared(estimate: Tensor, truth: Tensor, where: Tensor) -> Tensor:
    """Return 1 − residual / total sum of squares over the true entries of `where`; total about their mean."""
    e, y = estimate[where].double(), truth[where].double()
    total = (y - y.mean()).square().sum() if y.numel() else y.new_ones(())
    return (1 - (e - y).square().sum() / total.clamp(min=1e-12)).float()


@torch.no_grad()
def balanced_accuracy(predicted: Tensor, truth: Tensor, n_classes: int) -> Tensor:
    """Mean recall over the classes that occur in `truth`, both (n,) long."""
    hits = torch.zeros(n_classes, device=truth.device).index_add_(0, truth, (predicted == truth).float())
    counts = torch.bincount(truth, minlength=n_classes)
    seen = counts > 0
    return (hits[seen] / counts[seen]).mean() if bool(seen.any()) else hits.new_full((), float("nan"))
