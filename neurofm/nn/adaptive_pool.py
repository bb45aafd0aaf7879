"""Any number of voxels to a fixed number, by the rule of adaptive pooling.

Shape legend: B batch, C channel, N output.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError, nearest

KINDS = ("max", "average")


def pool_channels(values: Tensor, channel_mask: Tensor, n_out: int, *, kind: str = "max") -> Tensor:
    """Pool the valid channels of each window to `n_out` numbers.

    Output i covers valid channels ⌊iV/N⌋ … ⌈(i+1)V/N⌉ − 1 of the window's V, in their order.

    Parameters
    ----------
    values : Tensor, shape (B, C)
    channel_mask : Tensor, shape (B, C), bool
        Windows may differ in their number of valid channels; bad ones may lie anywhere.
    n_out : int
        N.
    kind : str
        "max" or "average".

    Returns
    -------
    Tensor, shape (B, N)
    """
    if kind not in KINDS:
        raise ConfigError(f"unknown pooling '{kind}': {nearest(kind, KINDS)}")
    pool = F.adaptive_max_pool1d if kind == "max" else F.adaptive_avg_pool1d
    counts = channel_mask.sum(1)
    # valid channels first, in order
    packed = values.gather(1, (~channel_mask).to(torch.uint8).argsort(dim=1, stable=True))
    sizes = counts.unique().tolist()
    if sizes == [0] or 0 in sizes:
        raise ConfigError("a window has no valid channel to pool over")
    if len(sizes) == 1:
        return pool(packed[:, None, : sizes[0]], n_out)[:, 0]
    chosen = [(counts == n).nonzero().flatten() for n in sizes]
    pooled = torch.cat([pool(packed[rows, None, :n], n_out)[:, 0] for n, rows in zip(sizes, chosen, strict=True)])
    return pooled[torch.cat(chosen).argsort()]
