"""The logarithm of a matrix against scipy, and its gradient where eigenvalues are equal."""

import numpy as np
import scipy.linalg
import torch

from neurofm.nn.matrix_log import matrix_log


def test_as_scipy():
    a = np.random.default_rng(0).standard_normal((5, 4, 9))
    covariance = a @ a.swapaxes(1, 2) + 0.1 * np.eye(4)
    wanted = np.stack([scipy.linalg.logm(c) for c in covariance])
    np.testing.assert_allclose(matrix_log(torch.tensor(covariance)).numpy(), wanted, atol=1e-10)


def test_gradient_by_differences_with_equal_and_nearly_equal_eigenvalues():
    vector = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    for value in ([0.1, 0.1, 0.1, 2.0], [0.5, 0.5 + 1e-9, 1.0, 3.0], [1e-3, 0.2, 5.0, 80.0]):
        matrix = ((vector * torch.tensor(value, dtype=torch.float64)) @ vector.mT).requires_grad_()

        def symmetric(m):
            return matrix_log(0.5 * (m + m.mT))

        torch.autograd.gradcheck(symmetric, (matrix,), eps=1e-7 * min(value) / 1e-3, atol=1e-5, rtol=1e-4)
