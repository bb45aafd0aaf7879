"""The `sdpa` road of multivariate parallel attention: no kernel of our own, no matrix of all pairs of tokens.

Two facts about the logit make it possible. The time term depends on the key only through its segment, and the
channel term only through its channel; so both are dot products of the query's own rows of terms with one-hot
codes of the key (`fused_attention`). And where the content term is 0, beyond the content window, the logit is
a(segment) + b(channel), so its exponential factorises and the sum over those keys is two small products
(`SegmentAttention`). Shapes as in `neurofm.nn.mvpa`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

if TYPE_CHECKING:
    from neurofm.nn.mvpa_roads import Terms


def sdpa_road(terms: Terms, content_window: int, causal: bool) -> Tensor:
    """Attend by one fused call while all segments lie in the content window, else segment by segment.

    On a CPU always segment by segment: the fused call multiplies vectors of width d + T + C instead of d and
    was slower in every case measured (forward + backward, d 32, 11 segments: 2.4 times with 64 channels, 4.3
    times with 128).

    Parameters
    ----------
    terms : Terms
        Content, time and channel terms.
    content_window : int
        Segments on either side of a query beyond which its content logit is 0.
    causal : bool
        Whether later segments are masked (in `terms.time`).

    Returns
    -------
    Tensor, shape (B, K, T, R, d)
    """
    if terms.key.shape[2] <= content_window + 1 and terms.key.device.type != "cpu":
        return fused_attention(terms)
    dtype = terms.value.dtype
    # sums of exponentials over a whole recording need float32; the tensors between layers stay as they are
    wide = [x.to(torch.promote_types(dtype, torch.float32)).contiguous() for x in terms]
    with torch.autocast(device_type=terms.key.device.type, enabled=False):
        return SegmentAttention.apply(*wide, content_window, causal).to(dtype)


def fused_attention(terms: Terms) -> Tensor:
    """Compute all three terms and the masks as one dot product, of width d + T + C.

    Query rows are extended by their time and channel logits, keys by one-hot codes of their segment and
    channel. Exact only if no content logit has to be 0.
    """
    query, key, value, time, channel = terms
    B, K, T, R, d = query.shape
    C = key.shape[3]
    width = -(-(d + T + C) // 8) * 8  # kernels for half precision want multiples of eight
    segment_code = one_hot(torch.arange(T, device=key.device), T).to(key.dtype)[:, None].expand(B, K, T, C, T)
    channel_code = one_hot(torch.arange(C, device=key.device), C).to(key.dtype).expand(B, K, T, C, C)
    long_query = pad(torch.cat([query, time, channel], dim=-1), (0, width - d - T - C)).flatten(2, 3)
    long_key = pad(torch.cat([key, segment_code, channel_code], dim=-1), (0, width - d - T - C)).flatten(2, 3)
    # the kernels want values as wide as keys
    long_value = pad(value, (0, width - d)).flatten(2, 3)
    out = scaled_dot_product_attention(long_query, long_key, long_value, scale=1.0)
    return out[..., :d].view(B, K, T, R, d)


def _spans(t: int, n_segments: int, content_window: int, causal: bool) -> tuple[int, int, int]:
    """Return first and end of the keys with content for query segment `t`, and the end of the tail.

    The tail is what lies in [0, end of tail) but not in [first, end).
    """
    seen = t + 1 if causal else n_segments
    if t == n_segments - 1:
        return 0, seen, 0
    first, end = max(0, t - content_window), min(seen, t + content_window + 1)
    return first, end, first if causal else (0 if first == 0 and end == seen else seen)


def _near_logits(query: Tensor, key: Tensor, time: Tensor, channel: Tensor) -> Tensor:
    """Logits (B, K, R, n, C) of one segment's queries against `n` segments of keys."""
    content = query @ key.flatten(2, 3).mT
    logits = content.unflatten(-1, (key.shape[2], key.shape[3]))
    return logits.add_(time.unsqueeze(-1)).add_(channel.unsqueeze(-2))


def _tail_time(time: Tensor, first: int, end: int, tail: int) -> Tensor:
    """Time logits (B, K, R, tail) of one segment's queries, −∞ where the key is not in the tail."""
    far = time[..., :tail].clone()
    far[..., first:end] = -torch.inf
    return far


