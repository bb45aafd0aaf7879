"""Superlets: spectrograms that are sharp in time and in frequency at once.

Moca, Bârzan, Nagy-Dăbâcan and Mureșan 2021 (Nature Communications 12:337); fractional adaptive orders by Bârzan, Moca,
Ichim and Mureșan 2021 (EUSIPCO). A superlet at frequency f is a set of Morlet wavelets of 1, 2, … times `c1` cycles; its
response is the geometric mean of theirs, and the size of the set grows with f.

Each wavelet is a Gaussian in frequency. Its response is wanted at every `hop_samples`-th sample only, and taking every
h-th sample folds the spectrum: so the few bins under the Gaussian are multiplied, folded and transformed back at the
length of the *output*. The result is that of convolution with wavelets of unlimited length, to rounding.

Shape legend: S sample, N frame, F frequency.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError

# standard deviations of the Gaussian envelope in one wavelet of c cycles: B = c / (5 f)
CYCLE_SDS = 5.0
# beyond so many standard deviations a Gaussian is below the rounding of float64
REACH_SDS = 8.5
# complex numbers that are gathered at a time
AT_ONCE = 2**21


class _Group(NamedTuple):
    """Wavelets whose bands have one width on transforms of one length.

    Attributes
    ----------
    length : int
        Samples of the transform.
    bins : Tensor, shape (G, turn, bin), long
        Bins under each wavelet, by whole turns of the output's circle.
    gain : Tensor, shape (G, turn, bin)
        The wavelets there.
    frequency : Tensor, shape (G,), long
        Which of the frequencies each serves.
    share : Tensor, shape (G,)
        Its exponent in the geometric mean.
    """

    length: int
    bins: Tensor
    gain: Tensor
    frequency: Tensor
    share: Tensor


class Superlets:
    """Fractional adaptive superlet transform of clips of one length.

    Parameters
    ----------
    rate_hz : float
        Sampling rate.
    n_samples : int
        S.
    frequencies_hz : sequence of float
        Above 0, up to half the rate.
    c1 : float
        Cycles of the shortest wavelet.
    order : pair of float
        Number of wavelets at the lowest and at the highest frequency; linear and fractional between.
    hop_samples : int
        Samples between frames.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        n_samples: int,
        frequencies_hz: Sequence[float],
        c1: float = 1.0,
        order: tuple[float, float] = (3.0, 30.0),
        hop_samples: int = 1,
    ) -> None:
        frequencies = [float(f) for f in frequencies_hz]
        if not frequencies or min(frequencies) <= 0 or max(frequencies) > rate_hz / 2:
            raise ConfigError(f"superlets: frequencies must lie above 0 and up to {rate_hz / 2:g} Hz (half the rate)")
        if not 1 <= order[0] <= order[1] or c1 <= 0 or hop_samples < 1:
            raise ConfigError(
                f"superlets: order={list(order)} must be 1 ≤ low ≤ high, c1={c1} above 0, hop_samples={hop_samples} 1 or more"
            )
        self.n_samples, self.hop_samples, self.n_frequencies = n_samples, hop_samples, len(frequencies)
        self.n_frames = -(-n_samples // hop_samples)
        low, high = min(frequencies), max(frequencies)
        found: dict[tuple[int, int], list[tuple[Tensor, Tensor, int, float]]] = defaultdict(list)
        for i, f in enumerate(frequencies):
            orders = order[0] + (order[1] - order[0]) * ((f - low) / (high - low) if high > low else 0.0)
            whole = int(orders + 1e-9)
            shares = [1.0] * whole + ([orders - whole] if orders - whole > 1e-9 else [])
            for k, share in enumerate(shares):
                length, bins, gain = self._wavelet(f, c1 * (k + 1), rate_hz)
                found[length, len(gain)].append((bins, gain, i, share / orders))
        self._groups = []
        for (length, _), members in found.items():
            bins, gains = (torch.stack([m[j] for m in members]) for j in (0, 1))  # type: ignore[misc]
            numbers, exponents = [m[2] for m in members], [m[3] for m in members]
            self._groups.append(
                _Group(length, bins, gains, torch.tensor(numbers), torch.tensor(exponents, dtype=torch.float64))
            )
        self._held: tuple[torch.device, torch.dtype, list[_Group]] | None = None

    def _wavelet(self, f: float, cycles: float, rate_hz: float) -> tuple[int, Tensor, Tensor]:
        """Return length of the transform, bins and gain of one wavelet, (turn, bin) each."""
        sd_s = cycles / (CYCLE_SDS * f)
        # zeros enough that nothing comes round from the other end; few lengths, so that transforms are shared
        frames = self.n_frames + 1
        needed = self.n_samples + REACH_SDS * sd_s * rate_hz
        while frames * self.hop_samples < needed:
            frames = -(-frames * 5 // 4)
        length = frames * self.hop_samples
        step_hz = rate_hz / length
        reach = REACH_SDS / (2 * torch.pi * sd_s) / step_hz
        first = int((f / step_hz - reach) // frames) * frames
        n_turns = int((f / step_hz + reach) - first) // frames + 1
        place = (first + torch.arange(n_turns * frames)).unflatten(0, (n_turns, frames))
        # bins beyond half the rate stand for their images: that is what sampling the wavelet does
        gain = 2**0.5 / length * torch.exp(-2 * (torch.pi * sd_s * (place.double() * step_hz - f)) ** 2)
        return length, place % length, gain

    @torch.no_grad()
    def __call__(self, signal: Tensor) -> Tensor:
        """Transform real clips, shape (..., S), to magnitudes, shape (..., N, F); frame n is centred on sample n · hop."""
        if signal.shape[-1] != self.n_samples:
            raise ConfigError(f"superlets were made for {self.n_samples} samples, the clip has {signal.shape[-1]}")
        flat = signal.reshape(-1, self.n_samples)
        logs = flat.new_zeros(len(flat), self.n_frequencies, self.n_frames)
        spectra: dict[int, Tensor] = {}
        for g in self._groups_like(signal):
            if g.length not in spectra:
                spectra[g.length] = torch.fft.fft(flat, n=g.length, dim=-1)
            # a few clips at a time: what is gathered grows with wavelets × bins × clips
            for rows in torch.arange(len(flat)).split(max(1, AT_ONCE // g.bins.numel())):
                folded = (spectra[g.length][rows][:, g.bins] * g.gain).sum(-2)
                response = torch.fft.ifft(folded, dim=-1, norm="forward")[..., : self.n_frames].abs()
                logs[rows] = logs[rows].index_add(1, g.frequency, response.log() * g.share[:, None])
        return logs.exp().transpose(1, 2).reshape(*signal.shape[:-1], self.n_frames, self.n_frequencies)

    def _groups_like(self, like: Tensor) -> list[_Group]:
        """Return the wavelets in the clip's type and place; kept, since clips come in numbers."""
        if self._held is None or self._held[:2] != (like.device, like.dtype):
            moved = [
                _Group(g.length, g.bins.to(like.device), g.gain.to(like), g.frequency.to(like.device), g.share.to(like))
                for g in self._groups
            ]
            self._held = (like.device, like.dtype, moved)
        return self._held[2]
