"""Binned counts of any units → one token per bin → transformer over bins.

Source: Neural Data Transformer (Ye and Pandarinath 2021, arXiv:2108.01210) with the stitching, session token and prompt
token of MtM (Zhang et al. 2024, arXiv:2407.14668). A token is the sum over units of count × embedding of the unit, which
is a linear map of the counts with a column per unit: sessions with different units have different maps, and a unit that
is declared the same in two sessions has one column.

Shape legend: B batch, C channel (unit), T bin, P prefix tokens (prompt and session), H head, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

PROMPTS = ("none", "neuron", "temporal", "random", "co_smooth", "forward")
"""What the prompt token can say: the ways of hiding counts that `objectives.masked_counts` knows."""


class _Block(nn.Module):
    """x + attention(norm x), then x + MLP(norm x)."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.rate = n_heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, ffn_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn_dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """Map tokens (B, N, D); `seen` (B, 1, N, N) is True where a query may look at a key."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=self.rate if self.training else 0.0)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.mlp(self.norm2(x)))


class NDT(Backbone):
    """Stitched counts, learned positions, pre-norm transformer over bins.

    Parameters
    ----------
    facts : Facts
        Vocabulary of units, sessions, bin and window.
    dim, n_layers, n_heads, ffn_dim : int
        Width, depth, heads, inner width of the feed-forward blocks.
    embed_dropout, dropout : float
        On the tokens, and on what each layer adds (and on attention weights).
    max_count : float
        Counts above are cut to it on the way in.
    back_bins, forward_bins : int, optional
        How far a bin sees into past and future; default: everything (0 forward bins: causal).
    n_positions : int, optional
        Longest window in bins; default that of the facts.
    """

    takes_prompt = True

    def __init__(
        self,
        facts: Facts,
        *,
        dim: int = 64,
        n_layers: int = 4,
        n_heads: int = 2,
        ffn_dim: int = 128,
        embed_dropout: float = 0.1,
        dropout: float = 0.1,
        max_count: float = 20.0,
        back_bins: int | None = None,
        forward_bins: int | None = None,
        n_positions: int | None = None,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ConfigError(f"ndt: dim={dim} must be a multiple of n_heads={n_heads}")
        if min(back_bins or 0, forward_bins or 0) < 0 or max_count <= 0:
            raise ConfigError(
                f"ndt: back_bins={back_bins} and forward_bins={forward_bins} must be 0 or more, max_count={max_count} above 0"
            )
        self.dim, self.max_count = dim, max_count
        self.back_bins, self.forward_bins = back_bins, forward_bins
        # a sum over tens of units of a variance of about one
        self.unit = GrowingTable(len(facts.channels), dim, std=facts.max_channels**-0.5)
        self.bias = nn.Parameter(torch.zeros(dim))
        self.session = GrowingTable(len(facts.sessions), dim)
        self.prompt = nn.Embedding(len(PROMPTS), dim)
        self.position = nn.Embedding(n_positions or facts.window_samples, dim)
        self.dropout = nn.Dropout(embed_dropout)
        self.blocks = nn.ModuleList(_Block(dim, n_heads, ffn_dim, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        for table in (self.prompt, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def encode(self, batch: NeuralBatch, prompt: Tensor | None = None) -> Encoded:
        """Encode counts; `prompt`, shape (B,), long, says by its number in `PROMPTS` how they are hidden."""
        ids = check_units(batch)
        B, _, T = batch.signal.shape
        if self.position.num_embeddings < T:
            raise ConfigError(f"ndt takes {self.position.num_embeddings} bins, got {T}; raise model.n_positions")
        there = batch.channel_mask[..., None] & batch.time_mask[:, None]
        counts = torch.where(there, batch.signal, 0).clamp(max=self.max_count).to(self.bias.dtype)
        x = torch.einsum("bct,bcd->btd", counts, self.unit(ids)) + self.bias + self.position.weight[:T]
        if prompt is None:
            prompt = ids.new_zeros(B)
        session = ids.new_zeros(B) if batch.session is None else batch.session
        prefix = torch.stack([self.prompt(prompt), self.session(session)], dim=1)
        x = self.dropout(torch.cat([prefix, x], dim=1))
        seen = self._seen(batch.time_mask, prefix.shape[1])
        for block in self.blocks:
            x = block(x, seen)
        return segment_tokens(self.norm(x[:, prefix.shape[1] :]), batch, 1, mask=batch.time_mask)

    def subject_parameters(self) -> list[str]:
        """Return the columns of the units and the sessions' tokens."""
        return ["unit.weight", "session.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in vocabularies that begin with the present ones."""
        self.unit.grow(len(facts.channels))
        self.session.grow(len(facts.sessions))

    def _seen(self, time_mask: Tensor, n_prefix: int) -> Tensor:
        T = time_mask.shape[1]
        at = torch.arange(T, device=time_mask.device)
        ahead = at - at[:, None]
        near = torch.ones(T, T, dtype=torch.bool, device=at.device)
        if self.back_bins is not None:
            near &= ahead >= -self.back_bins
        if self.forward_bins is not None:
            near &= ahead <= self.forward_bins
        # everybody sees the prefix, which sees nothing but itself: else it would carry the future to a causal bin
        near = F.pad(near, (0, 0, n_prefix, 0), value=False)
        near = F.pad(near, (n_prefix, 0), value=True)
        return near & F.pad(time_mask, (n_prefix, 0), value=True)[:, None, None, :]
