"""Cuts a continuous recording into trials around its events, with the mean of a baseline subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Event


class Epoch(Stage):
    """Keep ``tmin_s … tmax_s`` around every event that fits, one valid interval each.

    As everywhere the end is exclusive: 1 s at 100 Hz is 100 samples (mne's ``Epochs`` would take 101). The sample of
    the event is the nearest one, as in mne. What is cut must lie in one valid interval; other events are left out and
    counted (``events_left_out``). Afterwards the recording's events are those of the trials, numbered in time.

    Trials that overlap cannot stay where they are, since a moment of a recording exists once: then all trials are
    laid one after another with a gap of at least a second (figure ``trials_laid_out`` = 1), in their order.

    Parameters
    ----------
    tmin_s, tmax_s : float
        Around the event's onset.
    baseline_s : [start, stop], optional
        Span around the onset whose mean over time is subtracted from each channel of the trial; null for either = the
        trial's edge. Default: nothing is subtracted.
    labels : list of str, optional
        Patterns (``word*``) of the labels of events to take. Default: all.
    kinds : list of str, optional
        Kinds of events to take. Default: all.
    """

    causal = False
    surveys = True
    observes = False

    def __init__(
        self,
        *,
        tmin_s: float,
        tmax_s: float,
        baseline_s: Sequence[float | None] | None = None,
        labels: Sequence[str] | None = None,
        kinds: Sequence[str] | None = None,
    ) -> None:
        if not tmin_s < tmax_s:
            raise ConfigError(f"stage 'epoch': tmin_s {tmin_s} is not before tmax_s {tmax_s}")
        self.tmin_s, self.tmax_s = float(tmin_s), float(tmax_s)
        self.baseline_s: tuple[float, float] | None = None
        if baseline_s is not None:
            if len(baseline_s) != 2:
                raise ConfigError(f"stage 'epoch': baseline_s is {list(baseline_s)}; expected [start, stop]")
            a, b = baseline_s
            self.baseline_s = (self.tmin_s if a is None else float(a), self.tmax_s if b is None else float(b))
            if not self.tmin_s <= self.baseline_s[0] < self.baseline_s[1] <= self.tmax_s:
                raise ConfigError(
                    f"stage 'epoch': baseline_s {list(self.baseline_s)} does not lie in [{tmin_s}, {tmax_s}]"
                )
        self.labels, self.kinds = labels, kinds
        self._cuts = False

    def conclude(self, info: SignalInfo) -> Verdict:
        """Find the trials.

        Raises
        ------
        DataError
            When no event fits, or none has room for its trial.
        """
        events = sorted((e for e in info.events if self._fits(e)), key=lambda e: e.onset_s)
        if not events:
            known = sorted({e.label for e in info.events})
            raise DataError(
                f"stage 'epoch': none of the {len(info.events)} events fits labels {list(self.labels or ['*'])} and "
                f"kinds {list(self.kinds or ['*'])} (labels there are: {', '.join(known[:8]) or 'none'})"
            )
        rate = info.rate_hz
        before, length = round(self.tmin_s * rate), round((self.tmax_s - self.tmin_s) * rate)
        keep: list[tuple[int, int, int]] = []
        trials: list[Event] = []
        for e in events:
            for i, (start, stop) in enumerate(info.spans):
                a = round((e.onset_s - start) * rate) + before
                if a >= 0 and a + length <= round((stop - start) * rate):
                    keep.append((i, a, a + length))
                    trials.append(replace(e, trial=len(trials)))
                    break
        if not keep:
            raise DataError(
                f"stage 'epoch': none of {len(events)} events has {self.tmin_s:g} to {self.tmax_s:g} s of valid data "
                f"around it (the first: {events[0].onset_s:g} s)"
            )
        starts = [info.spans[i][0] + a / rate for i, a, _ in keep]
        figures = {"events_left_out": float(len(events) - len(keep)), "trials_laid_out": 0.0}
        if any(starts[k + 1] < starts[k] + (length - 0.5) / rate for k in range(len(starts) - 1)):
            step = float(np.ceil(length / rate) + 1)
            trials = [replace(e, onset_s=k * step + e.onset_s - starts[k]) for k, e in enumerate(trials)]
            starts = [k * step for k in range(len(starts))]
            figures["trials_laid_out"] = 1.0
        self._cuts = True
        return Verdict(keep=keep, starts_s=starts, trials=trials, figures=figures)

    def _fits(self, event: Event) -> bool:
        by_label = self.labels is None or any(fnmatchcase(event.label, p) for p in self.labels)
        return by_label and (self.kinds is None or event.kind in self.kinds)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin a trial."""
        self._held: list[np.ndarray] = []
        self._rate = info.rate_hz
        self.delay_s = self.tmax_s - self.tmin_s if self.baseline_s else 0.0
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Hold the trial back until its baseline is known; in live use, where nothing is cut, pass on."""
        if self.baseline_s is None or not self._cuts:
            return block
        self._held.append(np.asarray(block, dtype=np.float64))
        return block[:0]

    def flush(self) -> np.ndarray | None:
        """Return the trial without the mean of its baseline."""
        if self.baseline_s is None or not self._held:
            return None
        x = np.concatenate(self._held)
        a, b = (round((t - self.tmin_s) * self._rate) for t in self.baseline_s)
        return x - x[a : max(b, a + 1)].mean(axis=0)
