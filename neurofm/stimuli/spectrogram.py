"""Log-mel spectrogram of a sound: the plainest embedding of speech, without any weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import Encoder, resample


class Spectrogram(Encoder):
    """Energy in mel bands, in log units above a floor.

    Parameters
    ----------
    n_bands : int
        Bands, equally wide on the mel scale from 0 Hz to half of `rate_hz`.
    frame_hz : float
        Frames per second.
    rate_hz : float
        The sound is resampled to this.
    window_s : float
        Length of the Hann window.
    """

    kind: ClassVar[str] = "audio"
    layer, pooling = "log-mel", "frames"

    def __init__(
        self, *, n_bands: int = 64, frame_hz: float = 100.0, rate_hz: float = 16_000.0, window_s: float = 0.025
    ) -> None:
        if rate_hz % frame_hz:
            raise ConfigError(f"encoder 'spectrogram': frame_hz {frame_hz:g} must divide rate_hz {rate_hz:g}")
        self.sound_hz, self.hop, self.length = rate_hz, round(rate_hz / frame_hz), round(window_s * rate_hz)
        self.n_bands, self.rate_hz = n_bands, frame_hz
        # frames are centred on their time
        self.start_s = 0.0

    def identity(self) -> dict[str, Any]:
        """All choices."""
        return {
            "encoder": "spectrogram", "n_bands": self.n_bands, "frame_hz": self.rate_hz, "rate_hz": self.sound_hz,
            "window": self.length,
        }  # fmt: skip

    def encode(self, items: Sequence[tuple[np.ndarray, float]]) -> list[np.ndarray]:
        """Embed sounds (samples, rate): [frame, band]."""
        made = []
        for item in items:
            power = stft_power(resample(item, self.sound_hz), length=self.length, hop=self.hop)
            bands = power @ mel_filters(self.n_bands, self.length, self.sound_hz).T
            made.append(np.log10(np.maximum(bands, 1e-10)).astype(np.float32))
        return made


def stft_power(x: np.ndarray, *, length: int, hop: int) -> np.ndarray:
    """Power of Hann-windowed frames centred every `hop` samples, reflected at the ends: [frame, length // 2 + 1]."""
    half = length // 2
    padded = np.pad(x.astype(np.float64), half, mode="reflect" if len(x) > half else "constant")
    n = len(x) // hop + 1
    padded = np.pad(padded, (0, max(0, (n - 1) * hop + length - len(padded))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[: n * hop : hop][:n]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    return np.abs(np.fft.rfft(frames * window, axis=-1)) ** 2


@lru_cache
def mel_filters(n_bands: int, length: int, rate_hz: float) -> np.ndarray:
    """Triangular filters of area one on Slaney's mel scale, linear below 1 kHz: [band, length // 2 + 1]."""
    step = np.log(6.4) / 27

    def to_hz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < 15, 200 * mel / 3, 1000 * np.exp(step * (mel - 15)))

    top = rate_hz / 2
    top_mel = 15 + np.log(top / 1000) / step if top > 1000 else 3 * top / 200
    edges = to_hz(np.linspace(0, top_mel, n_bands + 2))
    bins = np.fft.rfftfreq(length, 1 / rate_hz)
    rise = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rise, fall)) * (2 / (edges[2:] - edges[:-2]))[:, None]
