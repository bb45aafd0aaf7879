"""Patches read twice, by convolutions in time and by their spectrum, as CBraMod reads them (arXiv:2412.07236).

Shape legend: B batch, C channel, S sample, T segment, P samples per patch, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.nn.patching import cut_patches
from neurofm.schema.errors import ConfigError

_GROUPS = 5


class TimeFrequencyPatch(nn.Module):
    """Sum of three convolutions over a patch and of a linear map of its magnitudes.

    Parameters
    ----------
    dim : int
        Width D of the tokens.
    patch_samples : int
        P.
    n_maps : int
        Feature maps, a multiple of five. The first convolution steps by P / 8: 8 · 25 = 200 numbers for P = 200, which is
        D as published; otherwise a linear map brings them there.
    dropout : float
        Of the spectral part.
    """

    def __init__(self, dim: int, *, patch_samples: int, n_maps: int = 25, dropout: float = 0.1) -> None:
        super().__init__()
        if n_maps % _GROUPS:
            raise ConfigError(f"n_maps={n_maps} must be a multiple of {_GROUPS}, the groups of the norms")
        self.patch_samples = self.n_features = patch_samples
        stride = max(1, patch_samples // 8)
        steps = -(-patch_samples // stride)
        self.convs = nn.ModuleList(
            [
                nn.Conv1d(1, n_maps, 2 * stride - 1, stride=stride, padding=stride - 1),
                nn.Conv1d(n_maps, n_maps, 3, padding=1),
                nn.Conv1d(n_maps, n_maps, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, n_maps) for _ in range(3))
        self.project: nn.Module = nn.Identity() if n_maps * steps == dim else nn.Linear(n_maps * steps, dim)
        self.spectral = nn.Sequential(nn.Linear(patch_samples // 2 + 1, dim), nn.Dropout(dropout))

    def patch_features(self, signal: Tensor) -> Tensor:
        """Cut `signal`, shape (B, C, S), into raw patches, shape (B, T, C, P)."""
        return cut_patches(signal, self.patch_samples)

    def forward(self, signal: Tensor) -> Tensor:
        """Map `signal`, shape (B, C, S), to tokens, shape (B, T, C, D)."""
        patches = self.patch_features(signal)
        x = patches.reshape(-1, 1, self.patch_samples)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        in_time = self.project(x.transpose(1, 2).flatten(1)).view(*patches.shape[:3], -1)
        magnitude = torch.fft.rfft(patches, dim=-1, norm="forward").abs()
        return in_time + self.spectral(magnitude)
