"""NICE's temporal-spatial convolution with temporal filter and pooling merged into one strided filter bank.

Averaging over a pool and convolving commute, and only every `stride`-th output is kept: so the running mean of the
signal is filtered at those places alone. Same numbers as convolution then pooling, for a sixth of the products. The norm
that follows is folded into the filters: mean and variance of a filter's output follow from the mean m and covariance Σ of
its input, wᵀm and wᵀΣw, so the large array between filter and norm is never read again.

Shape legend: B batch, C channel, S sample, L step after pooling, F filter, K tap.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


class TSConv(nn.Module):
    """Temporal filters, mean pooling, norm, ELU; spatial filters, norm, ELU; 1 × 1 convolution.

    Song et al. 2024 (NICE, arXiv:2308.13234), sec. 3.2 and table 5. The order is the published one: pooling comes
    before the first norm. Weights are drawn from N(0, 0.02), gains of norms from N(1, 0.02), biases are zero.

    Parameters
    ----------
    n_channels : int
        C, fixed.
    n_filters : int
        F; 40 as published.
    kernel, pool, stride : int
        Samples; 25, 51 and 5 at 250 Hz.
    dropout : float
        After the spatial filters.
    """

    # offsets that the norm after them removes: published, but their gradient is zero
    idle = ("temporal.bias", "spatial.bias")

    def __init__(
        self,
        *,
        n_channels: int,
        n_filters: int = 40,
        kernel: int = 25,
        pool: int = 51,
        stride: int = 5,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.n_channels, self.n_filters = n_channels, n_filters
        self.kernel, self.pool, self.stride = kernel, pool, stride
        self.temporal = nn.Linear(kernel, n_filters)
        self.norm_1 = nn.BatchNorm1d(n_filters)
        # contracts (channel, filter) of one step, channel-major
        self.spatial = nn.Linear(n_channels * n_filters, n_filters)
        self.norm_2 = nn.BatchNorm1d(n_filters)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Linear(n_filters, n_filters)
        for layer in (self.temporal, self.spatial, self.mix):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            nn.init.zeros_(layer.bias)
        for norm in (self.norm_1, self.norm_2):
            nn.init.normal_(norm.weight, 1.0, 0.02)

    def n_steps(self, n_samples: int) -> int:
        """Return L of a window of S samples.

        Raises
        ------
        ConfigError
            When the window is shorter than filter and pool.
        """
        shortest = self.kernel + self.pool - 1
        if n_samples < shortest:
            raise ConfigError(
                f"a window of {n_samples} samples is shorter than filter and pool together ({shortest}); "
                "choose a longer window, or smaller kernel and pool"
            )
        return (n_samples - shortest) // self.stride + 1

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, C, S) to (B, L, F)."""
        B, C, S = x.shape
        L = self.n_steps(S)
        offset = x.mean().detach() if self.training else x.new_zeros(())
        # cumulative sum: the mean of each pool costs one subtraction
        total = F.pad((x - offset).cumsum(-1), (1, 0))
        mean = (total[..., self.pool :] - total[..., : -self.pool]) / self.pool
        # (B, L, C, K): taps of each step, laid out so that no later product needs a copy
        taps = mean.unfold(-1, self.kernel, self.stride)[..., :L, :].transpose(1, 2).reshape(-1, self.kernel)
        h = F.elu(F.linear(taps, *self._normed_filters(taps, offset)), inplace=True)
        h = self.spatial(h.view(B * L, C * self.n_filters))
        h = self.dropout(F.elu(_batch_norm(h, self.norm_2)))
        return self.mix(h).view(B, L, self.n_filters)

    def _normed_filters(self, taps: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Filters and offsets with the norm that follows folded in, (F, K) and (F,).

        `offset` was taken from the signal, so that its covariance loses no digits to a constant.
        """
        weight, bias, norm = self.temporal.weight, self.temporal.bias, self.norm_1
        if not self.training:
            scale = norm.weight * torch.rsqrt(_buffer(norm.running_var) + norm.eps)
            return weight * scale[:, None], norm.bias + (bias - _buffer(norm.running_mean)) * scale
        # moments keep their digits whatever the precision of the products
        with torch.autocast(taps.device.type, enabled=False):
            first = taps.mean(0)
            covariance = taps.T @ taps / len(taps) - torch.outer(first, first)
            mean = weight @ first + bias
            variance = ((weight @ covariance) * weight).sum(1).clamp(min=0)
        _track(norm, mean + offset * weight.sum(1), variance, len(taps))
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        return weight * scale[:, None], norm.bias + (bias - mean) * scale


def _batch_norm(h: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """Batch norm of (N, F) whose sums are pairwise: the built-in one loses digits over many rows."""
    if not norm.training:
        return norm(h)
    mean = h.mean(0)
    centred = h - mean
    variance = centred.square().mean(0)
    _track(norm, mean, variance, len(h))
    return centred * (norm.weight * torch.rsqrt(variance + norm.eps)) + norm.bias


@torch.no_grad()
def _track(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, n: int) -> None:
    """Update the running mean and (unbiased) variance."""
    momentum = 0.1 if norm.momentum is None else norm.momentum
    _buffer(norm.running_mean).lerp_(mean.detach(), momentum)
    _buffer(norm.running_var).lerp_(variance.detach() * (n / max(n - 1, 1)), momentum)
    _buffer(norm.num_batches_tracked).add_(1)


def _buffer(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def load_plain_weights(layer: TSConv, plain: dict[str, Tensor]) -> None:
    """Copy weights of the published form: convolutions (F, 1, 1, K), (F, F, C, 1) and (F, F, 1, 1) with their norms.

    Parameters
    ----------
    layer : TSConv
        Filled in place.
    plain : dict of str to Tensor
        Names ``temporal``, ``norm_1``, ``spatial``, ``norm_2``, ``mix``, each with ``.weight`` and ``.bias``.
    """
    with torch.no_grad():
        layer.temporal.weight.copy_(plain["temporal.weight"][:, 0, 0])
        layer.spatial.weight.copy_(plain["spatial.weight"][..., 0].transpose(1, 2).flatten(1))
        layer.mix.weight.copy_(plain["mix.weight"][..., 0, 0])
        for name in ("temporal", "spatial", "mix", "norm_1", "norm_2"):
            getattr(layer, name).bias.copy_(plain[f"{name}.bias"])
        for name in ("norm_1", "norm_2"):
            getattr(layer, name).weight.copy_(plain[f"{name}.weight"])
