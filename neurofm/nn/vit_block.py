"""The transformer block of LaBraM and NeuroRVQ: pre-norm, with normalised queries and keys.

Shape legend: B batch, N token, D width, H head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class PreNormBlock(nn.Module):
    """x + γ₁·attention(norm x), then x + γ₂·mlp(norm x) (LaBraM, arXiv:2405.18765, section 2.2).

    Parameters
    ----------
    dim, n_heads, mlp_dim : int
        Width D, heads, width between the two maps of the MLP.
    layer_scale : float, optional
        First value of γ, one per coordinate; None = no γ.
    dropout : float
        Of what each half adds.
    drop_path : float
        In training, probability of leaving a half out for a sample.
    depth : int
        Number of this block from 1; the maps that write to the stream start smaller by √(2·depth).
    """

    def __init__(
        self,
        dim: int,
        *,
        n_heads: int,
        mlp_dim: int,
        layer_scale: float | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        depth: int = 1,
    ) -> None:
        super().__init__()
        self.n_heads, self.drop_path = n_heads, drop_path
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        # keys have no bias: it would change no weight
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))
        self.q_norm, self.k_norm = (nn.LayerNorm(dim // n_heads, eps=1e-6) for _ in range(2))
        self.out = nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, mlp_dim), nn.Linear(mlp_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.scale1, self.scale2 = (
            None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale)) for _ in range(2)
        )
        for linear in (self.qkv, self.out, self.up, self.down):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)
        for linear in (self.out, self.down):
            linear.weight.data.div_((2 * depth) ** 0.5)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Map tokens `x` (B, N, D) to the same shape; `mask` (B, N) is True where a token may be looked at."""
        x = x + self._kept(self.scale1, self._attention(self.norm1(x), mask))
        return x + self._kept(self.scale2, self.down(F.gelu(self.up(self.norm2(x)))))

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        q, k, v = qkv.unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _kept(self, scale: Tensor | None, x: Tensor) -> Tensor:
        x = self.dropout(x if scale is None else scale * x)
        if not self.training or self.drop_path == 0:
            return x
        keep = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * keep / (1 - self.drop_path)
