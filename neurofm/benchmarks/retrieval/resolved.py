"""When, where and at which frequencies the answer is: the decoder sees only a part of the signal.

Shape legend: n windows, T time, C channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from neurofm.schema.errors import ConfigError

BANDS = {"delta": (0.5, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 100)}
# first letters of 10-05 names → part of the head; longer prefixes first
REGIONS = (
    ("frontal", ("FP", "AF", "F")), ("temporal", ("FT", "TP", "T")), ("central", ("FC", "CP", "C")),
    ("occipital", ("PO", "O", "I")), ("parietal", ("P",)),
)  # fmt: skip


def time_masks(n_times: int, rate_hz: float, *, width_s: float, step_s: float) -> dict[tuple[float, float], NDArray]:
    """(start, stop) in seconds from the window's start → samples that are seen, bool [T]."""
    width, step = round(width_s * rate_hz), max(1, round(step_s * rate_hz))
    if not 1 <= width <= n_times:
        raise ConfigError(f"resolved: a window of {width_s:g} s has {width} samples; the trial has {n_times}")
    at = np.arange(n_times)
    return {
        (a / rate_hz, (a + width) / rate_hz): (at >= a) & (at < a + width) for a in range(0, n_times - width + 1, step)
    }


def region_masks(names: Sequence[str]) -> dict[str, NDArray]:
    """Part of the head → channels that are seen, bool [C]; empty when the names are not of the 10-05 system."""
    prefixes = sorted(((p, r) for r, ps in REGIONS for p in ps), key=lambda x: -len(x[0]))
    where = []
    for name in names:
        letters = (
            name.upper().rstrip("0123456789Z") if name.upper() not in ("CZ", "OZ", "PZ", "FZ") else name[0].upper()
        )
        where.append(next((r for p, r in prefixes if letters == p), ""))
    return {r: np.array([w == r for w in where]) for r, _ in REGIONS if r in where}


def band_of(values: NDArray, rate_hz: float, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Keep the frequencies low ≤ f < high of each window by itself (Fourier, so nothing outside it has a part)."""
    spectrum = np.fft.rfft(values, axis=1)
    f = np.fft.rfftfreq(values.shape[1], 1 / rate_hz)
    spectrum[:, (f < low_hz) | (f >= high_hz)] = 0
    return np.fft.irfft(spectrum, n=values.shape[1], axis=1).astype(np.float32)


def views(
    values: NDArray, rate_hz: float, channels: Sequence[str], *, width_s: float, step_s: float,
    bands: Mapping[str, Sequence[float]] = BANDS,
) -> dict[tuple[str, str], NDArray]:  # fmt: skip
    """(kind, name) → windows in which all but a part is zero; kinds: time, only, without, band."""
    made: dict[tuple[str, str], NDArray] = {}
    for (a, b), seen in time_masks(values.shape[1], rate_hz, width_s=width_s, step_s=step_s).items():
        made["time", f"{a:.3f}–{b:.3f} s"] = values * seen[None, :, None]
    for region, here in region_masks(channels).items():
        made["only", region] = values * here
        made["without", region] = values * ~here
    for name, (low, high) in bands.items():
        # a band below the window's resolution or above the rate has nothing in it
        if low < rate_hz / 2 and high > rate_hz / values.shape[1]:
            made["band", f"{name} {low:g}–{min(high, rate_hz / 2):g} Hz"] = band_of(values, rate_hz, low, high)
    return made
