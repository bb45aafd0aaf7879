"""Spectrograms of short clips: windowed Fourier transform and the scaling of its bins.

Shape legend: S sample, N frame, F frequency bin.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


def count_frames(n_samples: int, *, window_samples: int, hop_samples: int) -> int:
    """Return how many frames `stft_magnitude` gives."""
    return -(-n_samples // hop_samples) + 1 if window_samples % 2 == 0 else -(-(n_samples - 1) // hop_samples) + 1


def stft_magnitude(signal: Tensor, *, window_samples: int, hop_samples: int, n_bins: int) -> Tensor:
    """Magnitude of the windowed Fourier transform, as `scipy.signal.stft` with its defaults gives it.

    Hann window, zeros beyond both ends so that the first frame is centred on the first sample, zeros up to the last
    whole frame, scaled so that a sine of amplitude a on a bin has magnitude a / 2.

    Parameters
    ----------
    signal : Tensor, shape (..., S)
        Real samples.
    window_samples, hop_samples : int
        Length of the window and step between windows.
    n_bins : int
        Lowest bins that are kept, ``rate_hz / window_samples`` apart, the first at 0 Hz.

    Returns
    -------
    Tensor, shape (..., N, F)

    Raises
    ------
    ConfigError
        When the bins do not exist or the step is longer than the window.
    """
    if not 1 <= hop_samples <= window_samples or not 1 <= n_bins <= window_samples // 2 + 1:
        raise ConfigError(
            f"spectrogram: hop_samples={hop_samples} must be 1 to window_samples={window_samples}, n_bins={n_bins} "
            f"1 to {window_samples // 2 + 1}"
        )
    half = window_samples // 2
    n_frames = count_frames(signal.shape[-1], window_samples=window_samples, hop_samples=hop_samples)
    wanted = (n_frames - 1) * hop_samples + window_samples
    padded = F.pad(signal, (half, max(wanted - signal.shape[-1] - half, 0)))
    taper = torch.hann_window(window_samples, periodic=True, dtype=signal.dtype, device=signal.device)
    frames = padded.unfold(-1, window_samples, hop_samples)[..., :n_frames, :]
    return torch.fft.rfft(frames * (taper / taper.sum()), dim=-1)[..., :n_bins].abs()


def standardised(spectrogram: Tensor) -> Tensor:
    """Bring each bin to mean 0 and population standard deviation 1 over the frames, shape (..., N, F) → the same.

    A bin that never changes becomes zeros.
    """
    centred = spectrogram - spectrogram.mean(-2, keepdim=True)
    sd = centred.square().mean(-2, keepdim=True).sqrt()
    # what rounding leaves of a constant is not a signal
    still = sd <= 8 * torch.finfo(sd.dtype).eps * spectrogram.abs().amax(-2, keepdim=True)
    return torch.where(still, torch.zeros_like(centred), centred / sd.masked_fill(still, 1.0))
