"""Heads from a model's width to the shape of an embedding.

Shape legend: B batch, D width of the model, T places of the embedding, E its dimension, R rank.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError, nearest


class ResidualProjector(nn.Module):
    """NICE's projector: linear, one residual block with GELU and dropout, layer norm (arXiv:2308.13234, table 5)."""

    def __init__(self, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(n_in, n_out)
        self.second = nn.Linear(n_out, n_out)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(n_out)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Project (…, D) to (…, E)."""
        h = self.first(x)
        return self.norm(h + self.dropout(self.second(F.gelu(h))))


class FactorisedHead(nn.Module):
    """Low-rank map to (T, E): R numbers per place, then one map to E that all places share, and an offset of each.

    One linear layer to 257 × 768 numbers holds nine tenths of a published system's weights; this holds a few per cent.
    """

    def __init__(self, n_in: int, shape: tuple[int, ...], rank: int, dropout: float) -> None:
        super().__init__()
        self.places, dim = math.prod(shape[:-1]), shape[-1]
        self.shape, self.rank = shape, rank
        self.dropout = nn.Dropout(dropout)
        self.reduce = nn.Linear(n_in, self.places * rank)
        self.expand = nn.Linear(rank, dim, bias=False)
        self.place_bias = nn.Parameter(torch.zeros(self.places, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Project (B, D) to (B, T, E)."""
        code = self.reduce(self.dropout(x)).unflatten(-1, (self.places, self.rank))
        return (self.expand(code) + self.place_bias).reshape(*x.shape[:-1], *self.shape)


class LinearHead(nn.Module):
    """One linear map to all numbers of the embedding."""

    def __init__(self, n_in: int, shape: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        self.shape = shape
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(n_in, math.prod(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Project (…, D) to (…, *shape)."""
        return self.linear(self.dropout(x)).unflatten(-1, self.shape)


HEADS = ("linear", "mlp", "residual", "factorised")


def build_head(kind: str, n_in: int, shape: tuple[int, ...], *, rank: int, hidden: int, dropout: float) -> nn.Module:
    """Make a head by name.

    Parameters
    ----------
    kind : str
        "linear"; "mlp": linear, GELU, linear; "residual": NICE's projector; "factorised": low rank.
    n_in : int
        D.
    shape : tuple of int
        (E,) or (T, E).
    rank : int
        R of "factorised".
    hidden : int
        Width inside "mlp"; 0 = 2·D.
    dropout : float
        At the input; inside the block of "residual".
    """
    if kind not in HEADS:
        raise ConfigError(f"alignment: unknown head '{kind}': {nearest(kind, HEADS)}")
    if kind == "linear":
        return LinearHead(n_in, shape, dropout)
    if kind == "factorised":
        return FactorisedHead(n_in, shape, rank, dropout)
    if kind == "mlp":
        hidden = hidden or 2 * n_in
        return nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), LinearHead(hidden, shape, dropout))
    if len(shape) > 1:
        raise ConfigError(f"alignment: head=residual gives one vector, the embedding is {shape}; use head=factorised")
    return ResidualProjector(n_in, shape[0], dropout)
