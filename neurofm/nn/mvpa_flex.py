"""The `flex` road of multivariate parallel attention: one generated kernel on a CUDA device.

`torch.nn.attention.flex_attention` computes the content logit of a tile of queries and keys; our rule then sets it
to 0 beyond the content window and adds the query's own time and channel logits, read from the rows of the two
terms. Tiles in which every key lies in the future are skipped (`key_blocks`). Missing channels need no block of
their own: their channel logit gives weight 0. Queries and keys are padded to whole blocks, as kernels of torch up
to 2.7 gave NaN gradients where a block was cut (pytorch/pytorch#153799). Shapes as in `neurofm.nn.mvpa`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from neurofm.schema.errors import ConfigError

if TYPE_CHECKING:
    from neurofm.nn.mvpa_roads import Terms

BLOCK = 128
"""Queries and keys in a block of the mask: the size that flex_attention's own masks have."""


class Layout(NamedTuple):
    """Where the rows of a padded grid lie. Tensors, not numbers, so that a new shape needs no new rule.

    Attributes
    ----------
    segment : Tensor, shape (Q,), long
        Segment of every query; padding counts to the last segment.
    last_seen : Tensor, shape (Q,), long
        Last segment whose keys the query sees.
    reach : Tensor, shape (Q,), long
        Segments on either side within which its content counts: all, for queries of the last segment.
    key_segment : Tensor, shape (N,), long
        Segment of every key; padding lies after the last one, where nobody looks.
    key_column, key_channel : Tensor, shape (N,), long
        Column of the time and of the channel term to read for the key.
    """

    segment: Tensor
    last_seen: Tensor
    reach: Tensor
    key_segment: Tensor
    key_column: Tensor
    key_channel: Tensor


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # what inference leaves in the cache, training must be able to save
def layout(
    n_segments: int, n_rows: int, n_channels: int, content_window: int, causal: bool, device: torch.device
) -> Layout:
    """Return the layout of T segments with R query rows and C channels each, whole blocks of both."""
    query = torch.arange(-(-n_segments * n_rows // BLOCK) * BLOCK, device=device)
    key = torch.arange(-(-n_segments * n_channels // BLOCK) * BLOCK, device=device)
    last = n_segments - 1
    segment = (query // n_rows).clamp(max=last)
    return Layout(
        segment=segment,
        last_seen=segment if causal else torch.full_like(segment, last),
        reach=torch.full_like(segment, content_window).masked_fill(segment == last, n_segments),
        key_segment=(key // n_channels).clamp(max=n_segments),
        key_column=(key // n_channels).clamp(max=last),
        key_channel=key % n_channels,
    )


def mask_rule(where: Layout) -> Callable[..., Tensor]:
    """Return flex_attention's mask_mod: a query sees the keys up to its last seen segment."""
    last_seen, key_segment = where.last_seen, where.key_segment
    return lambda batch, head, query, key: key_segment[key] <= last_seen[query]


def score_rule(where: Layout, time: Tensor, channel: Tensor) -> Callable[..., Tensor]:
    """Return flex_attention's score_mod: content inside the window, plus the two terms (B, K, Q, S) and (B, K, Q, C)."""
    segment, reach = where.segment, where.reach
    key_column, key_channel = where.key_column, where.key_channel

    def score(content: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        column = key_column[key]
        inside = (segment[query] - column).abs() <= reach[query]
        content = torch.where(inside, content, torch.zeros_like(content))
        return content + time[batch, head, query, column] + channel[batch, head, query, key_channel[key]]

    return score


def key_blocks(where: Layout) -> Any:
    """Return flex_attention's BlockMask, from the first and last segment of each block and no N × N matrix."""
    from torch.nn.attention.flex_attention import BlockMask

    last_seen, key_segment = where.last_seen.view(-1, BLOCK), where.key_segment.view(-1, BLOCK)
    some = key_segment[:, 0] <= last_seen[:, -1:]
    every = key_segment[:, -1] <= last_seen[:, :1]

    def numbered(chosen: Tensor) -> tuple[Tensor, Tensor]:
        order = chosen.int().argsort(dim=1, descending=True, stable=True)
        return chosen.sum(1).int()[None, None], order.int()[None, None]

    return BlockMask.from_kv_blocks(
        *numbered(some & ~every), *numbered(every), BLOCK_SIZE=BLOCK, mask_mod=mask_rule(where)
    )


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _block_mask(*choices: Any) -> Any:
    return key_blocks(layout(*choices))


@cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def flex_road(terms: Terms, content_window: int, causal: bool) -> Tensor:
    """Attend by flex_attention, compiled on first use (a minute or less); arguments as the other roads.

    Raises
    ------
    ConfigError
        Without a CUDA device: elsewhere flex_attention has no gradient or writes out all pairs.
    """
    if terms.key.device.type != "cuda":
        raise ConfigError(
            f"backend 'flex' needs a CUDA device, not '{terms.key.device.type}': use 'sdpa' (any device) or 'auto'"
        )
    return attend(terms, content_window, causal, _compiled())


def attend(terms: Terms, content_window: int, causal: bool, flex: Callable[..., Any]) -> Tensor:
    """Attend by `flex`, which is flex_attention, compiled or not.

    Returns
    -------
    Tensor, shape (B, K, T, R, d)
    """
    T, R, d = terms.query.shape[2:]
    C = terms.key.shape[3]
    choices = (T, R, C, content_window, causal, terms.key.device)
    where = layout(*choices)
    more_queries, more_keys = len(where.segment) - T * R, len(where.key_segment) - T * C
    width = max(16, 1 << (d - 1).bit_length())  # the kernels want powers of two
    dtype = terms.value.dtype  # under autocast, sums of biases may be wider than the products
    query = pad(terms.query.to(dtype).flatten(2, 3), (0, width - d, 0, more_queries))
    key = pad(terms.key.to(dtype).flatten(2, 3), (0, width - d, 0, more_keys))
    value = pad(terms.value.flatten(2, 3), (0, width - d, 0, more_keys))
    # gradients of the terms are summed over keys in the terms' own precision
    time = pad(terms.time.float().flatten(2, 3), (0, 0, 0, more_queries))
    channel = pad(terms.channel.float().flatten(2, 3), (0, 0, 0, more_queries))
    out = flex(
        query,
        key,
        value,
        score_mod=score_rule(where, time, channel),
        block_mask=_block_mask(*choices),
        scale=1.0,
    )
    return out[:, :, : T * R, :d].unflatten(2, (T, R))
