"""A plain transformer on the same tokens as MVPFormer: a competitor, not a published system.

Absolute positions of segment and channel are added to the tokens, attention is over all of them (block-causal in time):
what differs from `mvpformer` is the attention alone.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, H head.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens, mean_token
from neurofm.models.patch_choice import patch_length
from neurofm.nn.feedforward import SwiGLU
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.tokenizers import TOKENIZERS


class _Block(nn.Module):
    """x + attention(norm x), then x + feedforward(norm x)."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.rate = n_heads, dropout
        self.norm1, self.norm2 = nn.RMSNorm(dim, eps=1e-5), nn.RMSNorm(dim, eps=1e-5)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.feedforward = SwiGLU(dim, inner_dim=ffn_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map tokens (B, N, D); `seen` (B, 1, N, N) is True where a query may look at a key."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.rate if self.training else 0.0)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feedforward(self.norm2(x)))


class TokenTransformer(Backbone):
    """Tokenizer, absolute positions, pre-norm transformer blocks, final norm.

    Parameters
    ----------
    facts : Facts
        Rate, window, largest number of channels.
    tokenizer, tokenizer_choices, patch_s, patch_samples, dim, n_layers, n_heads, ffn_dim, dropout, n_positions, n_channels
        As those of `mvpformer`.
    causal : bool
        Whether a token sees only its own and earlier segments.
    pooling : str
        ``last``: mean over channels of the last segment, ``mean``: over all tokens, ``auto``: ``last`` if causal.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        tokenizer: str = "linear_patch",
        tokenizer_choices: Mapping[str, Any] | None = None,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        dim: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        ffn_dim: int | None = None,
        causal: bool = True,
        dropout: float = 0.1,
        n_positions: int | None = None,
        n_channels: int | None = None,
        pooling: str = "auto",
    ) -> None:
        super().__init__()
        if pooling not in ("auto", "last", "mean"):
            raise ConfigError(f"token_transformer: pooling is '{pooling}'; expected auto, last or mean")
        if dim % n_heads:
            raise ConfigError(f"token_transformer: dim={dim} must be a multiple of n_heads={n_heads}")
        self.dim, self.causal = dim, causal
        self.patch_samples = patch_length(
            "token_transformer", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples
        )
        self.n_segments = count_patches(facts.window_samples, self.patch_samples)
        self.pooling = ("last" if causal else "mean") if pooling == "auto" else pooling
        self.tokenizer = TOKENIZERS.build(tokenizer, dim, patch_samples=self.patch_samples, **(tokenizer_choices or {}))
        self.n_features = self.tokenizer.n_features
        self.segment = nn.Embedding(n_positions or self.n_segments, dim)
        self.channel = nn.Embedding(n_channels or facts.max_channels, dim)
        self.dropout = nn.Dropout(dropout)
        inner = -(-8 * dim // 48) * 16 if ffn_dim is None else ffn_dim
        self.blocks = nn.ModuleList(_Block(dim, n_heads, inner, dropout) for _ in range(n_layers))
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return the tokenizer's tokens, shape (B, T, C, D)."""
        return self.tokenizer(batch.signal)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return what the tokenizer embeds, shape (B, T, C, n_features)."""
        return self.tokenizer.patch_features(signal)

    def encode(self, batch: NeuralBatch, *, tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; `tokens` is what `embed_tokens` gave, where the caller has it already."""
        x = self.embed_tokens(batch) if tokens is None else tokens
        T, C = x.shape[1:3]
        if self.segment.num_embeddings < T or self.channel.num_embeddings < C:
            raise ConfigError(
                f"token_transformer takes {self.segment.num_embeddings} segments and {self.channel.num_embeddings} "
                f"channels, got {T} and {C}; raise n_positions or n_channels"
            )
        x = x + self.segment.weight[:T, None] + self.channel.weight[:C]
        x = self.dropout(x.flatten(1, 2))
        seen = self._seen(batch.channel_mask, T)
        for block in self.blocks:
            x = block(x, seen)
        return channel_tokens(self.norm(x), batch, self.patch_samples)

    def pool(self, encoded: Encoded) -> Tensor:
        """Return one vector per window, shape (B, D), by the rule of `pooling`."""
        return mean_token(encoded, last=self.pooling == "last")

    def _seen(self, channel_mask: Tensor, n_segments: int) -> Tensor:
        C = channel_mask.shape[1]
        at = torch.arange(n_segments, device=channel_mask.device).repeat_interleave(C)
        past = at[:, None] >= at if self.causal else torch.ones(len(at), len(at), dtype=torch.bool, device=at.device)
        return past & channel_mask.repeat(1, n_segments)[:, None, None, :]
