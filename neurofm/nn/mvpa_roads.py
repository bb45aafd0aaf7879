"""The roads of multivariate parallel attention: different ways to the same numbers, and which one to take.

Shape legend as in `neurofm.nn.mvpa`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neurofm.nn.mvpa_flex import flex_road
from neurofm.nn.mvpa_fused import sdpa_road


class Terms(NamedTuple):
    """What every road starts from; scaling and masks are already inside.

    Attributes
    ----------
    query : Tensor, shape (B, K, T, R, d)
        (q + u)·scale, so that ``query · key`` is the content logit.
    key, value : Tensor, shape (B, K, T, C, d)
        Keys and values, structured dropout applied to the values.
    time : Tensor, shape (B, K, T, R, S)
        Logit that depends on the key's segment; very negative where the key lies in the future.
    channel : Tensor, shape (B, K, T, R, C)
        Logit that depends on the key's channel; very negative where the key is padding.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    time: Tensor
    channel: Tensor


Road = Callable[[Terms, int, bool], Tensor]


def math_road(terms: Terms, content_window: int, causal: bool) -> Tensor:
    """Attend by writing out all logits: plain, readable, quadratic in memory.

    Parameters
    ----------
    terms : Terms
        Content, time and channel terms.
    content_window : int
        Segments on either side of a query beyond which its content logit is 0 (not −∞).
    causal : bool
        Unused: the causal mask is part of `terms.time`.

    Returns
    -------
    Tensor, shape (B, K, T, R, d)
    """
    B, K, T, R, _ = terms.query.shape
    C = terms.key.shape[3]
    content = terms.query.flatten(2, 3) @ terms.key.flatten(2, 3).mT
    # no view in the eyes of autograd, which would copy the whole gradient at each in-place step on a view
    logits = torch.ops.aten._unsafe_view(content, (B, K, T, R, T, C))
    del content  # the only name of the memory, so that it is free once the weights are known
    if content_window + 1 < T:
        near = ~out_of_window(T, content_window, device=logits.device)
        logits *= near[:, None, :, None].to(logits.dtype)
    logits += terms.time[..., None]
    logits += terms.channel[..., None, :]
    # half precision has too few digits for a sum over thousands of keys
    wide = torch.promote_types(logits.dtype, torch.float32)
    weight = logits.view(B, K, T * R, T * C).softmax(dim=-1, dtype=wide).to(terms.value.dtype)
    return (weight @ terms.value.flatten(2, 3)).view(B, K, T, R, -1)


def out_of_window(n_segments: int, content_window: int, device: torch.device | None = None) -> Tensor:
    """Return where the content logit is 0, shape (T, S), bool; the last segment's queries are exempt (paper)."""
    segment = torch.arange(n_segments, device=device)
    far = (segment[:, None] - segment[None, :]).abs() > content_window
    far[-1] = False
    return far


ROADS: dict[str, Road] = {"math": math_road, "sdpa": sdpa_road, "flex": flex_road}
"""Ways to compute the same numbers; a new one needs an entry here and, if `auto` may pick it, a rule below."""


def pick_road(
    *, device: torch.device, n_batch: int, n_heads: int, n_segments: int, n_channels: int, gradient: bool = True
) -> str:
    """Return the road that `auto` takes for an input of this size, with or without a backward pass.

    On a CPU the `sdpa` road pays about 0.2 ms per segment for its steps, and more where a segment has few channels
    and its products are thin; the `math` road pays for all pairs of query and key, most of all once their logits
    no longer fit into memory that is used again (24 MB). The limits are those of 23 sizes measured on one thread
    (2 to 94 channels, 4 to 64 segments): where the road taken was the slower one it lost at most a fifth.

    On other devices, where each step of the loop is a dozen launches, all pairs are taken while their logits fill
    less than 256 MB, and `flex` is never taken unasked: neither has been measured (scripts/gpu_check.sh does).
    """
    pairs = n_batch * n_heads * (n_segments * n_channels) ** 2
    if device.type != "cpu":
        few = pairs <= 2**26
    elif n_channels >= (20 if gradient else 16):
        few = pairs <= (2**19 if gradient else 2**18)
    else:
        few = pairs <= 6 * 2**20
    return "math" if few or n_segments == 1 else "sdpa"


def masked_logit(dtype: torch.dtype) -> float:
    """Return a logit that gives weight 0 yet is finite, so that 0 × it is 0 and two of them do not overflow."""
    return -3e4 if dtype == torch.float16 else -1e9
