"""The published form of NICE's encoder and projector, written plainly; frozen as the yardstick of contrastive.py.

Song et al. 2024 (arXiv:2308.13234): convolution over time, average pooling, norm, ELU, convolution over channels,
norm, ELU, dropout, 1 × 1 convolution, flatten; projector with one residual block and a layer norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class PlainTSConv(nn.Module):
    """(B, C, S) → (B, L, F), as published."""

    def __init__(
        self, n_channels: int = 63, n_filters: int = 40, kernel: int = 25, pool: int = 51, stride: int = 5,
        dropout: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.temporal = nn.Conv2d(1, n_filters, (1, kernel))
        self.pool = nn.AvgPool2d((1, pool), (1, stride))
        self.norm_1 = nn.BatchNorm2d(n_filters)
        self.spatial = nn.Conv2d(n_filters, n_filters, (n_channels, 1))
        self.norm_2 = nn.BatchNorm2d(n_filters)
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Conv2d(n_filters, n_filters, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode."""
        h = F.elu(self.norm_1(self.pool(self.temporal(x[:, None]))))
        h = self.dropout(F.elu(self.norm_2(self.spatial(h))))
        return self.mix(h)[:, :, 0].transpose(1, 2)


class PlainProjector(nn.Module):
    """(B, n_in) → (B, n_out), as published."""

    def __init__(self, n_in: int = 1440, n_out: int = 768, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_out)
        self.second = nn.Linear(n_out, n_out)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Project."""
        h = self.first(x)
        return self.norm(h + self.dropout(self.second(F.gelu(h))))


def plain_loss(predicted: Tensor, target: Tensor, scale: float = 1 / 0.07) -> Tensor:
    """Symmetric InfoNCE of cosines."""
    logits = scale * F.normalize(predicted, dim=-1) @ F.normalize(target, dim=-1).T
    right = torch.arange(len(logits))
    return 0.5 * (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right))
