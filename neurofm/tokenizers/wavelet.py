"""The published encoder of MVPFormer: wavelet coefficients, normalised, through one linear map."""

from __future__ import annotations

from torch import Tensor, nn

from neurofm.nn.patching import cut_patches
from neurofm.nn.wavelet import coefficient_lengths, filter_bank, wavelet_transform


class WaveletPatch(nn.Module):
    """Embed each patch of each channel by its wavelet coefficients (arXiv:2506.20354).

    Full-depth transform with periodic continuation and without gradient, root-mean-square norm with a learned
    weight, linear map without bias. The norm makes tokens blind to the gain of a patch, so the published
    system needs no scaling of its input.

    Parameters
    ----------
    dim : int
        Width D of the tokens.
    patch_samples : int
        Samples in a patch (published: 2,560, 5 s at 512 Hz, giving 2,610 coefficients).
    wavelet : str
        A discrete wavelet by PyWavelets' name.
    """

    def __init__(self, dim: int, *, patch_samples: int, wavelet: str = "db4") -> None:
        super().__init__()
        self.patch_samples = patch_samples
        self.filters = filter_bank(wavelet)
        self.n_features = sum(coefficient_lengths(patch_samples, len(self.filters[0])))
        self.norm = nn.RMSNorm(self.n_features, eps=1e-5)
        self.embed = nn.Linear(self.n_features, dim, bias=False)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Transform `signal`, shape (B, C, samples), to wavelet coefficients, shape (B, T, C, n_features)."""
        return wavelet_transform(cut_patches(signal, self.patch_samples), *self.filters)

    def forward(self, signal: Tensor) -> Tensor:
        """Map `signal`, shape (B, C, samples), to tokens, shape (B, T, C, D)."""
        return self.embed(self.norm(self.patch_features(signal)))
