"""Multivariate parallel attention, one query segment at a time: the near keys plus a tail that factorises.

Beyond the content window the logit is a(segment) + b(channel), so the weight of a key is a product of one factor
per segment and one per channel: neither its logit nor its exponential is computed, only the product. All else is
matrix products, in pieces that stay in the cache of a core. Shapes as in `neurofm.nn.mvpa`, with X heads of samples
(of B·K) at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _piece_size(device: torch.device) -> int:
    """Return how many weights to hold at once.

    On a CPU 1 MB of float32 per thread, which the cache of a core holds beside its operands (from half to four
    times as much made no difference of note); elsewhere 128 MB, since there each step costs a dozen launches.
    """
    return 2**18 * torch.get_num_threads() if device.type == "cpu" else 2**25


def _heads(n_heads: int, weights_of_one: int, device: torch.device) -> Iterator[slice]:
    """Yield slices of the heads, as many at a time as fit in a piece."""
    step = max(1, _piece_size(device) // weights_of_one)
    for lo in range(0, n_heads, step):
        yield slice(lo, min(lo + step, n_heads))


def _spans(t: int, n_segments: int, content_window: int, causal: bool) -> tuple[int, int, int]:
    """Return first and end of the keys with content for query segment `t`, and the end of the tail.

    The tail is what lies in [0, end of tail) but not in [first, end).
    """
    seen = t + 1 if causal else n_segments
    if t == n_segments - 1:
        return 0, seen, 0
    first, end = max(0, t - content_window), min(seen, t + content_window + 1)
    return first, end, first if causal else (0 if first == 0 and end == seen else seen)


class _Piece(NamedTuple):
    """Weights (X, R, n, C) of one segment's queries for the keys of segments [first, end), and X the heads at hand."""

    first: int
    end: int
    weight: Tensor


class _Tail(NamedTuple):
    """What the tail's weights factorise into: exp(total) · time · channel, before the near keys are counted."""

    time: Tensor  # (X, R, tail), sums to 1
    channel: Tensor  # (X, R, C), sums to 1
    total: Tensor  # (X, R), log-sum-exp of the tail's logits


def _tail(time: Tensor, channel: Tensor, first: int, end: int, tail: int) -> _Tail:
    far = time[..., :tail]
    if tail > first:  # only without causality does the tail go on after the window
        far = far.clone()
        far[..., first:end] = -torch.inf
    over_time, over_channels = far.softmax(-1), channel.softmax(-1)
    # the largest weight is exp(largest logit − log-sum-exp)
    top = far.amax(-1) + channel.amax(-1)
    return _Tail(over_time, over_channels, top - (over_time.amax(-1) * over_channels.amax(-1)).log_())


class _Workspace:
    """Two buffers that every segment uses again, so that no large piece of memory is asked for twice."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers = [like.new_empty(0), like.new_empty(0)]

    def take(self, which: int, *shape: int) -> Tensor:
        """Return a contiguous tensor of `shape` in buffer `which`, with whatever it held."""
        size = math.prod(shape)
        if self.buffers[which].numel() < size:
            self.buffers[which] = self.like.new_empty(size)
        return self.buffers[which][:size].view(shape)


class _Kept:
    """Softmaxes of the near keys that the forward pass leaves to the backward pass, the first 64 MB of a layer.

    One that is kept saves a matrix product and a softmax (a ninth of the time at 64 channels × 32 segments).
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self.found: list[Tensor | None] = []

    def room(self, like: Tensor, *shape: int) -> Tensor | None:
        """Return memory for the next one, or None when that is more than is left."""
        size = math.prod(shape)
        self.found.append(like.new_empty(shape) if size <= self.left else None)
        self.left -= size if size <= self.left else 0
        return self.found[-1]


KEPT_VALUES = 2**24


