"""Linear prediction: autoregressive models of short signals, on a plain or a warped frequency axis.

A model of order p says e = A(D) x with A(D) = 1 + a₁ D + … + a_p D^p and e as small as can be. D is a delay of one sample,
or the all-pass (z⁻¹ − λ)/(1 − λ z⁻¹) (Strube 1980; Härmä et al. 2000), which spends more of the order on low frequencies
where λ > 0.

Shape legend: S sample, p order, F frequency.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


def all_pass(x: Tensor, warp: float) -> Tensor:
    """Delay `x`, shape (..., S), by the all-pass of first order, starting from rest; ``warp=0`` is one sample."""
    if warp == 0:
        return F.pad(x, (1, -1))
    eps = torch.finfo(x.dtype).eps
    n = min(x.shape[-1], 2 + math.ceil(math.log(eps) / math.log(abs(warp))))
    k = torch.arange(n - 1, dtype=x.dtype, device=x.device)
    response = torch.cat([x.new_tensor([-warp]), (1 - warp**2) * warp**k])
    flat = F.pad(x.reshape(-1, 1, x.shape[-1]), (n - 1, 0))
    return F.conv1d(flat, response.flip(0)[None, None]).view_as(x)


def burg(x: Tensor, order: int, *, warp: float = 0.0) -> tuple[Tensor, Tensor]:
    """Fit autoregressive models by Burg's method, which minimises forward and backward errors together.

    Parameters
    ----------
    x : Tensor, shape (..., S)
        Signals of mean zero.
    order : int
        p, below S.
    warp : float
        λ, −1 to 1; 0 is the plain method.

    Returns
    -------
    coefficients : Tensor, shape (..., p)
        a₁ … a_p; always of a stable model.
    power : Tensor, shape (...)
        Mean square of what cannot be predicted.

    Raises
    ------
    ConfigError
        When the order does not fit the signal or the warp is outside (−1, 1).
    """
    if not 1 <= order < x.shape[-1] or not -1 < warp < 1:
        raise ConfigError(
            f"linear prediction: order={order} must be 1 to {x.shape[-1] - 1} (below the samples), warp={warp} in (-1, 1)"
        )
    forward, backward = x, x
    a = x.new_zeros(*x.shape[:-1], 0)
    power = x.square().mean(-1)
    tiny = torch.finfo(x.dtype).tiny
    for m in range(1, order + 1):
        delayed = all_pass(backward, warp)
        # what came in from before the first sample is not known
        f, b = forward[..., m:], delayed[..., m:]
        k = -2 * (f * b).sum(-1) / (f.square() + b.square()).sum(-1).clamp(min=tiny)
        forward, backward = forward + k[..., None] * delayed, delayed + k[..., None] * forward
        a = torch.cat([a + k[..., None] * a.flip(-1), k[..., None]], dim=-1)
        power = power * (1 - k.square())
    return a, power


def warped_angle(angle: Tensor, warp: float) -> Tensor:
    """Angle ω̃ on the warped circle of the angle ω (radians per sample): minus the phase of the all-pass."""
    return angle + 2 * torch.atan2(warp * angle.sin(), 1 - warp * angle.cos())


def ar_spectrum(coefficients: Tensor, power: Tensor, n_samples: int, *, warp: float = 0.0) -> Tensor:
    """Power spectrum of models at the frequencies of ``rfft`` of `n_samples`, such that white noise of power 1 has 1.

    S(ω) = power / |A(e^{−iω̃})|² · dω̃/dω, since the error is made small on the warped axis.

    Parameters
    ----------
    coefficients : Tensor, shape (..., p)
    power : Tensor, shape (...)
    n_samples : int
        Length of the signal that the frequencies belong to.
    warp : float
        λ of the fit.

    Returns
    -------
    Tensor, shape (..., n_samples // 2 + 1)
    """
    order = coefficients.shape[-1]
    n_bins = n_samples // 2 + 1
    angle = 2 * torch.pi / n_samples * torch.arange(n_bins, dtype=coefficients.dtype, device=coefficients.device)
    turn = warped_angle(angle, warp)[:, None] * torch.arange(1, order + 1, device=coefficients.device)
    real = 1 + coefficients @ turn.cos().T
    imaginary = coefficients @ turn.sin().T
    slope = (1 - warp**2) / (1 - 2 * warp * angle.cos() + warp**2)
    size = (real.square() + imaginary.square()).clamp(min=torch.finfo(coefficients.dtype).tiny)
    return power[..., None] * slope / size
