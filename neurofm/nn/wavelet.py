"""Discrete wavelet transform, as PyWavelets computes it with ``mode="periodic"``.

Shape legend: N samples, F filter taps, K coefficients of one level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def filter_bank(wavelet: str) -> tuple[list[float], list[float]]:
    """Return the decomposition filters (low-pass, high-pass) of a discrete wavelet by PyWavelets' name."""
    import pywt

    chosen = pywt.Wavelet(wavelet)
    return chosen.dec_lo, chosen.dec_hi


def max_level(n_samples: int, n_taps: int) -> int:
    """Return the deepest useful level: the last at which the signal is longer than the filter.

    The largest L with (F − 1)·2^L ≤ N, and 0 for shorter signals; in integers, so exact at powers of two.
    """
    return max(0, (n_samples // (n_taps - 1)).bit_length() - 1)


def coefficient_lengths(n_samples: int, n_taps: int) -> list[int]:
    """Return the lengths of the approximation and of each detail, coarse to fine.

    One level turns N samples into floor((N + F − 1) / 2) coefficients of either kind.
    """
    details = []
    for _ in range(max_level(n_samples, n_taps)):
        n_samples = (n_samples + n_taps - 1) // 2
        details.append(n_samples)
    return [n_samples, *reversed(details)]


@torch.no_grad()
def wavelet_transform(signal: Tensor, low_pass: Sequence[float], high_pass: Sequence[float]) -> Tensor:
    """Transform to full depth; no gradient flows through.

    The signal is continued periodically ("periodic", not "periodization"), so each level overlaps its own
    start by F − 2 samples and the coefficients are slightly more than the samples (2,610 of db4 for 2,560).

    Parameters
    ----------
    signal : Tensor, shape (..., N), float
        Samples.
    low_pass, high_pass : sequence of F floats
        Decomposition filters, see `filter_bank`.

    Returns
    -------
    Tensor, shape (..., sum of `coefficient_lengths`)
        Approximation, then the details from coarse to fine, computed in float32 or better.
    """
    approximation = signal.to(torch.promote_types(signal.dtype, torch.float32))
    details = []
    for _ in range(max_level(signal.shape[-1], len(low_pass))):
        continued = _continue_periodically(approximation, len(low_pass))
        # even and odd samples apart, each filter tap is one pass over neighbours in memory
        phases = continued[..., 0::2].contiguous(), continued[..., 1::2].contiguous()
        approximation, detail = _every_other(phases, low_pass), _every_other(phases, high_pass)
        details.append(detail)
    return torch.cat([approximation, *reversed(details)], dim=-1).to(signal.dtype)


def _continue_periodically(x: Tensor, n_taps: int) -> Tensor:
    """Return the samples 2 − F … 2·floor((N + F − 1) / 2) − 1 of the periodic signal whose period is `x`."""
    n = x.shape[-1]
    sample = torch.arange(2 - n_taps, 2 * ((n + n_taps - 1) // 2), device=x.device)
    return x.index_select(-1, sample % n)


def _every_other(phases: tuple[Tensor, Tensor], taps: Sequence[float]) -> Tensor:
    """Convolve a continued signal, given as its even and odd samples, and keep every second value.

    Coefficient k is the sum over taps j of tap · sample (2k + F − 1 − j).
    """
    n_coefficients = phases[0].shape[-1] - len(taps) // 2 + 1
    total = torch.zeros_like(phases[0][..., :n_coefficients])
    for j, tap in enumerate(taps):
        lag, phase = divmod(len(taps) - 1 - j, 2)
        total.add_(phases[phase][..., lag : lag + n_coefficients], alpha=tap)
    return total
