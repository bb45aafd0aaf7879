"""From a model's tokens to the predicted embedding.

Shape legend: B batch, N token, D width, T times of the embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.models.base import Encoded
from neurofm.objectives.grid import grid


def over_channels(encoded: Encoded, n_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over the channels of each moment: tokens (B, T', D), mask (B, T') and time_s (B, T').

    Tokens that belong to no channel pass as they are.
    """
    if not bool((encoded.channel >= 0).any()):
        return encoded.tokens, encoded.mask, encoded.time_s
    tokens, there = grid(encoded, n_channels)
    mean = (tokens * there[..., None]).sum(2) / there.sum(2).clamp(min=1)[..., None]
    return mean, there.any(2), encoded.time_s.unflatten(1, (-1, n_channels))[:, :, 0]


def at_times(tokens: Tensor, time_s: Tensor, n_times: int, span_s: float) -> Tensor:
    """Interpolate (B, T', D) linearly to the centres of `n_times` equal parts of the first `span_s`; constant beyond the ends.

    Times ascend, and are those of the batch's first window.
    """
    have = time_s[0].to(tokens.dtype).contiguous()
    want = (torch.arange(n_times, device=tokens.device, dtype=tokens.dtype) + 0.5) * (span_s / n_times)
    if len(have) == n_times and bool(torch.allclose(have, want, atol=1e-6 * span_s)):
        return tokens
    if len(have) == 1:
        return tokens.expand(-1, n_times, -1)
    right = torch.searchsorted(have, want).clamp(1, len(have) - 1)
    share = ((want - have[right - 1]) / (have[right] - have[right - 1])).clamp(0, 1)[:, None]
    return tokens[:, right - 1] * (1 - share) + tokens[:, right] * share
