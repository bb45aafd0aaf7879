"""Where tokens lie: on the grid of segments and channels, or one per segment; and their mean.

Shape legend: B batch, T segment, C channel, D width, N = T·C tokens, channel fastest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.models.base import Encoded
from neurofm.schema.batch import NeuralBatch


def channel_tokens(tokens: Tensor, batch: NeuralBatch, patch_samples: int, *, first_segment: int = 0) -> Encoded:
    """Say where tokens (B, N, D) of every segment and channel lie; times count from the start of segment 0."""
    B, C = batch.channel_mask.shape
    T = tokens.shape[1] // C
    centre_s = (torch.arange(T, device=tokens.device) + first_segment + 0.5) * (patch_samples / batch.rate_hz)
    return Encoded(
        tokens=tokens,
        mask=batch.channel_mask.repeat(1, T),
        channel=torch.arange(C, device=tokens.device).repeat(B, T),
        time_s=centre_s.repeat_interleave(C).expand(B, -1),
    )


def segment_tokens(tokens: Tensor, batch: NeuralBatch, patch_samples: int) -> Encoded:
    """Say where tokens (B, T, D) that belong to no channel lie, one per segment."""
    B, T = tokens.shape[:2]
    centre_s = (torch.arange(T, device=tokens.device) + 0.5) * (patch_samples / batch.rate_hz)
    return Encoded(
        tokens=tokens,
        mask=torch.ones(B, T, dtype=torch.bool, device=tokens.device),
        channel=torch.full((B, T), -1, device=tokens.device),
        time_s=centre_s.expand(B, -1),
    )


def mean_token(encoded: Encoded, *, last: bool = False) -> Tensor:
    """Return the mean of the valid tokens, or of those of the last segment, shape (B, D)."""
    keep = encoded.mask
    if last:
        keep = keep & (encoded.time_s >= encoded.time_s.amax(1, keepdim=True))
    weight = keep.unsqueeze(-1).to(encoded.tokens.dtype)
    return (encoded.tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
