"""Superlets of a batch of BrainBERT's clips against the plain loop: one FFT convolution per wavelet, then every 50th sample.

    python scripts/bench/superlets.py [--clips 16]

Prints the ratio of the best times of both, taken in turns, and how far apart their results are.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from scipy.signal import fftconvolve

from neurofm.nn.superlets import Superlets

RATE_HZ, N, HOP = 2048.0, 10240, 50
FREQUENCIES = np.linspace(0.1, 200, 40)
ORDER = (3.0, 30.0)


def wavelets() -> list[tuple[int, np.ndarray, float]]:
    """(frequency, wavelet of four standard deviations each side, exponent), made once as a user of the loop would."""
    out = []
    for i, f in enumerate(FREQUENCIES):
        order = ORDER[0] + (ORDER[1] - ORDER[0]) * (f - FREQUENCIES[0]) / (FREQUENCIES[-1] - FREQUENCIES[0])
        exponents = [1.0] * int(order) + ([order - int(order)] if order > int(order) else [])
        for k, e in enumerate(exponents):
            sd = (k + 1) / (5 * f)
            reach = min(int(np.ceil(4 * sd * RATE_HZ)), N)
            t = np.arange(-reach, reach + 1) / RATE_HZ
            wave = np.exp(-(t**2) / (2 * sd**2)) / (sd * np.sqrt(2 * np.pi)) * np.exp(2j * np.pi * f * t) / RATE_HZ
            out.append((i, wave.astype(np.complex64), e / order))
    return out


def loop(clips: np.ndarray, waves: list[tuple[int, np.ndarray, float]]) -> np.ndarray:
    """Convolve, take magnitudes, multiply up, thin out."""
    out = np.ones((len(clips), len(FREQUENCIES), N), np.float32)
    for c, clip in enumerate(clips):
        for i, wave, share in waves:
            reach = len(wave) // 2
            out[c, i] *= (np.sqrt(2) * np.abs(fftconvolve(clip, wave)[reach : reach + N])) ** share
    return out[..., ::HOP].swapaxes(1, 2)


def main() -> None:
    """Measure both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    choices = parser.parse_args()
    torch.set_num_threads(1)
    clips = np.random.default_rng(0).standard_normal((choices.clips, N)).astype(np.float32)
    ours = Superlets(rate_hz=RATE_HZ, n_samples=N, frequencies_hz=FREQUENCIES.tolist(), order=ORDER, hop_samples=HOP)
    waves, tensor = wavelets(), torch.from_numpy(clips)
    ours(tensor)
    best = {"loop": np.inf, "neurofm": np.inf}
    for _ in range(choices.rounds):
        for name, work in (("loop", lambda: loop(clips, waves)), ("neurofm", lambda: ours(tensor).numpy())):
            start = time.perf_counter()
            result = work()
            best[name] = min(best[name], time.perf_counter() - start)
            if name == "loop":
                slow = result
    # the loop's wavelets are cut off, ours are not
    difference = np.abs(slow - result).max() / slow.max()
    print(f"{choices.clips} clips of 5 s: loop {best['loop']:.3f} s, neurofm {best['neurofm']:.3f} s")
    print(f"ratio {best['loop'] / best['neurofm']:.1f}, largest difference {difference:.1e} of the largest value")


if __name__ == "__main__":
    main()
