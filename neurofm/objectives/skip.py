"""Linear paths beside the network: what is added to its estimate of hidden channels.

A skip takes (visible signal (B, C, S) with hidden channels zeroed, visible (B, C) bool, batch) and returns (B, C, S).
To add one: a class with that forward and `__init__(self, facts, /, **choices)`, and its name in `SKIPS`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.schema.registry import Registry

SKIPS = Registry(
    "skip",
    {
        "channel_mixing": "neurofm.objectives.skip:ChannelMixing",
        "ridge": "neurofm.objectives.ridge_skip:RidgeSkip",
    },
)


class ChannelMixing(nn.Module):
    """One weight per pair of named channels and lag: a linear model in the units of the signal.

    Zero at first, so that the network starts alone; `set_weights` starts it from a solution computed elsewhere
    (a ridge regression), of which the network then learns the residual.

    Parameters
    ----------
    facts : Facts
        Its `channels` are the vocabulary; unknown channels neither give nor receive.
    lags : sequence of int
        Samples; lag 1 reads the sample after the estimated one.
    trainable : bool
        Whether the weights go on learning.
    """

    def __init__(self, facts: Facts, /, *, lags: Sequence[int] = (-1, 0, 1), trainable: bool = True) -> None:
        super().__init__()
        if not facts.channels:
            raise ConfigError("skip 'channel_mixing' needs named channels, but the data have no channel vocabulary")
        self.lags = tuple(int(lag) for lag in lags)
        n = len(facts.channels) + 1
        # [to, from, lag]; row and column 0 stand for unknown channels and stay unused
        self.weight = nn.Parameter(torch.zeros(n, n, len(self.lags)), requires_grad=trainable)

    @torch.no_grad()
    def set_weights(self, weight: Tensor) -> None:
        """Copy weights of shape (V, V, lag), [to, from, lag], V the vocabulary without the unknown channel."""
        expected = (len(self.weight) - 1, len(self.weight) - 1, len(self.lags))
        if tuple(weight.shape) != expected:
            raise ConfigError(f"skip 'channel_mixing' needs weights of shape {expected}, got {tuple(weight.shape)}")
        self.weight[1:, 1:] = weight.to(self.weight)

    def forward(self, signal: Tensor, visible: Tensor, batch: NeuralBatch) -> Tensor:
        """Mix the visible channels into every channel, (B, C, S)."""
        if batch.channel_ids is None:
            raise ConfigError("skip 'channel_mixing' needs batch.channel_ids; load the data with a channel vocabulary")
        ids = batch.channel_ids
        known = ids > 0
        weight = self.weight[ids[:, :, None], ids[:, None, :]]
        weight = weight * (known[:, :, None] & (known & visible)[:, None, :]).unsqueeze(-1)
        mixed = torch.zeros_like(signal)
        for i, lag in enumerate(self.lags):
            mixed = mixed + weight[..., i] @ shifted(signal, lag)
        return mixed


def shifted(signal: Tensor, lag: int) -> Tensor:
    """Return y with y[t] = signal[t + lag], zeros beyond the ends."""
    if lag == 0:
        return signal
    moved = torch.zeros_like(signal)
    if lag > 0:
        moved[..., :-lag] = signal[..., lag:]
    else:
        moved[..., -lag:] = signal[..., :lag]
    return moved
