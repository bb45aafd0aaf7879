"""Patches by the logarithm of their power in bands: what rhythms there are and how strong, whatever their phase."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.nn.patching import cut_patches
from neurofm.nn.spectrum import bin_weights
from neurofm.schema.errors import ConfigError


class LogPower(nn.Module):
    """Log power of each patch in bands of equal width on a logarithmic scale of frequency.

    Parameters
    ----------
    patch_samples : int
        Samples P in a patch; bands reach from one cycle per patch to half the sampling rate.
    n_bands : int
        Bands F at most: fewer where the lowest ones would hold no frequency of their own.
    floor : float
        Power under which nothing is told apart, in squared units of the signal.
    standardise : bool
        Give each band about mean 0 and deviation 1 in white noise of variance 1, where the log of a mean of m squared
        amplitudes, each of two degrees of freedom, has mean ψ(m) − log m and variance ψ′(m).
    """

    window: Tensor
    mean_in_band: Tensor
    level: Tensor
    scale: Tensor

    def __init__(
        self, *, patch_samples: int, n_bands: int = 16, floor: float = 1e-4, standardise: bool = False
    ) -> None:
        super().__init__()
        n_bins = patch_samples // 2
        if n_bins < 1 or n_bands < 1 or floor <= 0:
            raise ConfigError(
                f"log_spectrum: patch_samples={patch_samples} must be 2 or more, n_bands={n_bands} and floor={floor} above 0"
            )
        self.patch_samples, self.floor = patch_samples, floor
        edges = torch.logspace(0, torch.log10(torch.tensor(n_bins + 1.0)).item(), n_bands + 1).round().long().unique()
        self.n_features = len(edges) - 1
        band = torch.bucketize(torch.arange(1, n_bins + 1), edges, right=True) - 1
        weight = torch.zeros(n_bins, self.n_features)
        weight[torch.arange(n_bins), band.clamp(max=self.n_features - 1)] = bin_weights(patch_samples)[1:]
        weight = weight / weight.sum(0)
        self.register_buffer("mean_in_band", weight, persistent=False)
        self.register_buffer("window", torch.hann_window(patch_samples, periodic=True), persistent=False)
        level, scale = torch.zeros(self.n_features), torch.ones(self.n_features)
        if standardise:
            n_amplitudes = 1 / weight.square().sum(0)
            level = n_amplitudes.digamma() - n_amplitudes.log()
            scale = torch.polygamma(1, n_amplitudes).rsqrt()
        self.register_buffer("level", level, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return log power, shape (B, T, C, F), of `signal`, shape (B, C, samples); white noise of variance 1 lies near 0."""
        patches = cut_patches(signal, self.patch_samples)
        window = self.window.to(patches.dtype)
        # the patch's mean goes first: through the window it would leak into the lowest band
        tapered = (patches - patches.mean(-1, keepdim=True)) * window / window.square().mean().sqrt()
        power = torch.fft.rfft(tapered, norm="ortho")[..., 1:].abs().square()
        log_power = (power @ self.mean_in_band.to(power.dtype) + self.floor).log()
        return (log_power - self.level.to(power.dtype)) * self.scale.to(power.dtype)


class LogSpectrum(LogPower):
    """Log power of each patch in bands, through one linear map.

    A linear map of raw samples cannot see power, which is quadratic; this is the feature that classical detectors of
    seizures and of states start from (as CBraMod's spectral half, arXiv:2412.07236, but logarithmic and without phase).

    Parameters
    ----------
    dim : int
        Width D of the tokens.
    patch_samples, n_bands, floor, standardise
        As of `LogPower`.
    """

    def __init__(
        self, dim: int, *, patch_samples: int, n_bands: int = 16, floor: float = 1e-4, standardise: bool = False
    ) -> None:
        super().__init__(patch_samples=patch_samples, n_bands=n_bands, floor=floor, standardise=standardise)
        self.embed = nn.Linear(self.n_features, dim)

    def forward(self, signal: Tensor) -> Tensor:
        """Map `signal`, shape (B, C, samples), to tokens, shape (B, T, C, D)."""
        return self.embed(self.patch_features(signal))
