"""Tokens and codes of a batch: where they lie, and their mean.

Shape legend: B batch, T segment, C channel, D width, N tokens (N = T·C, channel fastest, where tokens have channels).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch


class Encoded(NamedTuple):
    """Tokens of a batch.

    Attributes
    ----------
    tokens : Tensor, shape (B, N, D)
        One vector per token, segment-major with the channel fastest where tokens have channels.
    mask : Tensor, shape (B, N), bool
        True where the token stands for data.
    channel : Tensor, shape (B, N), long
        Index of the token's channel in the batch, −1 where it has none.
    time_s : Tensor, shape (B, N), float
        Centre of the token's span from the window's start.
    """

    tokens: Tensor
    mask: Tensor
    channel: Tensor
    time_s: Tensor


class Codes(NamedTuple):
    """Discrete tokens of a batch, as a tokenizer with codebooks writes them.

    Attributes
    ----------
    code : Tensor, shape (B, N, K), long
        One code per token and codebook; codebooks of several branches come branch by branch, level by level.
    mask, channel, time_s
        As of `Encoded`.
    """

    code: Tensor
    mask: Tensor
    channel: Tensor
    time_s: Tensor


def channel_tokens(
    tokens: Tensor, batch: NeuralBatch, patch_samples: int, *, mask: Tensor | None = None, first_segment: float = 0
) -> Encoded:
    """Say where tokens (B, T·C, D) of every segment and channel lie.

    `mask` (B, T·C) says which stand for data, by default all of the channels that are there. Times are the middles of
    segments, counted from the start of segment 0; that of the first token is `first_segment`.
    """
    B, C = batch.channel_mask.shape
    T = tokens.shape[1] // C
    centre_s = (torch.arange(T, device=tokens.device) + first_segment + 0.5) * (patch_samples / batch.rate_hz)
    return Encoded(
        tokens=tokens,
        mask=batch.channel_mask.repeat(1, T) if mask is None else mask,
        channel=torch.arange(C, device=tokens.device).repeat(B, T),
        time_s=centre_s.repeat_interleave(C).expand(B, -1),
    )


def segment_tokens(tokens: Tensor, batch: NeuralBatch, patch_samples: int, *, mask: Tensor | None = None) -> Encoded:
    """Say where tokens (B, T, D) that belong to no channel lie, one per segment, `mask` (B, T) of them with data."""
    centre_s = (torch.arange(tokens.shape[1], device=tokens.device) + 0.5) * (patch_samples / batch.rate_hz)
    return _of_no_channel(tokens, centre_s, mask)


def window_tokens(tokens: Tensor, batch: NeuralBatch, *, mask: Tensor | None = None) -> Encoded:
    """Say where tokens (B, N, D) lie that belong to no channel and all stand for the whole window."""
    centre_s = torch.full(tokens.shape[1:2], 0.5 * batch.signal.shape[-1] / batch.rate_hz, device=tokens.device)
    return _of_no_channel(tokens, centre_s, mask)


def one_token(vector: Tensor, batch: NeuralBatch) -> Encoded:
    """Say that a vector (B, D) is the one token of its window."""
    return window_tokens(vector[:, None], batch)


def _of_no_channel(tokens: Tensor, centre_s: Tensor, mask: Tensor | None) -> Encoded:
    shape = tokens.shape[:2]
    return Encoded(
        tokens=tokens,
        mask=torch.ones(shape, dtype=torch.bool, device=tokens.device) if mask is None else mask,
        channel=torch.full(shape, -1, device=tokens.device),
        time_s=centre_s.expand(shape),
    )


def whole_patches(batch: NeuralBatch, patch_samples: int) -> Tensor:
    """Return which patches of every channel stand for data, shape (B, T·C): of a channel, and without a missing sample."""
    whole = batch.time_mask.unflatten(1, (-1, patch_samples)).all(2)
    return (whole[:, :, None] & batch.channel_mask[:, None]).flatten(1)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean over those of the tokens (B, N, D) where `mask` (B, N) is True, shape (B, D)."""
    weight = mask.unsqueeze(-1).to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)


def mean_token(encoded: Encoded, *, last: bool = False) -> Tensor:
    """Return the mean of the valid tokens, or of those of the last segment, shape (B, D)."""
    keep = encoded.mask
    if last:
        keep = keep & (encoded.time_s >= encoded.time_s.amax(1, keepdim=True))
    return masked_mean(encoded.tokens, keep)
