"""Dynamic gated fusion: one signal's features, modulated by another's.

Shape legend: B batch, N token, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


class GatedFusion(nn.Module):
    """LoongX's DGF (arXiv:2507.05397, sec. 4): a gate between two norms, scale and shift by the condition, top-k widths.

    The gate, from features and condition, mixes statistics over tokens (instance norm) with those over widths (layer
    norm); scale and shift come from the condition's mean; of the widths the share `keep` with the largest mean size
    passes. The result is added to the features.

    Parameters
    ----------
    width : int
        W of features and condition.
    hidden : int
        Of the gate.
    keep : float
        Share of the widths that pass, above 0.
    """

    def __init__(self, *, width: int, hidden: int = 128, keep: float = 0.7) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ConfigError(f"gated fusion: keep={keep} must be above 0 and at most 1")
        self.n_kept = max(1, round(keep * width))
        self.gate = nn.Sequential(nn.Linear(2 * width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.modulate = nn.Linear(width, 2 * width)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Fuse (B, N, W) with a condition (B, M, W) to (B, N, W)."""
        pooled = condition.mean(1, keepdim=True)
        gate = self.gate(torch.cat([features, pooled.expand_as(features)], dim=-1)).sigmoid()
        by_token = F.instance_norm(features.transpose(1, 2)).transpose(1, 2) if features.shape[1] > 1 else features
        mixed = gate * by_token + (1 - gate) * F.layer_norm(features, features.shape[-1:])
        scale, shift = self.modulate(pooled).chunk(2, dim=-1)
        y = mixed * (1 + scale) + shift
        size = y.detach().abs().mean(1, keepdim=True)
        passed = torch.zeros_like(size).scatter(-1, size.topk(self.n_kept, dim=-1).indices, 1.0)
        return features + y * passed
