"""Distance of channels from where they are, in place of their order.

Shape legend: B batch, C channel, C_b valid channels of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError, DataError, nearest

MISSING = ("refuse", "far")


def distance_classes(positions: Tensor, channel_mask: Tensor, *, missing: str = "refuse") -> Tensor:
    """Cut the distance of every pair of channels into classes 0 … C_b − 1, as the attention's channel term needs.

    The class is the distance in units of the sample's largest one, times C_b − 1, rounded. So contacts at equal
    spacing on a line get exactly their difference in order, as in the published model; and unlike it, the classes
    go with the channels when they are reordered, do not depend on padding, and not on the frame or unit of the
    positions. Two sensors at one place have distance 0.

    Parameters
    ----------
    positions : Tensor, shape (B, C, 3), float
        Metres (any one unit will do), NaN where unknown.
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists.
    missing : str
        What to do with a valid channel whose position is unknown. ``refuse``: an error. ``far``: it counts as being
        at the largest distance, class C_b − 1, from every other channel.

    Returns
    -------
    Tensor, shape (B, C, C), long
        Symmetric; 0 on the diagonal and wherever a channel does not exist.

    Raises
    ------
    DataError
        When a valid channel has no position and `missing` is ``refuse``.
    """
    known = positions.isfinite().all(-1) & channel_mask
    if missing == "refuse" and bool((channel_mask & ~known).any()):
        sample, channel = (channel_mask & ~known).nonzero()[0].tolist()
        raise DataError(
            f"field positions: channel {channel} of window {sample} in the batch has no position, and "
            "channel_distance=coordinates needs one for each; prepare the recording with electrode positions, or "
            "choose missing_positions=far or channel_distance=index"
        )
    place = positions.masked_fill(~known.unsqueeze(-1), 0.0)
    # pair by pair, so that (i, j), (j, i) and any reordering give the same number to the bit
    metres = (place[:, :, None] - place[:, None, :]).square().sum(-1).sqrt()
    pair = known[:, :, None] & known[:, None, :]
    metres = metres.masked_fill(~pair, 0.0)
    largest = metres.amax((1, 2), keepdim=True)
    last = (channel_mask.sum(1) - 1).clamp(min=0)[:, None, None]
    share = metres / torch.where(largest > 0, largest, 1.0)
    classes = (share * last).round().long()
    unknown = channel_mask & ~known
    others = ~torch.eye(channel_mask.shape[1], dtype=torch.bool, device=positions.device)
    apart = (unknown[:, :, None] | unknown[:, None, :]) & channel_mask[:, :, None] & channel_mask[:, None, :] & others
    return torch.where(apart, last, classes)


def check_missing(missing: str) -> None:
    """Refuse an unknown way to treat missing positions."""
    if missing not in MISSING:
        raise ConfigError(f"unknown missing_positions '{missing}': {nearest(missing, MISSING)}")


def order_distance(channel_mask: Tensor) -> Tensor:
    """Return the published distance, the difference in the order of valid channels, shape (B, C, C), long."""
    order = channel_mask.cumsum(1)
    return (order[:, :, None] - order[:, None, :]).abs()
