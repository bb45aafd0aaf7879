"""Averages trials of the same stimulus or label, and says in the tables how many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from data_prep.stages.base import SignalInfo, Stage, Verdict
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Event


class Average(Stage):
    """Replace the trials of one stimulus (or label) by their mean, for each stimulus of a recording.

    Each mean takes the place of its first trial. Its event is of kind "average", its value is the number of
    trials in it. Means over a recording mix trials from its beginning and its end: split such data by
    recording, never in time. The means are held in memory: as much as what comes out.

    Parameters
    ----------
    by : str
        "stimulus_id" or "label".
    n_trials : int, optional
        Make means of so many trials, one after the other in time (the last of a stimulus may hold fewer). Default:
        one mean of all.
    """

    causal = False
    surveys = True

    def __init__(self, *, by: str = "stimulus_id", n_trials: int | None = None) -> None:
        if by not in ("stimulus_id", "label"):
            raise ConfigError(f"stage 'average': by is '{by}'; expected stimulus_id or label")
        if n_trials is not None and n_trials < 1:
            raise ConfigError(f"stage 'average': n_trials is {n_trials}; expected 1 or more, or null for all")
        self.by, self.n_trials = by, n_trials
        self._groups: list[list[int]] | None = None
        self._sums: list[list[np.ndarray]] = []
        self._out: list[np.ndarray] = []

    def observe(self, block: np.ndarray, info: SignalInfo) -> None:
        """Add a block of a trial to the sum of its group."""
        if self._groups is None:
            self._groups = self._grouped(info)
            self._group_of = {i: g for g, members in enumerate(self._groups) for i in members}
            self._sums = [[] for _ in self._groups]
            self._at = (-1, 0)
        i = info.interval
        at = self._at[1] if self._at[0] == i else 0
        self._at = (i, at + len(block))
        group = self._group_of[i]
        total = self._sums[group]
        if i == self._groups[group][0]:
            total.append(np.array(block, dtype=np.float64))
            return
        if len(total) > 1:
            total[:] = [np.concatenate(total)]
        if at + len(block) > len(total[0]):
            raise DataError(self._unequal(info, group))
        total[0][at : at + len(block)] += block

    def conclude(self, info: SignalInfo) -> Verdict:
        """End the sums.

        Raises
        ------
        DataError
            When a trial has no stimulus or label, or trials of a group differ in length.
        """
        groups = self._groups or []
        rate = info.rate_hz
        self._out = []
        trials, keep = [], []
        for g, (members, total) in enumerate(zip(groups, self._sums, strict=True)):
            x = np.concatenate(total)
            lengths = {round((info.spans[i][1] - info.spans[i][0]) * rate) for i in members}
            if len(lengths) > 1:
                raise DataError(self._unequal(info, g))
            self._out.append(x / len(members))
            first = members[0]
            event = self._event(info, first)
            trials.append(replace(event, kind="average", value=float(len(members)), trial=g))
            keep.append((first, 0, len(x)))
        self._groups, self._sums = None, []
        figures = {"trials_averaged": float(sum(map(len, groups)))}
        return Verdict(keep=keep, trials=trials, figures=figures)

    def _grouped(self, info: SignalInfo) -> list[list[int]]:
        members: dict[str, list[int]] = {}
        for i in range(len(info.spans)):
            key = getattr(self._event(info, i), self.by)
            if not key:
                raise DataError(f"stage 'average': the trial at {info.spans[i][0]:g} s has no {self.by}")
            members.setdefault(key, []).append(i)
        size = self.n_trials
        cut = [m[k : k + (size or len(m))] for m in members.values() for k in range(0, len(m), size or len(m))]
        return sorted(cut)

    def _event(self, info: SignalInfo, i: int) -> Event:
        """Return what interval i is a trial of: what an epoch was cut around, else the first event in it."""
        own = info.trials[i]
        if own is not None:
            return own
        a, b = info.spans[i]
        inside = [e for e in info.events if a <= e.onset_s < b]
        if not inside:
            raise DataError(f"stage 'average': no event lies in the valid interval at {a:g} s; cut trials first")
        return min(inside, key=lambda e: e.onset_s)

    def _unequal(self, info: SignalInfo, group: int) -> str:
        name = getattr(self._event(info, (self._groups or [])[group][0]), self.by)
        return f"stage 'average': the trials of '{name}' differ in length; cut them with stage 'epoch'"

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin a mean."""
        self._mean = self._out[info.interval] if info.interval < len(self._out) else None
        self._done = 0
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Return as much of the mean as came in of its first trial; in live use, pass on."""
        if self._mean is None:
            return block
        self._done += len(block)
        return self._mean[self._done - len(block) : self._done]
