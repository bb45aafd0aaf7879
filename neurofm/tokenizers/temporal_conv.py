"""Patches through small convolutions, as LaBraM and NeuroRVQ read them.

Shape legend: B batch, C channel, S sample, T segment, P samples per patch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.nn.patching import cut_patches
from neurofm.schema.errors import ConfigError

_GROUPS = 4


class TemporalConv(nn.Module):
    """Three convolutions over each patch (LaBraM, arXiv:2405.18765, section 2.2): 15 taps by steps of 8, then 3 and 3.

    Parameters
    ----------
    dim : int
        Width D of the tokens; for patches of 200 samples D / 25 feature maps give exactly D numbers, else a linear map
        brings them there.
    patch_samples : int
        P.
    n_maps : int, optional
        Feature maps, a multiple of four; default D · 8 / P, rounded up to one.
    """

    def __init__(self, dim: int, *, patch_samples: int, n_maps: int | None = None) -> None:
        super().__init__()
        self.patch_samples = patch_samples
        steps = -(-patch_samples // 8)
        n_maps = n_maps or -(-dim // (steps * _GROUPS)) * _GROUPS
        if n_maps % _GROUPS:
            raise ConfigError(f"n_maps={n_maps} must be a multiple of {_GROUPS}, the groups of the norms")
        self.n_features = patch_samples
        self.convs = nn.ModuleList(
            [
                nn.Conv1d(1, n_maps, 15, stride=8, padding=7),
                nn.Conv1d(n_maps, n_maps, 3, padding=1),
                nn.Conv1d(n_maps, n_maps, 3, padding=1),
            ]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(_GROUPS, n_maps) for _ in range(3))
        self.project: nn.Module = nn.Identity() if n_maps * steps == dim else nn.Linear(n_maps * steps, dim)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Cut `signal`, shape (B, C, S), into raw patches, shape (B, T, C, P)."""
        return cut_patches(signal, self.patch_samples)

    def forward(self, signal: Tensor) -> Tensor:
        """Map `signal`, shape (B, C, S), to tokens, shape (B, T, C, D)."""
        patches = self.patch_features(signal)
        x = patches.reshape(-1, 1, self.patch_samples)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.gelu(norm(conv(x)))
        # time by map, as the maps of a moment belong together
        return self.project(x.transpose(1, 2).flatten(1)).unflatten(0, patches.shape[:-1])


class MultiScaleConv(nn.Module):
    """Two convolutions over each patch at several scales in parallel (NeuroRVQ, arXiv:2510.13068, section 3.1).

    Parameters
    ----------
    dim : int
        Width D of the tokens of each scale.
    patch_samples : int
        P.
    first_taps, second_taps : sequence of int, odd
        Taps of the two convolutions, one pair per scale, longest first.
    """

    def __init__(
        self,
        dim: int,
        *,
        patch_samples: int,
        first_taps: Sequence[int] = (21, 15, 9, 5),
        second_taps: Sequence[int] = (9, 7, 5, 3),
    ) -> None:
        super().__init__()
        if len(first_taps) != len(second_taps) or not all(k % 2 for k in (*first_taps, *second_taps)):
            raise ConfigError(
                f"first_taps={list(first_taps)} and second_taps={list(second_taps)} must be equally many odd numbers"
            )
        self.patch_samples, self.n_features, self.n_scales = patch_samples, patch_samples, len(first_taps)
        # pooling by 2 and 4, by less where a patch is too short
        self.pools = (2 if patch_samples >= 2 else 1, 4 if patch_samples >= 8 else 1)
        steps = patch_samples // self.pools[0] // self.pools[1]
        n_maps = -(-dim // (steps * _GROUPS)) * _GROUPS
        self.scales = nn.ModuleList(
            nn.ModuleList(
                [
                    nn.Conv1d(1, n_maps, k1, padding=k1 // 2),
                    nn.GroupNorm(_GROUPS, n_maps),
                    nn.Conv1d(n_maps, n_maps, k2, padding=k2 // 2),
                    nn.GroupNorm(_GROUPS, n_maps),
                    nn.Identity() if n_maps * steps == dim else nn.Linear(n_maps * steps, dim),
                ]
            )
            for k1, k2 in zip(first_taps, second_taps, strict=True)
        )

    def patch_features(self, signal: Tensor) -> Tensor:
        """Cut `signal`, shape (B, C, S), into raw patches, shape (B, T, C, P)."""
        return cut_patches(signal, self.patch_samples)

    def forward(self, signal: Tensor) -> list[Tensor]:
        """Map `signal`, shape (B, C, S), to the tokens of each scale, each (B, T, C, D)."""
        patches = self.patch_features(signal)
        flat = patches.reshape(-1, 1, self.patch_samples)
        out = []
        for scale in self.scales:
            conv1, norm1, conv2, norm2, project = scale.children()
            x = F.avg_pool1d(F.gelu(norm1(conv1(flat))), self.pools[0])
            x = F.avg_pool1d(F.gelu(norm2(conv2(x))), self.pools[1])
            out.append(project(x.transpose(1, 2).flatten(1)).unflatten(0, patches.shape[:-1]))
        return out
