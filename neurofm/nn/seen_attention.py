"""Pre-norm attention block whose attention weights can be had, for reading them afterwards.

Shape legend: B batch, Q query, K key, H head, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class SeenAttentionBlock(nn.Module):
    """norm(x + attention + MLP): pre-norm with one more norm at the end (as Neuroformer has it).

    Parameters
    ----------
    dim, n_heads : int
        D and H.
    dropout : float
        On attention weights and on what attention and MLP add.
    cross : bool
        Whether keys are another sequence, with a norm of its own.
    """

    def __init__(self, dim: int, n_heads: int, dropout: float, *, cross: bool = False) -> None:
        super().__init__()
        self.n_heads, self.rate = n_heads, dropout
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim) if cross else None
        self.query, self.key_value, self.out = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, seen: Tensor, context: Tensor | None = None, weights: list[Tensor] | None = None
    ) -> Tensor:
        """Map x, shape (B, Q, D).

        Parameters
        ----------
        x : Tensor
        seen : Tensor, shape (B, 1, 1 or Q, K), bool
            Where a query may look.
        context : Tensor, shape (B, K, D), optional
            For a block with `cross`.
        weights : list, optional
            Gets the attention weights, shape (B, H, Q, K).
        """
        own = self.norm1(x)
        source = own if context is None or self.norm_context is None else self.norm_context(context)
        q = self._heads(self.query(own))
        k, v = map(self._heads, self.key_value(source).chunk(2, dim=-1))
        if weights is None:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=seen, dropout_p=self.rate if self.training else 0.0
            )
        else:
            logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
            weight = logits.masked_fill(~seen, -torch.inf).softmax(-1)
            weights.append(weight)
            mixed = weight @ v
        x = x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm3(x + self.dropout(self.mlp(self.norm2(x))))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
