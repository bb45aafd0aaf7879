"""The weights of multivariate parallel attention, one query segment at a time: for looking at, not for training.

Shape legend as in `neurofm.nn.mvpa`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.nn.mvpa_roads import Terms, out_of_window


def segment_weights(terms: Terms, content_window: int, segment: int, *, by_lag: bool = False) -> Tensor:
    """Return the weights that the queries of one segment give to all keys.

    Parameters
    ----------
    terms : Terms
        As `MultivariateParallelAttention.terms` gives them.
    content_window : int
        The attention's.
    segment : int
        Of the queries.
    by_lag : bool
        Normalise among the channels of each key segment instead of among all keys. The time term, the same for all
        channels of a segment, then drops out, and so does the causal mask: what is left comes from content and the
        channel term alone.

    Returns
    -------
    Tensor, shape (B, K, R, S, C)
        Sums to 1 over (S, C), or over C with `by_lag`. Segments that the query may not see then have weights too.
    """
    T = terms.key.shape[2]
    near = ~out_of_window(T, content_window, device=terms.key.device)[segment]
    content = torch.einsum("bkrd,bkscd->bkrsc", terms.query[:, :, segment], terms.key)
    logits = content * near[:, None].to(content.dtype) + terms.channel[:, :, segment].unsqueeze(-2)
    wide = torch.promote_types(logits.dtype, torch.float32)
    if by_lag:
        return logits.softmax(-1, dtype=wide)
    logits = logits + terms.time[:, :, segment].unsqueeze(-1)
    return logits.flatten(-2).softmax(-1, dtype=wide).view_as(logits)