class SegmentAttention(torch.autograd.Function):
    """Window plus factorised tail, one query segment at a time, with a hand-written backward.

    Only inputs, output and log-sum-exp are kept: O(N·(d + T + C)) for N tokens. The weights are computed
    again in the backward pass; those of the tail are ea[row, segment] · eb[row, channel] and never formed.
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
        T = query.shape[2]
        out = torch.empty_like(query)
        lse = query.new_empty(query.shape[:-1])
        value_by_segment = value.flatten(3)  # B K T C·d
        for t in range(T):
            first, end, tail = _spans(t, T, content_window, causal)
            a, b = time[:, :, t], channel[:, :, t]
            near = _near_logits(query[:, :, t], key[:, :, first:end], a[..., first:end], b).flatten(-2)
            top = near.amax(-1, keepdim=True)
            if tail:
                far = _tail_time(a, first, end, tail)
                top_a, top_b = far.amax(-1, keepdim=True), b.amax(-1, keepdim=True)
                top = torch.maximum(top, top_a + top_b)
            near = near.sub_(top).exp_()
            total = near.sum(-1, keepdim=True)
            sums = near @ value[:, :, first:end].flatten(2, 3)
            if tail:
                ea = far.sub_(top_a).exp_()
                eb = (b + (top_a - top)).exp_()  # ≤ 1, as top ≥ top_a + top_b
                total += ea.sum(-1, keepdim=True) * eb.sum(-1, keepdim=True)
                over_time = (ea @ value_by_segment[:, :, :tail]).unflatten(-1, value.shape[3:])  # B K R C d
                sums += (eb.unsqueeze(-2) @ over_time).squeeze(-2)
            out[:, :, t] = sums / total
            lse[:, :, t] = (top + total.log()).squeeze(-1)
        ctx.save_for_backward(query, key, value, time, channel, out, lse)
        ctx.content_window, ctx.causal = content_window, causal
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of query, key, value, time and channel terms."""
        query, key, value, time, channel, out, lse = ctx.saved_tensors
        T, C = key.shape[2:4]
        d_query, d_channel = torch.empty_like(query), torch.empty_like(channel)
        d_key, d_value, d_time = torch.zeros_like(key), torch.zeros_like(value), torch.zeros_like(time)
        value_by_segment, d_value_by_segment = value.flatten(3), d_value.flatten(3)
        grad_out = grad_out.contiguous()
        delta = (grad_out * out).sum(-1, keepdim=True)  # Σ over keys of weight · its gradient
        for t in range(T):
            first, end, tail = _spans(t, T, ctx.content_window, ctx.causal)
            q, a, b, g = query[:, :, t], time[:, :, t], channel[:, :, t], grad_out[:, :, t]
            d_t, lse_t = delta[:, :, t], lse[:, :, t].unsqueeze(-1)
            k, v = key[:, :, first:end].flatten(2, 3), value[:, :, first:end].flatten(2, 3)
            near = _near_logits(q, key[:, :, first:end], a[..., first:end], b).flatten(-2)
            weight = near.sub_(lse_t).exp_()
            d_value[:, :, first:end] += (weight.mT @ g).unflatten(2, (-1, C))
            d_logit = (g @ v.mT).sub_(d_t).mul_(weight)
            d_query[:, :, t] = d_logit @ k
            d_key[:, :, first:end] += (d_logit.mT @ q).unflatten(2, (-1, C))
            d_logit = d_logit.unflatten(-1, (-1, C))
            d_time[:, :, t, :, first:end] = d_logit.sum(-1)
            d_channel[:, :, t] = d_logit.sum(-2)
            if tail:
                far = _tail_time(a, first, end, tail)
                top_a = far.amax(-1, keepdim=True)
                ea = far.sub_(top_a).exp_()
                eb = (b + (top_a - lse_t)).exp_()
                spread = (eb.unsqueeze(-1) * g.unsqueeze(-2)).flatten(-2)  # B K R C·d
                d_value_by_segment[:, :, :tail] += ea.mT @ spread
                toward_time = spread @ value_by_segment[:, :, :tail].mT
                d_time[:, :, t, :, :tail] += ea * (toward_time - d_t * eb.sum(-1, keepdim=True))
                over_time = (ea @ value_by_segment[:, :, :tail]).unflatten(-1, value.shape[3:])
                toward_channel = (over_time @ g.unsqueeze(-1)).squeeze(-1)
                d_channel[:, :, t] += eb * (toward_channel - d_t * ea.sum(-1, keepdim=True))
        return d_query, d_key, d_value, d_time, d_channel, None, None
