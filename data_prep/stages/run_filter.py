"""Band-pass for slow data: runs of minutes at one volume per second or two, filtered as a whole by nilearn."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError, DataError

METHODS = ("butterworth", "cosine")


class RunFilter(Stage):
    """Filter whole intervals by ``nilearn.signal.clean``; each channel's mean stays.

    A filter of 0.01 Hz rings for minutes, longer than the block of a stream: this stage holds an interval until it
    ends, which for fMRI is one run of regions. For signals that are not slow, `filter` streams. Every sample sees
    the whole interval: such data are transductive for tests within a recording.

    Parameters
    ----------
    low_hz, high_hz : float, optional
        Edges of what is kept; None leaves that side open.
    method : str
        "butterworth": zero-phase, order 5; "cosine": discrete cosines slower than `low_hz` are regressed out, as SPM
        and fMRIPrep do (no `high_hz`).
    """

    causal = False

    def __init__(
        self, *, low_hz: float | None = None, high_hz: float | None = None, method: str = "butterworth"
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"stage 'run_filter': method is '{method}'; expected {' or '.join(METHODS)}")
        if low_hz is None and high_hz is None:
            raise ConfigError("stage 'run_filter' needs low_hz or high_hz")
        for name, value in (("low_hz", low_hz), ("high_hz", high_hz)):
            if value is not None and value <= 0:
                raise ConfigError(f"stage 'run_filter': {name} is {value}; expected a frequency above 0, or null")
        if low_hz is not None and high_hz is not None and low_hz >= high_hz:
            raise ConfigError(f"stage 'run_filter': low_hz {low_hz} is not below high_hz {high_hz}")
        if method == "cosine" and (high_hz is not None or low_hz is None):
            raise ConfigError("stage 'run_filter': the method 'cosine' takes low_hz and no high_hz")
        self.low_hz, self.high_hz, self.method = low_hz, high_hz, method

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval.

        Raises
        ------
        DataError
            When an edge does not fit the sampling rate.
        """
        for name, edge in (("low_hz", self.low_hz), ("high_hz", self.high_hz)):
            if edge is not None and edge >= info.rate_hz / 2:
                raise DataError(
                    f"stage 'run_filter': {name} {edge} is not below half the sampling rate ({info.rate_hz / 2:g} Hz)"
                )
        self._held: list[np.ndarray] = []
        self._tr_s = 1 / info.rate_hz
        self.delay_s = float("inf")
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Hold a block."""
        self._held.append(np.array(block, np.float64))
        return block[:0]

    def flush(self) -> np.ndarray | None:
        """Return the interval.

        Raises
        ------
        ConfigError
            When nilearn is not installed.
        DataError
            When the interval is too short.
        """
        if not self._held:
            return None
        try:
            from nilearn.signal import clean
        except ImportError as error:
            raise ConfigError(
                "stage 'run_filter' needs nilearn; install it with: pip install 'neurofm[fmri]'"
            ) from error
        x, self._held = np.concatenate(self._held), []
        mean = x.mean(axis=0)
        try:
            out = clean(
                x - mean, detrend=False, standardize=None, filter=self.method, high_pass=self.low_hz,
                low_pass=self.high_hz, t_r=self._tr_s,
            )  # fmt: skip
        except ValueError as error:
            raise DataError(
                f"an interval of {len(x)} volumes is too short for the stage 'run_filter' "
                f"({' '.join(str(error).split())[:120]})"
            ) from error
        return out + mean
