"""Which counts are hidden: by neuron, by time, at random, fixed neurons (co-smoothing) or the last bins (forward).

Every window has a mask of its own, drawn from a key, so that padding, batch and ranks change nothing.

Shape legend: B batch, C channel (unit), T bin.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.objectives.keyed import keyed_uniform, mix


def hidden_neurons(channel_mask: Tensor, key: Tensor, *, ratio: float) -> Tensor:
    """Hide a share of the units, shape (B, C): at least one and, where there are two, not all."""
    chance = keyed_uniform(key, channel_mask.shape[1]).masked_fill(~channel_mask, 2.0)
    rank = chance.argsort(1).argsort(1)
    n = channel_mask.sum(1, keepdim=True)
    many = (ratio * n).round().long().clamp(min=1).minimum((n - 1).clamp(min=1))
    return channel_mask & (rank < many)


def hidden_bins(time_mask: Tensor, key: Tensor, *, ratio: float, longest: int) -> Tensor:
    """Hide whole bins in spans of 1 to `longest`, about `ratio` of all, shape (B, T); never none."""
    T = time_mask.shape[1]
    draw, length = keyed_uniform(key, T), 1 + (keyed_uniform(mix(key), T) * longest).long()
    # spans may overlap: with starts at rate p the share hidden is 1 − (1 − p)^mean length
    start = draw < 1 - (1 - ratio) ** (2 / (longest + 1))
    # a window in which no span starts hides the bin whose number was the least
    least = draw.masked_fill(~time_mask, 2.0).argmin(1, keepdim=True)
    start = (start | (torch.arange(T, device=key.device) == least)) & time_mask
    hidden = torch.zeros_like(time_mask)
    for shift in range(min(longest, T)):
        hidden[:, shift:] |= (start & (length > shift))[:, : T - shift]
    return hidden & time_mask


def hidden_entries(there: Tensor, key: Tensor, *, ratio: float) -> Tensor:
    """Hide single counts, shape (B, C, T); keyed by (unit, bin), so padding changes nothing."""
    C, T = there.shape[1:]
    per_unit = mix(key[:, None] + torch.arange(C, device=key.device) * 0x9E3779B1)
    return there & (keyed_uniform(per_unit.flatten(), T).view(-1, C, T) < ratio)


def last_bins(time_mask: Tensor, n_bins: int) -> Tensor:
    """Hide the last bins that are there, shape (B, T)."""
    remaining = time_mask.flip(1).cumsum(1).flip(1)
    return time_mask & (remaining <= n_bins)


def last_channels(channel_mask: Tensor, n_units: int) -> Tensor:
    """Hide the last units that are there, shape (B, C)."""
    return last_bins(channel_mask, n_units)
