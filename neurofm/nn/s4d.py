"""Diagonal state-space layer as a long convolution (Gu et al. 2022, S4D, arXiv:2206.11893).

Shape legend: B batch, H channel, N state pairs, S sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class S4D(nn.Module):
    """y = K ∗ u + D u, each channel its own single-input state space with a diagonal transition.

    K_l = 2 Re Σ_n C_n (exp(Δ A_n) − 1) / A_n · exp(Δ A_n l): zero-order hold with B = 1 (eq. 3 and 4 there), started at
    A_n = −½ + iπn (S4D-Lin, eq. 9).

    Parameters
    ----------
    n_channels : int
        H.
    n_state : int
        2 · N; states come in conjugate pairs.
    step_range : pair of float
        Δ is drawn between these, uniform in its logarithm.
    """

    def __init__(self, n_channels: int, *, n_state: int = 64, step_range: tuple[float, float] = (0.001, 0.1)) -> None:
        super().__init__()
        n, (low, high) = n_state // 2, step_range
        self.log_step = nn.Parameter(torch.rand(n_channels) * math.log(high / low) + math.log(low))
        self.log_decay = nn.Parameter(torch.full((n_channels, n), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(n, dtype=torch.float32).repeat(n_channels, 1))
        # real and imaginary part apart: complex tensors cannot be saved by every format
        self.readout = nn.Parameter(torch.randn(n_channels, n, 2) * math.sqrt(0.5))
        self.skip = nn.Parameter(torch.randn(n_channels))

    def kernel(self, n_samples: int) -> Tensor:
        """Return the impulse response, shape (H, S)."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        step_a = a * self.log_step.exp()[:, None]
        gain = torch.view_as_complex(self.readout) * (step_a.exp() - 1) / a
        time = torch.arange(n_samples, device=a.device)
        return 2 * torch.einsum("hn,hns->hs", gain, (step_a[..., None] * time).exp()).real

    def forward(self, u: Tensor) -> Tensor:
        """Filter (B, H, S) causally to the same shape."""
        S = u.shape[-1]
        spectrum = torch.fft.rfft(u, n=2 * S) * torch.fft.rfft(self.kernel(S), n=2 * S)
        return torch.fft.irfft(spectrum, n=2 * S)[..., :S] + u * self.skip[:, None]


class S4DBlock(nn.Module):
    """x + mix(GELU(S4D(norm x))), norm over channels; (B, H, S) → the same."""

    def __init__(self, n_channels: int, *, n_state: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_channels)
        self.filter = S4D(n_channels, n_state=n_state)
        self.mix = nn.Conv1d(n_channels, n_channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, H, S) to the same shape."""
        h = self.filter(self.norm(x.transpose(1, 2)).transpose(1, 2))
        return x + self.dropout(self.mix(F.gelu(h)))