def _pieces(
    space: _Workspace,
    query: Tensor,
    key: Tensor,
    time: Tensor,
    channel: Tensor,
    spans: tuple[int, int, int],
    *,
    keep: _Kept | None = None,
    known: Tensor | None = None,
) -> Iterator[_Piece]:
    """Yield the weights of one segment's queries: first for the near keys, then for the tail, a few segments each.

    Each piece lies in the first buffer, so it must be used up before the next is asked for; the second buffer is
    free between two pieces. The tail enters the softmax over the near keys as one more key. The softmax is written to
    `keep` where there is room, and not computed where it is `known`.
    """
    first, end, tail_end = spans
    X, R, C = channel.shape
    # a whole cache line for one key keeps the others aligned
    extra = 16 if tail_end else 0
    shape = X, R, extra + (end - first) * C
    tail = _tail(time, channel, first, end, tail_end) if tail_end else None
    weight = known
    if weight is None:
        logits = space.take(1, *shape)
        near = logits[..., extra:]
        torch.add(time[..., first:end, None], channel[..., None, :], out=near.unflatten(-1, (end - first, C)))
        near.baddbmm_(query, key[:, first * C : end * C].mT)
        if tail is not None:
            logits[..., 0] = tail.total
            logits[..., 1:extra] = -torch.inf
        room = None if keep is None else keep.room(query, *shape)
        weight = torch.softmax(logits, -1, out=space.take(0, *shape) if room is None else room)
    if tail is not None:
        time_weight = tail.time * weight[..., :1]
    yield _Piece(first, end, weight[..., extra:].unflatten(-1, (end - first, C)))
    if tail is not None:
        step = max(1, _piece_size(key.device) // (X * R * C))
        for lo in range(0, tail_end, step):
            hi = min(lo + step, tail_end)
            outer = space.take(0, X, R, hi - lo, C)
            yield _Piece(lo, hi, torch.mul(time_weight[..., lo:hi, None], tail.channel[..., None, :], out=outer))


class SegmentAttention(torch.autograd.Function):
    """Window plus factorised tail, one query segment at a time, with a hand-written backward.

    Inputs, output and at most 64 MB of weights are kept: O(N·(d + T + C)) for N tokens. All other weights are computed
    again in the backward pass; those of the tail are a product of one factor per segment and one per channel, so that
    neither their logits nor their exponentials are computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        time: Tensor,
        channel: Tensor,
        content_window: int,
        causal: bool,
    ) -> Tensor:
        """Return the output, shape (B, K, T, R, d); arguments as the fields of `Terms`."""
        B, K, T, R, _ = query.shape
        C = key.shape[3]
        out = torch.empty_like(query)
        space = _Workspace(query)
        keep = _Kept(KEPT_VALUES if any(ctx.needs_input_grad) else 0)
        for h in _heads(B * K, R * C * min(T, content_window + 1), query.device):
            q, a, b, o = (x.flatten(0, 1)[h] for x in (query, time, channel, out))
            k, v = (x.flatten(0, 1)[h].flatten(1, 2) for x in (key, value))
            for t in range(T):
                spans = _spans(t, T, content_window, causal)
                total = torch.zeros_like(q[:, t])
                for first, end, weight in _pieces(space, q[:, t], k, a[:, t], b[:, t], spans, keep=keep):
                    total.baddbmm_(weight.flatten(2), v[:, first * C : end * C])
                o[:, t] = total
        ctx.save_for_backward(query, key, value, time, channel, out)
        ctx.content_window, ctx.causal, ctx.kept = content_window, causal, keep.found
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key, value, time and channel terms."""
        query, key, value, time, channel, out = ctx.saved_tensors
        B, K, T, R, _ = query.shape
        C = key.shape[3]
        d_query, d_channel = torch.empty_like(query), channel.new_empty(channel.shape)
        d_key, d_value, d_time = torch.zeros_like(key), torch.zeros_like(value), time.new_zeros(time.shape)
        grad_out = grad_out.contiguous()
        delta = (grad_out * out).sum(-1, keepdim=True)  # Σ over keys of weight · its gradient
        space = _Workspace(query)
        kept = iter(ctx.kept)
        for h in _heads(B * K, R * C * min(T, ctx.content_window + 1), query.device):
            q, a, b, g, d_t = (x.flatten(0, 1)[h] for x in (query, time, channel, grad_out, delta))
            d_q, d_a, d_b = (x.flatten(0, 1)[h] for x in (d_query, d_time, d_channel))
            k, v, d_k, d_v = (x.flatten(0, 1)[h].flatten(1, 2) for x in (key, value, d_key, d_value))
            for t in range(T):
                spans = _spans(t, T, ctx.content_window, ctx.causal)
                is_near = True
                for first, end, weight in _pieces(space, q[:, t], k, a[:, t], b[:, t], spans, known=next(kept)):
                    keys, w = slice(first * C, end * C), weight.flatten(2)
                    d_v[:, keys].baddbmm_(w.mT, g[:, t])
                    d_logit = torch.bmm(g[:, t], v[:, keys].mT, out=space.take(1, *w.shape))
                    d_logit = d_logit.sub_(d_t[:, t]).mul_(w)
                    by_segment = d_logit.view(weight.shape)
                    if is_near:
                        d_q[:, t] = d_logit @ k[:, keys]
                        d_k[:, keys].baddbmm_(d_logit.mT, q[:, t])
                        d_a[:, t, :, first:end] = by_segment.sum(-1)
                        d_b[:, t] = by_segment.sum(-2)
                    else:
                        d_a[:, t, :, first:end] += by_segment.sum(-1)
                        d_b[:, t] += by_segment.sum(-2)
                    is_near = False
        return d_query, d_key, d_value, d_time, d_channel, None, None
