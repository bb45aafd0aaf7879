"""Bad channels: flat, clipped, deviating, noisy, unlike all others; from robust statistics of the whole recording."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict, marked
from data_prep.stages.measures import SD_PER_IQR, Measured, Measures
from neurofm.schema.errors import ConfigError, DataError

# Fewer channels of a kind say nothing of what is usual.
FEWEST = 4
FLOOR = 0.1
# Neighbouring scalp sensors see the same sources; intracranial contacts need not.
ALIKE_KINDS = ("eeg", "mag", "grad")


class BadChannels(Stage):
    """Mark channels as bad by the criteria of the PREP pipeline (Bigdely-Shamlo et al. 2015), in one streaming pass.

    Each kind is judged by itself, in this order: flat and clipped channels; then, among the rest, robust z-scores
    over channels of the robust standard deviation (deviating, either way) and of the part above 50 Hz (noisy), and
    channels that correlate with no other in too many windows. Quartiles come from `quantiles.Quantiles`. The reason
    with its figure is written into the channel table; how many are bad by each criterion, into the quality figures.

    Clipping is seen only before any filter, deviations best after a high-pass: the stage may stand in both places,
    with the other criteria null. Values must be finite: put ``quality`` first.

    Parameters
    ----------
    max_flat : float, optional
        Part of one-second windows without variation that is still good. null = not looked at, as below.
    max_clipped : float, optional
        Part of the samples on the channel's extremes, two and more in a row.
    max_deviation : float, optional
        Robust z-score of the amplitude.
    max_noise : float, optional
        Robust z-score of the noise; recordings at 150 Hz and less are not judged.
    min_correlation : float, optional
        With the best (98 % quantile) of the other channels, below 50 Hz; scalp kinds only.
    max_uncorrelated : float
        Part of the windows with less than `min_correlation` that is still good.
    window_s : float
        Length of the windows.
    known : list of str, optional
        Names of the bad channels; with these nothing is surveyed (live use).
    """

    surveys = True

    def __init__(
        self,
        *,
        max_flat: float | None = 0.5,
        max_clipped: float | None = 0.01,
        max_deviation: float | None = 5.0,
        max_noise: float | None = 5.0,
        min_correlation: float | None = 0.4,
        max_uncorrelated: float = 0.01,
        window_s: float = 1.0,
        known: Sequence[str] | None = None,
    ) -> None:
        limits = {
            "max_flat": max_flat, "max_clipped": max_clipped, "max_deviation": max_deviation, "max_noise": max_noise,
            "min_correlation": min_correlation, "max_uncorrelated": max_uncorrelated,
        }  # fmt: skip
        for name, value in limits.items():
            if value is not None and not value >= 0:
                raise ConfigError(f"stage 'bad_channels': {name} is {value}; expected 0 or more, or null")
        if not window_s > 0:
            raise ConfigError(f"stage 'bad_channels': window_s is {window_s}; expected seconds above 0")
        self.max_flat, self.max_clipped, self.max_deviation = max_flat, max_clipped, max_deviation
        self.max_noise, self.min_correlation, self.max_uncorrelated = max_noise, min_correlation, max_uncorrelated
        self.window_s, self.surveys = window_s, known is None
        self._reasons: dict[str, str] = dict.fromkeys(known or (), "known to be bad")
        self._measures: Measures | None = None

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Measure a block.

        Raises
        ------
        DataError
            When a value is not finite.
        """
        if self._measures is None:
            self._measures = Measures(info, window_s=self.window_s, least=self.min_correlation or 0.0)
        if not np.isfinite(block).all():
            raise DataError("stage 'bad_channels' was given values that are not finite; put the stage 'quality' first")
        self._measures.push(block, info.interval)

    def conclude(self, info: SignalInfo) -> Verdict:
        """Decide which channels are bad.

        Raises
        ------
        DataError
            When none is left.
        """
        if self._measures is None:
            return Verdict()
        measured, groups = self._measures.result(), self._measures.groups
        self._measures = None
        self._reasons = {}
        counts: dict[str, int] = {}
        figures: dict[str, float] = {}
        for kind, members in groups.items():
            for criterion, c, reason in self._judged(kind, members, measured):
                counts[criterion] = counts.get(criterion, 0) + 1
                name = info.channels[c].name
                self._reasons[name] = "; ".join(filter(None, (self._reasons.get(name), reason)))
            figures[f"spread_{kind}"] = float(np.median(measured.spread[members]))
        if sum(not c.bad and c.name not in self._reasons for c in info.channels) == 0:
            first = next(iter(self._reasons.values()), "marked bad at the source")
            raise DataError(f"all {len(info.channels)} channels are bad (the first: {first})")
        looked_at = {
            "flat": self.max_flat, "clipped": self.max_clipped, "deviating": self.max_deviation,
            "noisy": self.max_noise, "uncorrelated": self.min_correlation,
        }  # fmt: skip
        figures |= {f"bad_{name}": float(counts.get(name, 0)) for name, limit in looked_at.items() if limit is not None}
        return Verdict(figures=figures)

    def _judged(self, kind: str, members: list[int], measured: Measured) -> list[tuple[str, int, str]]:
        """Return (criterion, channel, reason) for every fault found among the channels of a kind."""
        found = []
        for c in members:
            if self.max_flat is not None and measured.flat[c] > self.max_flat:
                found.append(("flat", c, f"flat in {100 * measured.flat[c]:.1f} % of the windows"))
            if self.max_clipped is not None and measured.clipped[c] > self.max_clipped:
                found.append(("clipped", c, f"clipped in {100 * measured.clipped[c]:.1f} % of the samples"))
        gone = {c for _, c, _ in found}
        rest = [c for c in members if c not in gone]
        if len(rest) < FEWEST:
            return found
        for c, z in zip(rest, robust_z(measured.spread[rest]), strict=True):
            if self.max_deviation is not None and abs(z) > self.max_deviation:
                found.append(
                    ("deviating", c, f"amplitude {measured.spread[c]:.4g} deviates from the others' (z = {z:.1f})")
                )
        for c, z in zip(rest, robust_z(measured.noise[rest]), strict=True):
            if self.max_noise is not None and z > self.max_noise:
                found.append(("noisy", c, f"noise above 50 Hz is {measured.noise[c]:.3g} of the signal (z = {z:.1f})"))
        if self.min_correlation is not None and kind in ALIKE_KINDS:
            for c in rest:
                if measured.uncorrelated[c] > self.max_uncorrelated:
                    part = 100 * measured.uncorrelated[c]
                    found.append(
                        ("uncorrelated", c, f"correlates with no other channel in {part:.1f} % of the windows")
                    )
        return found

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; mark the bad channels."""
        return marked(info, self._reasons)


def robust_z(values: np.ndarray) -> np.ndarray:
    """Distance from the median in robust standard deviations, one being a tenth of the median at least.

    Without that floor a channel that differs by a few per cent is bad among channels that are very much alike.
    """
    known = np.isfinite(values)
    if known.sum() < FEWEST:
        return np.zeros(len(values))
    low, middle, high = np.quantile(values[known], [0.25, 0.5, 0.75])
    spread = SD_PER_IQR * (high - low)
    spread = max(spread, FLOOR * abs(middle))
    return np.where(known, (values - middle) / spread, 0.0) if spread > 0 else np.zeros(len(values))
