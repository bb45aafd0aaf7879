"""Units that fire too rarely, or implausibly often, are marked bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import EventStage
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, EventStream

# seconds of spikes looked at together
PIECE_S = 60.0


class UnitRate(EventStage):
    """Mark units by their mean rate over the valid time; their spikes stay stored and are left out when reading.

    Parameters
    ----------
    min_hz, max_hz : float, optional
        Rates outside are bad. 0.1 Hz drops what is silent; published decoders ask for up to 5 Hz.
    """

    def __init__(self, *, min_hz: float = 0.1, max_hz: float | None = None) -> None:
        if min_hz < 0 or (max_hz is not None and not max_hz > min_hz):
            raise ConfigError(f"stage 'unit_rate': min_hz is {min_hz}, max_hz {max_hz}; expected 0 <= min_hz < max_hz")
        self.min_hz, self.max_hz = float(min_hz), float("inf") if max_hz is None else float(max_hz)

    def apply(self, stream: EventStream) -> tuple[EventStream, dict[str, float]]:
        """Count once through the recording.

        Raises
        ------
        DataError
            When no unit is left.
        """
        counts = np.zeros(len(stream.channels), np.int64)
        for interval, duration_s in enumerate(stream.duration_s):
            for a in np.arange(0, duration_s, PIECE_S):
                _, unit = stream.read(interval, float(a), float(min(a + PIECE_S, duration_s)))
                counts += np.bincount(unit, minlength=len(counts))
        rates = counts / sum(stream.duration_s)
        channels = tuple(self._judged(c, float(r)) for c, r in zip(stream.channels, rates, strict=True))
        good = [r for c, r in zip(channels, rates, strict=True) if not c.bad]
        if not good:
            raise DataError(
                f"all {len(channels)} units are bad (mean rates {rates.min():.3g} to {rates.max():.3g} Hz); "
                "lower min_hz of stage 'unit_rate'"
            )
        figures = {"bad_units": float(len(channels) - len(good)), "mean_rate_hz": float(np.mean(good))}
        return replace(stream, channels=channels), figures

    def _judged(self, channel: Channel, rate: float) -> Channel:
        if self.min_hz <= rate <= self.max_hz:
            return channel
        reason = f"fires at {rate:.3g} Hz"
        return replace(channel, bad=True, reason="; ".join(filter(None, (channel.reason, reason))))
