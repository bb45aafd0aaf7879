"""The `sdpa` road of multivariate parallel attention: no kernel of our own, no matrix of all pairs of tokens.

Two facts about the logit make it possible. The time term depends on the key only through its segment, and the
channel term only through its channel; so both are dot products of the query's own rows of terms with one-hot
codes of the key (`fused_attention`). And where the content term is 0, beyond the content window, the logit is
a(segment) + b(channel), so that its exponential is a product of two small factors
(`neurofm.nn.mvpa_segments`). Shapes as in `neurofm.nn.mvpa`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

from neurofm.nn.mvpa_segments import SegmentAttention

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
    query, key, value, time, channel = (x.to(torch.promote_types(dtype, torch.float32)) for x in terms)
    with torch.autocast(device_type=terms.key.device.type, enabled=False):
        # the operands of products are laid out once; time and channel terms are read once or twice as they lie
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        return SegmentAttention.apply(query, key, value, time, channel, content_window, causal).to(dtype)


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
