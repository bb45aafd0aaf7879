"""Patches of raw samples through one linear map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.nn.patching import cut_patches


class LinearPatch(nn.Module):
    """Embed each patch of each channel by the same linear map.

    Parameters
    ----------
    dim : int
        Width D of the tokens.
    patch_samples : int
        Samples in a patch.
    normalise : bool
        Whether each patch is brought to mean 0 and standard deviation 1 first, so that its size and offset
        are lost. Off by default: transforms fitted on the training part do this without losing them.
    """

    def __init__(self, dim: int, *, patch_samples: int, normalise: bool = False) -> None:
        super().__init__()
        self.patch_samples = patch_samples
        self.n_features = patch_samples
        self.normalise = normalise
        self.embed = nn.Linear(patch_samples, dim)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Cut `signal`, shape (B, C, samples), into raw patches, shape (B, T, C, patch_samples)."""
        return cut_patches(signal, self.patch_samples)

    def forward(self, signal: Tensor) -> Tensor:
        """Map `signal`, shape (B, C, samples), to tokens, shape (B, T, C, D)."""
        patches = self.patch_features(signal)
        if self.normalise:
            centred = patches - patches.mean(-1, keepdim=True)
            # a flat patch (padding) becomes zeros
            patches = centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=torch.finfo(signal.dtype).tiny)
        return self.embed(patches)
