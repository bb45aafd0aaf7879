"""Multivariate parallel attention of new segments to kept keys: the cached form of `neurofm.nn.mvpa`.

The published attention depends on the length T of its window in two ways: lag L uses row T − 1 − L of the time
table, and only the last segment's queries are exempt from the content window. A stream has no length, so here the
length W of the table is given, and the caller says which queries are exempt.

Shape legend as in `neurofm.nn.mvpa`; N kept and new segments of keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.nn.mvpa import MultivariateParallelAttention
from neurofm.nn.mvpa_roads import masked_logit


def keys_and_values(attention: MultivariateParallelAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Map normed tokens (B, S, C, D) to keys and values, each (B, K, S, C, d)."""
    B, S, C, _ = tokens.shape
    both = attention.key_value(tokens).view(B, S, C, 2, attention.n_kv_heads, attention.head_dim)
    key, value = both.permute(3, 0, 4, 1, 2, 5)
    return key, value


def attend_to_kept(
    attention: MultivariateParallelAttention,
    tokens: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    tables: tuple[Tensor | None, Tensor | None],
    channel_mask: Tensor,
    channel_distance: Tensor,
    n_segments: int,
    max_segments: int,
    exempt: bool,
) -> Tensor:
    """Attend from new segments to themselves and the segments before them, one query segment at a time.

    Parameters
    ----------
    attention : MultivariateParallelAttention
        Its maps and biases; causal.
    tokens : Tensor, shape (B, S, C, D)
        Normed tokens of the new segments.
    key, value : Tensor, shape (B, K, N, C, d)
        Of kept and new segments; the last S belong to `tokens`.
    tables : pair of Tensor, shapes (≥ W, D) and (≥ C, D)
        Time and channel table; None for a term that is left out.
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists.
    channel_distance : Tensor, shape (B, C, C), long
        Distance classes of the channels.
    n_segments : int
        W: lag L uses row W − 1 − L.
    max_segments : int
        Segments that a query sees, its own included; at most W.
    exempt : bool
        Whether content counts at every lag, as for the last segment of a window; else only up to the
        attention's content window.

    Returns
    -------
    Tensor, shape (B, S, C, D)
    """
    B, S, C, _ = tokens.shape
    N, K, d = key.shape[2], attention.n_kv_heads, attention.head_dim
    query = attention.query(tokens).view(B, S, C, K, -1, d).permute(0, 3, 1, 4, 2, 5)
    query = query.reshape(B, K, S, -1, d) * attention.scale
    content_bias, time_bias, channel_bias = (attention.bias * attention.scale)[:, :, None, None]
    channel = _channel_logits(attention, query + channel_bias, tables[1], channel_mask, channel_distance)
    by_row = _row_logits(attention.time_key, query + time_bias, tables[0], n_segments)
    out = []
    for s in range(S):
        last = N - S + s
        first = max(0, last + 1 - max_segments)
        lag = last - torch.arange(first, last + 1, device=tokens.device)
        logits = torch.einsum("bkrd,bkncd->bkrnc", (query + content_bias)[:, :, s], key[:, :, first : last + 1])
        if not exempt:
            logits = logits.masked_fill((lag > attention.content_window)[:, None], 0.0)
        if by_row is not None:
            logits = logits + by_row[:, :, s][..., n_segments - 1 - lag].unsqueeze(-1)
        logits = logits + channel[:, :, s].unsqueeze(-2)
        wide = torch.promote_types(logits.dtype, torch.float32)
        weight = logits.flatten(-2).softmax(-1, dtype=wide).to(value.dtype)
        out.append(weight @ value[:, :, first : last + 1].flatten(2, 3))
    heads = torch.stack(out, dim=2).view(B, K, S, -1, C, d)
    return attention.out(heads.permute(0, 2, 4, 1, 3, 5).reshape(B, S, C, -1))


def _row_logits(net: torch.nn.Module, query: Tensor, table: Tensor | None, n_rows: int) -> Tensor | None:
    """Logits (B, K, S, R, row) of queries (B, K, S, R, d) against the first rows of a table."""
    if table is None:
        return None
    row = net(table[:n_rows]).view(n_rows, query.shape[1], query.shape[-1])
    return torch.einsum("bksrd,lkd->bksrl", query, row)


def _channel_logits(
    attention: MultivariateParallelAttention, query: Tensor, table: Tensor | None, mask: Tensor, distance: Tensor
) -> Tensor:
    """Channel term (B, K, S, R, C), very negative where the key is padding."""
    B, K, S, R, _ = query.shape
    C = mask.shape[1]
    by_row = _row_logits(attention.channel_key, query, table, C)
    if by_row is None:
        channel = query.new_zeros(B, K, S, R, C)
    else:
        row = (mask.sum(1)[:, None, None] - 1 - distance).clamp(0, C - 1)
        index = row.repeat(1, R // C, 1)[:, None, None].expand(B, K, S, R, C)
        channel = by_row.gather(-1, index)
    return channel.masked_fill(~mask[:, None, None, None, :], masked_logit(channel.dtype))
