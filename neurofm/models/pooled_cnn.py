"""A convolutional network that sees each channel alone and pools over channels: a competitor, not a published system.

It takes any number of channels because it does not relate them: what it misses is who leads whom.

Shape legend: B batch, C channel, S sample, L step of the network, T segment, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

STRIDE = 8


class _Block(nn.Module):
    """x + pointwise(gelu(depthwise convolution(norm x))), norm over width and time; (N, D, L) → the same."""

    def __init__(self, dim: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, dilation=dilation, padding=dilation * (kernel // 2), groups=dim)
        self.pointwise = nn.Conv1d(dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.pointwise(F.gelu(self.depthwise(self.norm(x)))))


class PooledCNN(Backbone):
    """Dilated separable residual convolutions shared by all channels, mean and maximum over channels, one token per segment.

    Parameters
    ----------
    facts : Facts
        Rate and window.
    patch_s, patch_samples : float or int
        Length of the segment that a token stands for; a multiple of eight samples. Exactly one of the two.
    dim, n_layers : int
        Width D and number of residual convolutions; the dilation doubles from one to the next.
    kernel : int
        Taps of each, odd.
    dropout : float
        Of what each adds.
    """

    fuses_channels = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        dim: int = 64,
        n_layers: int = 4,
        kernel: int = 7,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.patch_samples = patch_length("pooled_cnn", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        if self.patch_samples % STRIDE or kernel % 2 == 0:
            raise ConfigError(
                f"pooled_cnn: a patch of {self.patch_samples} samples must be a multiple of {STRIDE}, kernel={kernel} odd"
            )
        self.n_segments = count_patches(facts.window_samples, self.patch_samples)
        self.stem = nn.Conv1d(1, dim, 2 * STRIDE, stride=STRIDE, padding=STRIDE // 2)
        self.blocks = nn.ModuleList(_Block(dim, kernel, 2**i, dropout) for i in range(n_layers))
        self.mix = nn.Linear(2 * dim, dim)
        self.norm = nn.LayerNorm(dim)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: N = T tokens that belong to no channel."""
        B, C, S = batch.signal.shape
        T = count_patches(S, self.patch_samples)
        x = self.stem(batch.signal.reshape(B * C, 1, S))
        for block in self.blocks:
            x = block(x)
        # (B, C, D, T): mean over the steps of a segment
        x = x.reshape(B, C, self.dim, T, -1).mean(-1)
        there = batch.channel_mask[:, :, None, None]
        mean = (x * there).sum(1) / there.sum(1).clamp(min=1)
        highest = x.masked_fill(~there, -torch.inf).amax(1)
        tokens = self.norm(self.mix(torch.cat([mean, highest], dim=1).transpose(1, 2)))
        return segment_tokens(tokens, batch, self.patch_samples)
