"""Detects signals whose declared unit cannot be true, by their amplitude, and repairs powers of 1000."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from data_prep.stages.spread import spread_of, typical
from neurofm.schema.errors import ConfigError, DataError

# Standard deviation over about a second that a real recording of this kind can have, in its unit. Each range
# spans a factor under 1000, so that at most one power of 1000 brings a signal into it.
PLAUSIBLE: dict[tuple[str, str], tuple[float, float]] = {
    ("eeg", "uV"): (0.5, 450.0),
    ("ecog", "uV"): (1.0, 900.0),
    ("seeg", "uV"): (1.0, 900.0),
    ("dbs", "uV"): (0.5, 450.0),
    ("lfp", "uV"): (1.0, 900.0),
    ("mag", "fT"): (10.0, 9000.0),
    ("grad", "fT/cm"): (3.0, 2700.0),
}
POWERS = range(-4, 5)


class UnitRepair(Stage):
    """Multiply a kind's channels by the power of 1000 that makes their amplitude plausible.

    The amplitude of a kind is the median over channels of the median over one-second chunks of the standard
    deviation about a straight line: neither artifacts nor drifts nor a few dead channels decide. The factor is
    written to the quality figures (``unit_factor_<kind>``) and to the channels' `reason`.

    Parameters
    ----------
    policy : str
        "repair", or "reject": an implausible recording is left out even when a factor would do.
    factors : dict of str to float, optional
        Known factors per kind; with these nothing is surveyed (live use).
    """

    def __init__(self, *, policy: str = "repair", factors: dict[str, float] | None = None) -> None:
        if policy not in ("repair", "reject"):
            raise ConfigError(f"stage 'unit_repair': policy is '{policy}'; expected repair or reject")
        self.policy = policy
        self.factors = dict(factors or {})
        self.surveys = factors is None
        self._spread: list[np.ndarray] = []

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Note the spread of every piece of the block."""
        self._spread.append(spread_of(block, info.rate_hz))

    def conclude(self, info: SignalInfo) -> Verdict:
        """Decide each kind's factor.

        Raises
        ------
        DataError
            When the amplitude is implausible and no power of 1000 explains it.
        """
        figures: dict[str, float] = {}
        if not sum(map(len, self._spread)):
            return Verdict()
        per_channel = typical(self._spread)
        self._spread = []
        for key, (low, high) in PLAUSIBLE.items():
            members = [i for i, c in enumerate(info.channels) if (c.kind, c.unit) == key and per_channel[i] > 0]
            if not members:
                continue
            amplitude = float(np.median(per_channel[members]))
            figures[f"amplitude_{key[0]}"] = amplitude
            if low <= amplitude <= high:
                continue
            fits = [1000.0**p for p in POWERS if low <= amplitude * 1000.0**p <= high]
            if not fits or self.policy == "reject":
                raise DataError(
                    f"{key[0]} channels have a standard deviation of {amplitude:.3g} {key[1]}, expected {low:g} to "
                    f"{high:g}; the unit in the header is wrong and must be corrected at the source"
                )
            self.factors[key[0]] = figures[f"unit_factor_{key[0]}"] = fits[0]
        return Verdict(figures=figures)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; say in the channel table what was multiplied."""
        factors = [self.factors.get(c.kind, 1.0) if (c.kind, c.unit) in PLAUSIBLE else 1.0 for c in info.channels]
        self._factors = np.array(factors)
        channels = tuple(
            c if f == 1.0 else replace(c, reason=f"implausible amplitude as stored, multiplied by {f:g}")
            for c, f in zip(info.channels, factors, strict=True)
        )
        return replace(info, channels=channels)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Multiply."""
        return block if (self._factors == 1.0).all() else block * self._factors
