"""A fixed montage: every channel at the row that its name has in the vocabulary.

Shape legend: B batch, C channel of the batch, M channel of the montage, S sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError, DataError


def to_montage(
    signal: Tensor,
    channel_mask: Tensor,
    channel_ids: Tensor | None,
    n_channels: int,
    *,
    model: str,
    missing: str = "zero",
) -> tuple[Tensor, Tensor]:
    """Put each channel at its name's row; channels without a known name are left out, those that lack are zero.

    Parameters
    ----------
    signal : Tensor, shape (B, C, S)
    channel_mask : Tensor, shape (B, C), bool
        Where the channel exists and is good.
    channel_ids : Tensor, shape (B, C), long
        1-based row in the vocabulary of names; 0 = unknown.
    n_channels : int
        M, length of the vocabulary.
    model : str
        Who asks, for the message.
    missing : str
        "zero", or "refuse": every channel of the montage must be there in every window.

    Returns
    -------
    signal : Tensor, shape (B, M, S)
    there : Tensor, shape (B, M), bool

    Raises
    ------
    ConfigError
        When the batch has no channel names.
    DataError
        When channels are missing that may not be, or a window has none of the montage's.
    """
    if channel_ids is None:
        raise ConfigError(f"{model}: needs batch.channel_ids, as it knows its electrodes by name; these data have none")
    B, _, S = signal.shape
    # row M takes what has no name, and is cut off
    row = torch.where(channel_mask & (channel_ids > 0), channel_ids - 1, n_channels)
    placed = signal.new_zeros(B, n_channels + 1, S).scatter(1, row[..., None].expand(-1, -1, S), signal)
    there = channel_mask.new_zeros(B, n_channels + 1).scatter(1, row, True)
    placed, there = placed[:, :n_channels], there[:, :n_channels]
    if missing == "refuse" and not bool(there.all()):
        raise DataError(
            f"{model}: a window has {int(there.sum(1).min())} of the {n_channels} channels of the montage; "
            "interpolate them when preparing, or choose missing=zero"
        )
    if not bool(there.any(1).all()):
        raise DataError(
            f"{model}: a window has none of the {n_channels} channels of the montage; give channels their canonical names"
        )
    return placed, there
