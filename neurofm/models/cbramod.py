"""CBraMod: criss-cross attention over patches of EEG (Wang et al., ICLR 2025, arXiv:2412.07236).

    patches ─ convolutions + spectrum ─ + depthwise convolution over (channel, segment) ─ criss-cross blocks ─ tokens

Half of each token's numbers attend to the other channels of the same segment, half to the other segments of the same
channel. Objective `masked_patch` hides patches and restores them.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, P samples per patch, H head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts
from neurofm.tokenizers.time_frequency_patch import TimeFrequencyPatch


class _Attention(nn.Module):
    """Attention along one axis of the grid; (B, L, M, D) attends over M."""

    def __init__(self, dim: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.rate = n_heads, dropout
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(3, 0, 1, 4, 2, 5)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.rate if self.training else 0.0)
        return self.out(mixed.transpose(2, 3).flatten(3))


class CrissCrossBlock(nn.Module):
    """x + [attention over channels, attention over segments](norm x), then x + feedforward(norm x)."""

    def __init__(self, dim: int, *, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        half = dim // 2
        self.over_channels = _Attention(half, n_heads // 2, dropout)
        self.over_segments = _Attention(half, n_heads // 2, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, ffn_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn_dim, dim), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map tokens (B, T, C, D); `seen` (B, 1, 1, 1, C) is True where a channel exists."""
        space, time = self.norm1(x).chunk(2, -1)
        space = self.over_channels(space, seen)
        time = self.over_segments(time.transpose(1, 2)).transpose(1, 2)
        x = x + self.dropout(torch.cat([space, time], -1))
        return x + self.feedforward(self.norm2(x))


class CBraMod(Backbone):
    """Time and spectrum of patches, convolved positions, criss-cross blocks, norm.

    Parameters
    ----------
    facts : Facts
        Rate and window.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 1 s at 200 Hz).
    scale : float
        Factor on the signal (published: 0.01 on µV); 1 for signals that transforms have scaled.
    dim, n_layers, n_heads, ffn_dim, dropout
        Of the blocks; half of the heads attend along each axis.
    n_maps : int
        Of the convolutions, see `TimeFrequencyPatch`.
    position_kernel : pair of int
        Channels and segments of the convolution that tells places apart, odd. Channels count in the order of the recording.
    """

    hides_tokens = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        scale: float = 1.0,
        dim: int = 200,
        n_layers: int = 12,
        n_heads: int = 8,
        ffn_dim: int = 800,
        dropout: float = 0.1,
        n_maps: int = 25,
        position_kernel: Sequence[int] = (19, 7),
    ) -> None:
        super().__init__()
        if n_heads % 2 or dim % n_heads:
            raise ConfigError(f"cbramod: n_heads={n_heads} must be even and dim={dim} a multiple of it")
        if any(k < 1 or k % 2 == 0 for k in position_kernel):
            raise ConfigError(f"cbramod: position_kernel={list(position_kernel)} must be odd numbers")
        self.dim, self.scale, self.rate_hz = dim, scale, facts.rate_hz
        self.patch_samples = patch_length("cbramod", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        count_patches(facts.window_samples, self.patch_samples)
        self.tokenizer = TimeFrequencyPatch(dim, patch_samples=self.patch_samples, n_maps=n_maps, dropout=dropout)
        over_channels, over_segments = position_kernel
        self.embed_position = nn.Conv2d(
            dim, dim, (over_segments, over_channels), padding=(over_segments // 2, over_channels // 2), groups=dim
        )
        self.blocks = nn.ModuleList(
            CrissCrossBlock(dim, n_heads=n_heads, ffn_dim=ffn_dim, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; where `mask_tokens`, shape (B, T, C), is True the patch's samples are set to zero."""
        if not bool(batch.time_mask.all()):
            raise DataError("field time_mask: cbramod takes no missing samples; cut windows inside valid intervals")
        signal = batch.signal.masked_fill(~batch.channel_mask[..., None], 0.0) * self.scale
        if mask_tokens is not None:
            hidden = mask_tokens.transpose(1, 2).repeat_interleave(self.patch_samples, -1)
            signal = signal.masked_fill(hidden, 0.0)
        # absent channels look to the convolution like the border of the grid
        x = self.tokenizer(signal) * batch.channel_mask[:, None, :, None]
        x = x + self.embed_position(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        seen = batch.channel_mask[:, None, None, None]
        for block in self.blocks:
            x = block(x, seen)
        return channel_tokens(self.norm(x).flatten(1, 2), batch, self.patch_samples)
