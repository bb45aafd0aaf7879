"""Which tokens a masked objective hides: pure functions of the valid channels and a generator.

True means hidden. Draws are made on the generator's device and moved, so a CPU generator gives the same masks
whatever the model's device.

Shape legend: B batch, T segment, C channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError


def random_channels(channel_mask: Tensor, *, ratio: float, generator: torch.Generator | None = None) -> Tensor:
    """Hide a share of each sample's valid channels.

    Parameters
    ----------
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists.
    ratio : float
        Share of the valid channels to hide, rounded to whole channels; at least one is hidden and at least
        one stays visible. In a sample of a single channel nothing is hidden.
    generator : torch.Generator, optional
        Source of randomness.

    Returns
    -------
    Tensor, shape (B, C), bool
    """
    return _hide_share(channel_mask, ratio, generator)


def random_segments(
    n_batch: int,
    n_segments: int,
    *,
    ratio: float,
    block: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Hide a share of each sample's segments, in blocks of neighbours.

    Parameters
    ----------
    n_batch, n_segments : int
        B and T.
    ratio : float
        Share of the blocks to hide; at least one is hidden and at least one stays visible where there are
        two or more, else nothing is hidden.
    block : int
        Segments in a block. The grid of blocks starts at a random segment, so every segment can begin one.
    generator : torch.Generator, optional
        Source of randomness.
    device : torch.device, optional
        Where the result goes.

    Returns
    -------
    Tensor, shape (B, T), bool
    """
    if block < 1:
        raise ConfigError(f"block={block} is not a number of segments: give 1 or more")
    shift = int(torch.randint(min(block, n_segments), (), generator=generator, device=_device(generator)))
    block_of_segment = (torch.arange(n_segments) + shift) // block
    n_blocks = int(block_of_segment[-1]) + 1
    hidden = _hide_share(torch.ones(n_batch, n_blocks, dtype=torch.bool), ratio, generator)
    return hidden[:, block_of_segment].to(device)


def random_tokens(
    channel_mask: Tensor, n_segments: int, *, ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Hide a share of each sample's valid tokens, anywhere on the grid.

    Parameters
    ----------
    channel_mask : Tensor, shape (B, C), bool
        True where the channel exists.
    n_segments : int
        T.
    ratio : float
        Share of the valid tokens to hide; at least one is hidden and at least one stays visible.
    generator : torch.Generator, optional
        Source of randomness.

    Returns
    -------
    Tensor, shape (B, T, C), bool
    """
    valid = channel_mask[:, None, :].expand(-1, n_segments, -1)
    return _hide_share(valid.flatten(1), ratio, generator).view(valid.shape)


def on_grid(hidden: Tensor, channel_mask: Tensor, *, n_segments: int) -> Tensor:
    """Spread a mask over channels (B, C) or segments (B, T, 1) over the grid of tokens, valid channels only.

    Returns
    -------
    Tensor, shape (B, T, C), bool
    """
    if hidden.ndim == 2:
        hidden = hidden[:, None, :]
    return hidden.expand(-1, n_segments, -1) & channel_mask[:, None, :]


def _hide_share(valid: Tensor, ratio: float, generator: torch.Generator | None) -> Tensor:
    """Hide round(ratio · n) of the n valid entries of each row, between 1 and n − 1; shape (B, n)."""
    if not 0 < ratio < 1:
        raise ConfigError(f"ratio={ratio} hides nothing or everything: give a share between 0 and 1")
    n_valid = valid.sum(1)
    n_hidden = (ratio * n_valid).round().long().clamp(min=1).minimum(n_valid - 1)
    lot = torch.rand(valid.shape, generator=generator, device=_device(generator)).to(valid.device)
    rank = lot.masked_fill(~valid, torch.inf).argsort(1).argsort(1)
    return (rank < n_hidden[:, None]) & valid


def _device(generator: torch.Generator | None) -> torch.device | str:
    return "cpu" if generator is None else generator.device
