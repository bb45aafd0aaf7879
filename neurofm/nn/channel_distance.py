"""Distance of channels from where they are, in place of their order.

Shape legend: B batch, C channel, C_b valid channels of a sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError, DataError, nearest

MISSING = ("refuse", "far")
BINS = ("uniform", "rank")
# Distances that differ by less than this share of the largest count as equal when they are ranked: equally spaced
# contacts differ in their last digits only
TIE = 1e-4


def distance_classes(
    positions: Tensor, channel_mask: Tensor, *, missing: str = "refuse", bins: str = "uniform"
) -> Tensor:
    """Cut the distance of every pair of channels into classes 0 … C_b − 1, as the attention's channel term needs.

    The classes go with the channels when they are reordered, do not depend on padding, and not on the frame or unit
    of the positions. Two sensors at one place have distance 0.

    - ``uniform``: the distance in units of the sample's largest one, times C_b − 1, rounded. Contacts at equal
      spacing on a line get exactly their difference in order, as in the published model.
    - ``rank``: the share of the sample's other pairs that are closer, from 1 for the nearest pair to C_b − 1 for the
      farthest, so that all classes are about equally full. On shafts far apart, where ``uniform`` puts all
      neighbours into one class, they differ; what is lost is how much farther a pair is than the one before it.

    Parameters
    ----------
    positions : Tensor, shape (B, C, 3), float
        Metres (any one unit will do), NaN where unknown.
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists.
    missing : str
        What to do with a valid channel whose position is unknown. ``refuse``: an error. ``far``: it counts as being
        at the largest distance, class C_b − 1, from every other channel.
    bins : str
        How distances become classes.

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
    others = ~torch.eye(channel_mask.shape[1], dtype=torch.bool, device=positions.device)
    if bins == "rank":
        ranked = _rank(share, pair & others) * (last - 1).clamp(min=0)
        # 0 is kept for a channel and itself
        classes = torch.where(share > TIE, 1 + ranked.round().long(), 0).minimum(last)
    else:
        classes = (share * last).round().long()
    unknown = channel_mask & ~known
    apart = (unknown[:, :, None] | unknown[:, None, :]) & channel_mask[:, :, None] & channel_mask[:, None, :] & others
    return torch.where(apart, last, classes)


def _rank(share: Tensor, pair: Tensor) -> Tensor:
    """Return how many of a sample's pairs are closer, as a share of those closer than the farthest; (B, C, C), 0 to 1."""
    value = (share / TIE).round().masked_fill(~pair, torch.inf).flatten(1)
    closer = torch.searchsorted(value.sort(1).values, value).to(share.dtype).masked_fill(~pair.flatten(1), 0.0)
    return (closer / closer.amax(1, keepdim=True).clamp(min=1)).view_as(share)


def check_missing(missing: str) -> None:
    """Refuse an unknown way to treat missing positions."""
    if missing not in MISSING:
        raise ConfigError(f"unknown missing_positions '{missing}': {nearest(missing, MISSING)}")


def check_bins(bins: str) -> None:
    """Refuse an unknown way to make classes of distances."""
    if bins not in BINS:
        raise ConfigError(f"unknown distance_bins '{bins}': {nearest(bins, BINS)}")


def order_distance(channel_mask: Tensor) -> Tensor:
    """Return the published distance, the difference in the order of valid channels, shape (B, C, C), long."""
    order = channel_mask.cumsum(1)
    return (order[:, :, None] - order[:, None, :]).abs()
