"""Frequency bands, and how much of a signal an estimate explains in each.

Shape legend: B batch, C channel, S sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

# the usual ones of EEG and MEG
BANDS_HZ = {
    "delta": (0.5, 4.0),
    "theta": (4.0, 8.0),
    "alpha": (8.0, 13.0),
    "beta": (13.0, 30.0),
    "gamma": (30.0, 100.0),
}


def bands_for(rate_hz: float) -> dict[str, tuple[float, float]]:
    """Bands that begin below half the rate; for signals slower than 8 Hz, four bands of equal width by their edges.

    Returns
    -------
    dict of str to (low, high)
        In Hz, low included, high not.
    """
    half = rate_hz / 2
    if half >= 4:
        return {name: (low, min(high, half)) for name, (low, high) in BANDS_HZ.items() if low < half}
    edges = [half * i / 4 for i in range(5)]
    # frequency zero is the mean, which is no part of any band
    return {f"{a:.2g}-{b:.2g}Hz": (max(a, 1e-9), b if i < 3 else b * 1.001) for i, (a, b) in enumerate(pairwise(edges))}


@torch.no_grad()
def band_powers(
    estimate: Tensor,
    truth: Tensor,
    channel_mask: Tensor,
    *,
    rate_hz: float,
    bands_hz: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Power of the error and of the truth in each band, over all good channels and windows.

    Parameters
    ----------
    estimate, truth : Tensor, shape (B, C, S)
        Signals.
    channel_mask : Tensor, shape (B, C), bool
        Channels that count.
    rate_hz : float
        Samples per second.
    bands_hz : mapping of str to (low, high), optional
        Other bands than `bands_for` names.

    Returns
    -------
    dict of str to (error, power), each shape (), float64
        Summed over the frequencies of a Hann-tapered window (without the taper slow waves leak into the fast bands);
        bands without a frequency of the window are left out.
    """
    bands = bands_for(rate_hz) if bands_hz is None else bands_hz
    taper = torch.hann_window(truth.shape[-1], periodic=False, device=truth.device, dtype=truth.dtype)
    centred = [x[channel_mask] - x[channel_mask].mean(-1, keepdim=True) for x in (estimate - truth, truth)]
    error, whole = (torch.fft.rfft(x * taper).abs().square().double().sum(0) for x in centred)
    frequency = torch.fft.rfftfreq(truth.shape[-1], 1 / rate_hz, device=truth.device)
    inside = {name: (frequency >= low) & (frequency < high) for name, (low, high) in bands.items()}
    return {name: (error[at].sum(), whole[at].sum()) for name, at in inside.items() if bool(at.any())}


def band_r_squared(estimate: Tensor, truth: Tensor, channel_mask: Tensor, *, rate_hz: float) -> dict[str, Tensor]:
    """Share of the power of `truth` that `estimate` explains in each band; arguments as of `band_powers`."""
    powers = band_powers(estimate, truth, channel_mask, rate_hz=rate_hz)
    return {name: (1 - error / power.clamp(min=1e-12)).float() for name, (error, power) in powers.items()}
