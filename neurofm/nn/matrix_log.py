"""The logarithm of symmetric positive definite matrices, with a gradient that equal eigenvalues do not break."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def matrix_log(matrix: Tensor) -> Tensor:
    """Return the logarithm of symmetric positive definite matrices, shape (…, C, C).

    The gradient is that of Daleckii and Krein (1965): in the basis of eigenvectors, entry by entry times the divided
    difference of the logarithm. Automatic differentiation of the eigenvectors would divide by zero where a shrunk
    covariance has the same eigenvalue twice.
    """
    return _MatrixLog.apply(matrix)


class _MatrixLog(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        value, vector = torch.linalg.eigh(matrix)
        ctx.save_for_backward(value, vector)
        return (vector * value.log()[..., None, :]) @ vector.mT

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        value, vector = ctx.saved_tensors
        one, other = value[..., :, None], value[..., None, :]
        # log a − log b over a − b, as artanh(x) / x of x = (a − b) / (a + b): exact where they are close
        x = (one - other) / (one + other)
        near = x.abs() < 1e-3
        ratio = torch.where(near, 1 + x.square() / 3, torch.atanh(x) / torch.where(near, 1.0, x))
        divided = 2 * ratio / (one + other)
        inner = vector.mT @ (0.5 * (gradient[0] + gradient[0].mT)) @ vector
        return vector @ (divided * inner) @ vector.mT
