"""Amplitude and phase of patches, and back.

The transform is orthonormal: white noise of variance 1 has mean square amplitude 1 at every frequency.

Shape legend: … leading axes, P samples per patch, F = P // 2 + 1 frequencies.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Spectrum(NamedTuple):
    """Amplitude ≥ 0 and the sine and cosine of the phase, each (…, F)."""

    amplitude: Tensor
    sin: Tensor
    cos: Tensor


def spectrum_of(patches: Tensor) -> Spectrum:
    """Analyse `patches` (…, P); where there is no amplitude the phase counts as zero."""
    z = torch.fft.rfft(patches, norm="ortho")
    amplitude = z.abs()
    safe = amplitude.clamp(min=torch.finfo(amplitude.dtype).tiny)
    return Spectrum(amplitude, z.imag / safe, torch.where(amplitude > 0, z.real / safe, 1.0))


def patches_of(spectrum: Spectrum, n_samples: int) -> Tensor:
    """Synthesise patches (…, P) from a spectrum; sine and cosine need not lie on the unit circle.

    The imaginary parts at frequency zero and, for even P, at half the rate stand for nothing and are dropped.
    """
    length = (spectrum.sin.square() + spectrum.cos.square()).clamp(min=1e-8).sqrt()
    z = torch.complex(spectrum.amplitude * spectrum.cos / length, spectrum.amplitude * spectrum.sin / length)
    return torch.fft.irfft(z, n_samples, norm="ortho")


def bin_weights(n_samples: int) -> Tensor:
    """Weight of each frequency of a half spectrum in a mean over the full one, shape (F,); mean 1.

    Frequency zero and, for even P, half the rate occur once in the full spectrum, the others twice.
    """
    weight = torch.full((n_samples // 2 + 1,), 2.0)
    weight[0] = 1.0
    if n_samples % 2 == 0:
        weight[-1] = 1.0
    return weight / weight.mean()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (*mask.shape, …) where `mask` is True, over everything; 0 of nothing."""
    kept = values[mask]
    return kept.sum() / max(1, kept.numel())


def masked_deviation(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each sample over its true tokens and all their values.

    Parameters
    ----------
    values : Tensor, shape (B, N, F)
        Any.
    mask : Tensor, shape (B, N), bool
        Which tokens count.

    Returns
    -------
    mean, deviation : Tensor, shape (B, 1, 1)
        The deviation is at least 1e-6.
    """
    weight = mask[..., None].to(values.dtype)
    count = (weight.sum((1, 2), keepdim=True) * values.shape[-1]).clamp(min=1)
    values = values.masked_fill(~mask[..., None], 0.0)
    mean = values.sum((1, 2), keepdim=True) / count
    variance = ((values - mean).square() * weight).sum((1, 2), keepdim=True) / count
    return mean, variance.sqrt().clamp(min=1e-6)
