"""Multivariate parallel attention in its plainest fast form: the frozen yardstick of scripts/bench/mvpa.py.

All N × N logits (N = segments × channels) are written out, once: the content product, then the time and channel
terms added in place by broadcasting, so that nothing of size N × N is gathered, and one softmax. Do not make this
file faster or slower: ratios measured years apart are against the same code. Equations of arXiv:2506.20354, section
3, with the index conventions of its released code (lag L uses row T − 1 − L, distance n uses row C − 1 − n).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class PlainMVPA(nn.Module):
    """Causal attention over segments and channels, all channels valid; parameters named as in neurofm.nn.mvpa.

    Parameters
    ----------
    dim, n_heads, n_kv_heads : int
        Width D, query heads H, key/value heads K (a divisor of H).
    content_window : int
        Segments beyond which the content logit is 0; the last segment's queries are exempt.
    """

    def __init__(self, dim: int, *, n_heads: int, n_kv_heads: int | None = None, content_window: int = 10) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads or n_heads, dim // n_heads
        self.content_window = content_window
        kv_dim = self.n_kv_heads * self.head_dim
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * kv_dim, bias=False)
        self.time_key = nn.Linear(dim, kv_dim, bias=False)
        self.channel_key = nn.Linear(dim, kv_dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.randn(3, self.n_kv_heads, self.head_dim) * 0.02)

    def forward(self, tokens: Tensor, time_table: Tensor, channel_table: Tensor) -> Tensor:
        """Map tokens (B, T, C, D) to the same shape, by tables (T, D) and (C, D)."""
        B, T, C, D = tokens.shape
        K, G, d = self.n_kv_heads, self.n_heads // self.n_kv_heads, self.head_dim
        q = self.query(tokens).view(B, T, C, K, G, d).permute(0, 3, 4, 1, 2, 5) / math.sqrt(d)  # B K G T C d
        key, value = self.key_value(tokens).view(B, T * C, 2, K, d).permute(2, 0, 3, 1, 4)  # each B K N d
        u, v, w = self.bias[:, :, None, None, None] / math.sqrt(d)

        lag = torch.arange(T, device=tokens.device)[:, None] - torch.arange(T, device=tokens.device)
        time_row = self.time_key(time_table[:T]).view(T, K, d)[T - 1 - lag.abs()]  # T S K d
        time = torch.einsum("bkgtcd,tskd->bkgtcs", q + v, time_row)
        time = time.masked_fill(lag[:, None] < 0, torch.finfo(time.dtype).min / 4)

        distance = (torch.arange(C, device=tokens.device)[:, None] - torch.arange(C, device=tokens.device)).abs()
        channel_row = self.channel_key(channel_table[:C]).view(C, K, d)[C - 1 - distance]  # C C' K d
        channel = torch.einsum("bkgtcd,cekd->bkgtce", q + w, channel_row)

        inside = (lag <= self.content_window).to(tokens.dtype)
        inside[-1] = 1.0
        logits = (q + u).reshape(B, K, G * T * C, d) @ key.mT
        # an ordinary view would make autograd copy the whole gradient at each in-place step below
        logits = torch.ops.aten._unsafe_view(logits, (B, K, G, T, C, T, C))
        logits *= inside[:, None, :, None]
        logits += time[..., None]
        logits += channel[..., None, :]
        weight = logits.view(B, K, G * T * C, T * C).softmax(-1)
        del logits
        out = (weight @ value).view(B, K, G, T, C, d)
        return self.out(out.permute(0, 3, 4, 1, 2, 5).reshape(B, T, C, D))
