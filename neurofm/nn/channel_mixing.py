"""NICE's two ways to relate electrodes before the convolution: self-attention and graph attention over channels.

Both take a fixed montage and are added to the signal as a residual. Channels that are not there are neither attended
to nor written.

Shape legend: B batch, C channel, S sample.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def _softmax_over(scores: Tensor, allowed: Tensor) -> Tensor:
    """Softmax over the last axis among what is allowed; zeros where nothing is."""
    shifted = scores.masked_fill(~allowed, -torch.inf)
    shifted = torch.where(allowed.any(-1, keepdim=True), shifted, 0.0)
    return shifted.softmax(-1) * allowed


class ChannelSelfAttention(nn.Module):
    """One head of attention from channel to channel (NICE-SA, arXiv:2308.13234, sec. 3.3).

    Queries and keys are mixtures of channels at each sample, so their maps have C × C weights. The release weighs each
    channel by the sum of its own attention, which is one; here the weights mix the channels, as the paper's equation
    says.

    Parameters
    ----------
    n_channels, n_samples : int
        C and S.
    scale_samples : int
        Scores are divided by the root of S / scale_samples; 30 as published.
    dropout : float
        After each map.
    """

    def __init__(self, *, n_channels: int, n_samples: int, scale_samples: int = 30, dropout: float = 0.3) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_samples)
        self.scale = max(n_samples / scale_samples, 1.0) ** -0.5
        self.query, self.key, self.out = (
            nn.Sequential(nn.Linear(n_channels, n_channels), nn.LayerNorm(n_channels), nn.Dropout(dropout))
            for _ in range(3)
        )

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Return the signal with what channels tell each other added, (B, C, S); `there` is (B, C), bool."""
        keep = there[..., None]
        h = (self.norm(x) * keep).transpose(1, 2)
        query, key = self.query(h).transpose(1, 2), self.key(h).transpose(1, 2)
        weight = _softmax_over(self.scale * query @ key.transpose(1, 2), there[:, None, :])
        mixed = self.out((weight @ h.transpose(1, 2) * keep).transpose(1, 2)).transpose(1, 2)
        return x + mixed * keep


class ChannelGraphAttention(nn.Module):
    """One layer of graph attention on the complete graph of electrodes without self-edges (NICE-GA).

    Weights a_ij = softmax_j LeakyReLU(aᵀ[W x_i ‖ W x_j]), j ≠ i (Veličković et al. 2018, arXiv:1710.10903, eq. 3). The
    score is a sum of a term of i and a term of j, so nothing of the size of the concatenation is made.

    Parameters
    ----------
    n_samples : int
        S, features of a node.
    dropout : float
        Of the attention weights.
    """

    def __init__(self, *, n_samples: int, dropout: float = 0.3) -> None:
        super().__init__()
        self.features = nn.Linear(n_samples, n_samples, bias=False)
        self.receiver = nn.Linear(n_samples, 1, bias=False)
        self.sender = nn.Linear(n_samples, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_samples))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Return the signal with its neighbours' message added, (B, C, S); `there` is (B, C), bool."""
        h = self.features(x)
        score = F.leaky_relu(self.receiver(h) + self.sender(h).transpose(1, 2), 0.2)
        others = ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        weight = self.dropout(_softmax_over(score, there[:, None, :] & others))
        return x + (weight @ h + self.bias) * there[..., None]
