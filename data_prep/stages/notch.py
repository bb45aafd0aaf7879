"""Line noise: a narrow linear-phase FIR stop band at the line frequency and its harmonics."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo
from data_prep.stages.fir import LinearPhase, lowpass_kernel, subtract
from neurofm.schema.errors import ConfigError


class Notch(LinearPhase):
    """Stop ``line_hz`` and its harmonics below the Nyquist frequency.

    Parameters
    ----------
    line_hz : float
        50 or 60, mostly.
    harmonics : int
        How many multiples to stop, the first included.
    width_hz : float
        Width of what is stopped around each.
    transition_hz : float
        Width of the flanks; the kernel lasts 3.3 / transition_hz seconds.
    """

    version = 2

    def __init__(
        self, *, line_hz: float, harmonics: int = 3, width_hz: float = 1.0, transition_hz: float = 1.5
    ) -> None:
        if min(line_hz, harmonics, width_hz, transition_hz) <= 0:
            raise ConfigError("stage 'notch': line_hz, harmonics, width_hz and transition_hz must be above 0")
        if width_hz / 2 + transition_hz >= line_hz:
            raise ConfigError(f"stage 'notch': a stop band of {width_hz} Hz with its flanks reaches 0 Hz")
        self.line_hz, self.harmonics = line_hz, harmonics
        self.width_hz, self.transition_hz = width_hz, transition_hz

    def design(self, info: SignalInfo) -> np.ndarray:
        """Return 1 minus a narrow band-pass for each harmonic."""
        kernel = np.ones(1)
        reach = self.width_hz / 2 + self.transition_hz / 2
        for k in range(1, self.harmonics + 1):
            centre = k * self.line_hz
            if centre + reach + self.transition_hz / 2 >= info.rate_hz / 2:
                break
            upper = lowpass_kernel(centre + reach, self.transition_hz, info.rate_hz)
            lower = lowpass_kernel(centre - reach, self.transition_hz, info.rate_hz)
            kernel = subtract(kernel, subtract(upper, lower))
        return kernel
