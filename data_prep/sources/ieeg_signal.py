"""The signal of a simulated recording, made block by block: any span read alone equals that span of the whole.

White noise is keyed by (recording, block) and coloured by kernels no longer than half a block, so a block needs its
own noise and its predecessor's only; everything else is a closed form in absolute time. Blocks are made whole and by
the same operations whatever is asked for, so equality is to the bit.

Shape legend: T sample, C channel, K node.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_prep.sources.ieeg_person import Person
from data_prep.sources.ieeg_schedule import Artefact, Schedule

BLOCK_S = 8.0
KEPT = 3
SCALE_UV = 40.0
# rhythm: frequency (Hz), length of the kernel (s), whether of sleep, amplitude
RHYTHMS = ((9.5, 1.2, False, 0.8), (1.0, 2.5, True, 1.6), (13.0, 0.8, True, 0.5))
SPIKE_S = 0.6


def power_law_kernel(n: int, exponent: float) -> np.ndarray:
    """Impulse response of length `n` that makes 1/f^exponent noise of unit variance from white noise.

    The recursion of Kasdin (1995, Proc. IEEE 83), cut off with a half-cosine, so the spectrum is flat below about 1/n.
    """
    k = np.arange(1, n)
    h = np.concatenate([[1.0], np.cumprod((k - 1 + exponent / 2) / k)])
    h *= 0.5 * (1 + np.cos(np.pi * np.arange(n) / n))
    return h / np.linalg.norm(h)


def rhythm_kernel(n: int, cycles: float) -> np.ndarray:
    """Impulse response of a band around `cycles` per sample, unit variance."""
    h = np.hanning(n + 2)[1:-1] * np.cos(2 * np.pi * cycles * np.arange(n))
    return h / np.linalg.norm(h)


class SignalMaker:
    """Reads spans of one simulated recording.

    Parameters
    ----------
    choices : mapping
        Of the source.
    person, schedule : Person, Schedule
        Who, and what happens.
    key : tuple of int
        Tells this recording's noise from that of others.
    """

    def __init__(self, choices: Mapping[str, Any], person: Person, schedule: Schedule, key: tuple[int, ...]) -> None:
        self.rate = float(choices["rate_hz"])
        self.choices, self.person, self.schedule, self.key = choices, person, schedule, key
        self.size = 2 ** math.ceil(math.log2(BLOCK_S * self.rate))
        self.n_nodes, self.n_channels = person.gains.shape
        kernels = np.zeros((self.size // 2, 3))
        for i, (hz, length_s, _, _) in enumerate(RHYTHMS):
            n = min(round(length_s * self.rate), len(kernels))
            kernels[:n, i] = rhythm_kernel(n, hz / self.rate)
        pink = power_law_kernel(self.size // 2, person.exponent)
        self._pink = np.fft.rfft(pink, 2 * self.size)[:, None]
        self._rhythms = np.fft.rfft(kernels, 2 * self.size, axis=0)
        rng = np.random.default_rng([*key, 0])
        # where the rhythms are seen, and how strongly the mains
        self._rhythm_gain = rng.uniform(0.3, 1.0, (len(RHYTHMS), self.n_channels))
        self._mains = rng.uniform(0.0, choices["mains"], self.n_channels)
        self._blocks: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, interval: int, start: int, stop: int) -> np.ndarray:
        """Return samples start … stop, shape (T, C), microvolts."""
        return self._span(start, stop, self.block, self.n_channels)

    def read_source(self, interval: int, start: int, stop: int) -> np.ndarray:
        """Return the onset zone's ictal activity without anything else, shape (T, 1); what only an oracle sees."""
        return self._span(start, stop, lambda b: self.ictal(self._time(b))[:, :1], 1)

    def block(self, number: int) -> np.ndarray:
        """Return one whole block, shape (size, C), microvolts."""
        if number not in self._blocks:
            self._blocks[number] = self._make(number)
            if len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[number]

    def ictal(self, t: np.ndarray) -> np.ndarray:
        """Activity of every node in seizures at times `t`, shape (T, K), relative to the background."""
        _, lag = self.person.paths()
        out = np.zeros((len(t), self.n_nodes))
        for z in self.schedule.seizures:
            if z.onset_s - 1 <= t[-1] and t[0] <= z.onset_s + z.duration_s + 1:
                for k in range(self.n_nodes):
                    out[:, k] += z.amplitude * z.waveform(t, k, float(lag[0, k]))
        return out

    def _span(self, start: int, stop: int, block: Any, n: int) -> np.ndarray:
        out = np.empty((stop - start, n))
        for b in range(start // self.size, -(-stop // self.size)):
            first, last = max(start, b * self.size), min(stop, (b + 1) * self.size)
            out[first - start : last - start] = block(b)[first - b * self.size : last - b * self.size]
        return out

    def _time(self, number: int) -> np.ndarray:
        return (number * self.size + np.arange(self.size)) / self.rate

    def _white(self, number: int) -> np.ndarray:
        """Noise of one block: nodes, local noise of each channel, rhythms, muscle, sensor noise of each channel."""
        width = self.n_nodes + 2 * self.n_channels + len(RHYTHMS) + 1
        if number < 0:
            return np.random.default_rng([*self.key, 1, 0]).standard_normal((self.size, width))
        return np.random.default_rng([*self.key, 2, number]).standard_normal((self.size, width))

    def _make(self, number: int) -> np.ndarray:
        t, size, K, C = self._time(number), self.size, self.n_nodes, self.n_channels
        white = np.concatenate([self._white(number - 1), self._white(number)])
        pink = np.fft.irfft(np.fft.rfft(white[:, : K + C], axis=0) * self._pink, 2 * size, axis=0)
        rhythms = np.fft.irfft(np.fft.rfft(white[:, K + C : K + C + 3], axis=0) * self._rhythms, 2 * size, axis=0)
        nodes = self._linked(pink[:, :K])
        local, rhythms = pink[size:, K:], rhythms[size:]
        sleep = self.schedule.sleep(t)[:, None]
        strength = np.stack([a * (sleep[:, 0] if s else 1 - sleep[:, 0]) for _, _, s, a in RHYTHMS], axis=1)
        background = 0.8 * nodes @ self.person.gains + 0.7 * local + (strength * rhythms) @ self._rhythm_gain
        background *= (1 + 0.2 * sleep) * self.schedule.suppression(t)[:, None]
        sensor = self.choices["sensor_noise"] * white[size:, K + C + 4 :]
        brain = background + (self.ictal(t) + self._spikes(number, t)) @ self.person.gains
        outside = self._artefacts(t, white[:, K + C + 3]) + np.sin(2 * np.pi * 50 * t)[:, None] * self._mains
        return SCALE_UV * self.person.gain * (brain + outside + sensor)

    def _linked(self, own: np.ndarray) -> np.ndarray:
        """Node activity (size, K) from that of two blocks: each node's own, and delayed what leads to it."""
        weight, lag = self.person.paths()
        out = np.zeros((self.size, self.n_nodes))
        for i, j in zip(*np.nonzero(weight), strict=True):
            delay = round(lag[i, j] * self.rate)
            out[:, j] += weight[i, j] * own[self.size - delay : 2 * self.size - delay, i]
        return out

    def _spikes(self, number: int, t: np.ndarray) -> np.ndarray:
        """Interictal spikes of this block and those that reach into it, shape (T, K); some come in short runs."""
        out = np.zeros((len(t), self.n_nodes))
        for b in (number - 1, number):
            rng = np.random.default_rng([*self.key, 3, b + 1])
            for _ in range(rng.poisson(self.person.spikes_hz * self.size / self.rate)):
                at = (b + rng.random()) * self.size / self.rate
                node = 0 if rng.random() < 0.7 else int(rng.integers(self.n_nodes))
                size = self.choices["spike_amplitude"] * rng.uniform(0.6, 1.4)
                run = int(rng.integers(3, 7)) if rng.random() < self.choices["run_fraction"] else 1
                every = 1 / rng.uniform(2, 5)
                for i in range(run):
                    s = t - at - i * every
                    near = (s > 0) & (s < SPIKE_S)
                    sharp = np.exp(-0.5 * ((s[near] - 0.06) / 0.018) ** 2)
                    slow = np.sin(np.pi * np.clip((s[near] - 0.12) / 0.3, 0, 1))
                    out[near, node] += size * (sharp - 0.4 * slow)
        return out

    def _artefacts(self, t: np.ndarray, white: np.ndarray) -> np.ndarray:
        out = np.zeros((len(t), self.n_channels))
        hiss = np.diff(white)[self.size - 1 :] / math.sqrt(2)
        for a in self.schedule.artefacts:
            if a.onset_s <= t[-1] and t[0] <= a.onset_s + a.duration_s:
                out += artefact_wave(a, t, hiss)[:, None] * a.gain
        return out


def artefact_wave(artefact: Artefact, t: np.ndarray, hiss: np.ndarray) -> np.ndarray:
    """Time course of an artefact at times `t`, shape (T,); `hiss` is high-pass noise on the same times."""
    x = (t - artefact.onset_s) / artefact.duration_s
    inside = (x >= 0) & (x <= 1)
    s = x * artefact.duration_s
    arch = np.sin(np.pi * np.clip(x, 0, 1))
    shape = {
        "movement": lambda: 2.5 * arch * np.cos(2 * np.pi * 0.8 * s),
        "muscle": lambda: 0.8 * np.sqrt(arch) * hiss,
        # an electrode that jumps and drifts back
        "pop": lambda: np.exp(-np.clip(s, 0, None) / 0.3),
        # bursts of muscle with a slow swing: rhythmic, and a trap for whatever looks for rhythms
        "chewing": lambda: np.clip(np.sin(2 * np.pi * 1.6 * s), 0, None) * (0.7 * hiss + 0.5),
    }[artefact.kind]
    return np.where(inside, shape(), 0.0)
