"""Band-pass, high-pass or low-pass with a linear-phase FIR."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo
from data_prep.stages.fir import LinearPhase, bandpass_kernel
from neurofm.schema.errors import ConfigError, DataError


class Filter(LinearPhase):
    """Keep ``low_hz … high_hz``; transition bands by MNE's rule unless given.

    Parameters
    ----------
    low_hz, high_hz : float, optional
        Edges of what is kept; None leaves that side open.
    low_transition_hz, high_transition_hz : float, optional
        Widths; default a quarter of the edge, at least 2 Hz, and never beyond 0 Hz or the Nyquist frequency.
    """

    version = 2

    def __init__(
        self,
        *,
        low_hz: float | None = None,
        high_hz: float | None = None,
        low_transition_hz: float | None = None,
        high_transition_hz: float | None = None,
    ) -> None:
        if low_hz is None and high_hz is None:
            raise ConfigError("stage 'filter' needs low_hz or high_hz")
        for name, value in (("low_hz", low_hz), ("high_hz", high_hz)):
            if value is not None and value <= 0:
                raise ConfigError(f"stage 'filter': {name} is {value}; expected a frequency above 0, or null")
        if low_hz is not None and high_hz is not None and low_hz >= high_hz:
            raise ConfigError(f"stage 'filter': low_hz {low_hz} is not below high_hz {high_hz}")
        self.low_hz, self.high_hz = low_hz, high_hz
        self.low_transition_hz, self.high_transition_hz = low_transition_hz, high_transition_hz

    def design(self, info: SignalInfo) -> np.ndarray:
        """Return the kernel.

        Raises
        ------
        DataError
            When an edge does not fit the sampling rate.
        """
        nyquist = info.rate_hz / 2
        for name, edge in (("low_hz", self.low_hz), ("high_hz", self.high_hz)):
            if edge is not None and edge >= nyquist:
                raise DataError(
                    f"stage 'filter': {name} {edge} is not below half the sampling rate ({nyquist:g} Hz); "
                    "lower it or leave it out"
                )
        low, high = self.low_hz or 1.0, self.high_hz or 1.0
        low_transition = self.low_transition_hz or min(max(low / 4, 2.0), low)
        high_transition = self.high_transition_hz or min(max(high / 4, 2.0), nyquist - high)
        return bandpass_kernel(self.low_hz, self.high_hz, low_transition, high_transition, info.rate_hz)
