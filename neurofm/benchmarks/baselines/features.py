"""Features of trials for linear baselines, as scikit-learn transformers that learn nothing.

Shape legend: N trials, C channels, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from neurofm.schema.errors import ConfigError

BANDS_HZ = ((1.0, 4.0), (4.0, 8.0), (8.0, 13.0), (13.0, 30.0), (30.0, 45.0))


class BandPower(TransformerMixin, BaseEstimator):
    """Log power of each channel in frequency bands, from Welch's spectrum; bands beyond half the rate are left out."""

    def __init__(
        self, *, rate_hz: float, bands_hz: Sequence[Sequence[float]] = BANDS_HZ, window_s: float = 1.0
    ) -> None:
        self.rate_hz, self.bands_hz, self.window_s = rate_hz, bands_hz, window_s

    def fit(self, x: ArrayLike, y: Any = None) -> BandPower:
        """Nothing is learned."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, x: ArrayLike) -> NDArray[np.float64]:
        """(N, C, T) → (N, C · bands)."""
        from scipy.signal import welch

        values = np.asarray(x, dtype=np.float64)
        n = min(values.shape[-1], max(8, round(self.window_s * self.rate_hz)))
        f, p = welch(values, fs=self.rate_hz, nperseg=n, axis=-1)
        inside = [(f >= a) & (f < b) for a, b in self.bands_hz if b <= self.rate_hz / 2]
        inside = [i for i in inside if i.any()]
        if not inside:
            raise ConfigError(f"band power: no band holds a frequency of windows of {n} samples at {self.rate_hz:g} Hz")
        power = np.stack([p[..., i].mean(-1) for i in inside], axis=-1)
        return np.log(power + 1e-12 * max(float(power.max()), 1e-30)).reshape(len(values), -1)


class Spectrogram(TransformerMixin, BaseEstimator):
    """Magnitude of the short-time Fourier transform from 0 to `high_hz`, flattened.

    Neuroprobe's linear baseline (package neuroprobe 0.1.8, examples): 512 samples at 2048 Hz, hop 128, Hann, centred.
    Here the lengths are in seconds (0.25 and 0.0625), so that other rates mean the same.
    """

    def __init__(
        self, *, rate_hz: float, window_s: float = 0.25, hop_s: float = 0.0625, high_hz: float = 150.0
    ) -> None:
        self.rate_hz, self.window_s, self.hop_s, self.high_hz = rate_hz, window_s, hop_s, high_hz

    def fit(self, x: ArrayLike, y: Any = None) -> Spectrogram:
        """Nothing is learned."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, x: ArrayLike) -> NDArray[np.float64]:
        """(N, C, T) → (N, C · frequencies · frames)."""
        import torch

        values = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float64))
        n, hop = max(4, round(self.window_s * self.rate_hz)), max(1, round(self.hop_s * self.rate_hz))
        flat = values.reshape(-1, values.shape[-1])
        window = torch.hann_window(n, dtype=flat.dtype)
        # zeros at the edges, as reflections need a trial longer than half a window
        spectrum = torch.stft(flat, n, hop, window=window, center=True, pad_mode="constant", return_complex=True).abs()
        kept = round(min(self.high_hz, self.rate_hz / 2) * n / self.rate_hz) + 1
        return spectrum[:, :kept].reshape(len(values), -1).numpy()
