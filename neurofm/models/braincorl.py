"""BraInCoRL: a voxel's encoding model read from a handful of its responses (Yu et al., NeurIPS 2025, arXiv:2505.15813).

One voxel is one task. Each context trial is a token: the stimulus embedding with the scalar response → residual network
→ width D; with register tokens through pre-norm transformer layers, queries scaled by the logarithm of the sequence's
length so that contexts of any size can be read. The first register is the voxel's vector; the objective `in_context`
turns it into the weights of a linear map. No order of trials, no order of voxels, no subject: a new person needs no
gradient step.

As a backbone it reads a batch transposed: the trials of one subject in the batch are the context of each of that
subject's channels, so a window's tokens do depend on its neighbours in the batch, which no other model's do.

Shape legend: B trials, C channel, V voxels, n context, E embedding, D width, R register.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens
from neurofm.models.vector import mean_over_time
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts


class _Layer(nn.Module):
    """Pre-norm attention with log-scaled queries, and SwiGLU."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.dropout = n_heads, dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.gate, self.up, self.down = nn.Linear(dim, ffn_dim), nn.Linear(dim, ffn_dim), nn.Linear(ffn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        # a softmax over more tokens gets flatter; the logarithm keeps its sharpness
        mixed = F.scaled_dot_product_attention(q * math.log(x.shape[1]), k, v)
        x = x + F.dropout(self.out(mixed.transpose(1, 2).flatten(2)), self.dropout, self.training)
        h = self.norm_2(x)
        return x + F.dropout(self.down(F.silu(self.gate(h)) * self.up(h)), self.dropout, self.training)


class BraInCoRL(Backbone):
    """In-context transformer over (stimulus, response) pairs; N = C tokens, one per channel.

    Parameters
    ----------
    facts : Facts
        `embedding_shape` (E,).
    embedding : str, optional
        Which of ``batch.stimulus_embedding``; may be left out where there is one.
    dim, n_layers, n_heads, ffn_dim, n_registers, dropout
        Of the transformer.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        embedding: str | None = None,
        dim: int = 560,
        n_layers: int = 20,
        n_heads: int = 10,
        ffn_dim: int = 2048,
        n_registers: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(facts.embedding_shape) != 1:
            raise ConfigError(
                f"braincorl: needs one vector per stimulus, the embedding has shape {facts.embedding_shape}; "
                "make one with `neurofm embed data=stimuli` and name it in data"
            )
        if dim % n_heads or n_registers < 1:
            raise ConfigError(f"braincorl: dim={dim} must divide by n_heads={n_heads}, n_registers be at least 1")
        self.dim, self.embedding, self.n_dim = dim, embedding, facts.embedding_shape[0]
        self.enter = nn.Linear(self.n_dim + 1, dim)
        self.enter_block = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.register_tokens = nn.Parameter(0.02 * torch.randn(n_registers, dim))
        self.layers = nn.ModuleList(_Layer(dim, n_heads, ffn_dim, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)

    def voxels(self, embedding: Tensor, response: Tensor) -> Tensor:
        """Return one vector per voxel from its context.

        Parameters
        ----------
        embedding : Tensor, shape (V, n, E) or (n, E)
            Of the context's stimuli; made length one here.
        response : Tensor, shape (V, n)

        Returns
        -------
        Tensor, shape (V, D)
        """
        unit = F.normalize(embedding, dim=-1).expand(len(response), -1, -1)
        # length-one embeddings have entries of size 1/√E; the response would drown them
        x = self.enter(torch.cat([unit * math.sqrt(self.n_dim), response[..., None]], dim=-1))
        x = x + self.enter_block(x)
        x = torch.cat([self.register_tokens.expand(len(x), -1, -1), x], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x[:, 0])

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per channel, from all the trials of its subject in the batch."""
        have = batch.stimulus_embedding
        name = self.embedding if self.embedding is not None else next(iter(have), None)
        if name is None or name not in have:
            raise DataError(f"braincorl: the batch has no stimulus embedding '{self.embedding}' to read contexts with")
        B, C = batch.channel_mask.shape
        response = mean_over_time(batch)
        tokens = response.new_zeros(B, C, self.dim)
        subject = torch.zeros_like(batch.channel_mask[:, 0].long()) if batch.subject is None else batch.subject
        for one in subject.unique():
            rows = (subject == one).nonzero().flatten()
            there = batch.channel_mask[rows].all(0).nonzero().flatten()
            vectors = self.voxels(have[name][rows].to(response), response[rows][:, there].T)
            tokens = tokens.index_put((rows[:, None], there), vectors.expand(len(rows), -1, -1))
        return channel_tokens(tokens, batch, batch.signal.shape[-1])
