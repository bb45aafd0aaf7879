"""EEGNet (Lawhern et al., J Neural Eng 2018, arXiv:1611.08024): filters over time, filters over electrodes, few weights.

    signal ─ electrodes at their places ─ F1 temporal filters × D spatial filters each ─ norm, ELU, pool 4 ─
    separable convolution ─ norm, ELU ─ mean of each segment

Filters over time and over electrodes commute, so the sum over electrodes comes first, which costs less. Unlike the paper
there is no norm between the two, spatial filters have no bound on their length, and the trial's segments are averaged
by `pool`, not flattened, so any window fits.

Shape legend: B batch, C channel, M electrode of the montage, S sample, T segment, D width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.montage import to_montage
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

POOL = 4


class EEGNet(Backbone):
    """One token per segment, of no channel.

    Parameters
    ----------
    facts : Facts
        Rate, window, names of the electrodes; those that a recording lacks are zero.
    patch_s, patch_samples : float or int
        Length of the segment that a token stands for, a multiple of four samples. Exactly one of the two.
    n_temporal, n_spatial : int
        F1 temporal filters, and D spatial filters of each (published: 8 and 2).
    kernel : int
        Taps of the temporal filters, odd (published: half a second).
    separable_kernel : int
        Taps of the separable convolution after pooling, odd.
    dropout : float
        After each of the two stages (published: 0.5 within a person).
    """

    fuses_channels = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        n_temporal: int = 8,
        n_spatial: int = 2,
        kernel: int = 65,
        separable_kernel: int = 15,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.patch_samples = patch_length("eegnet", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        if self.patch_samples % POOL or not kernel % 2 or not separable_kernel % 2:
            raise ConfigError(
                f"eegnet: a patch of {self.patch_samples} samples must be a multiple of {POOL}, kernel={kernel} and "
                f"separable_kernel={separable_kernel} odd"
            )
        count_patches(facts.window_samples, self.patch_samples)
        if not facts.channels:
            raise ConfigError("eegnet needs names of channels, which these data do not have")
        self.n_channels, self.n_spatial, self.dim = len(facts.channels), n_spatial, n_temporal * n_spatial
        self.spatial = nn.Linear(self.n_channels, self.dim, bias=False)
        self.temporal = nn.Parameter(torch.empty(n_temporal, 1, kernel))
        nn.init.kaiming_uniform_(self.temporal, a=5**0.5)
        self.norm_1, self.norm_2 = nn.BatchNorm1d(self.dim), nn.BatchNorm1d(self.dim)
        self.depthwise = nn.Conv1d(
            self.dim, self.dim, separable_kernel, padding=separable_kernel // 2, groups=self.dim, bias=False
        )
        self.pointwise = nn.Conv1d(self.dim, self.dim, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: N = T tokens that belong to no channel."""
        T = count_patches(batch.signal.shape[-1], self.patch_samples)
        x, _ = to_montage(batch.signal, batch.channel_mask, batch.channel_ids, self.n_channels, model="eegnet")
        # (B, D, S): each temporal filter serves its own spatial filters
        x = torch.einsum("dm,bms->bds", self.spatial.weight, x)
        taps = self.temporal.repeat_interleave(self.n_spatial, 0)
        x = F.conv1d(x, taps, padding=taps.shape[-1] // 2, groups=self.dim)
        x = self.dropout(F.avg_pool1d(F.elu(self.norm_1(x)), POOL))
        x = self.dropout(F.elu(self.norm_2(self.pointwise(self.depthwise(x)))))
        tokens = x[..., : T * self.patch_samples // POOL].unflatten(-1, (T, -1)).mean(-1).transpose(1, 2)
        return segment_tokens(tokens, batch, self.patch_samples)
