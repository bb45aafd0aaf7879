"""Multivariate noise normalization of trials, learned from the training part alone (Guggenmos, Sterzer & Cichy 2018)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Transform
from neurofm.data.windows import stretches
from neurofm.schema.errors import ConfigError, DataError


@dataclass(kw_only=True)
class Mvnn(Transform):
    """Multiply each window by Σ^(−1/2) over channels; with `centre`, after the person's mean response is taken off.

    Σ is the covariance over time of each fitted trial, shrunk by Ledoit and Wolf's rule on z-scored channels, averaged
    over the trials of a stimulus and then over stimuli; one for each person and session. The published code of
    THINGS-EEG2 averaged the covariances of training and test trials; here, as in NICE, only fitted ones count, and the
    official test recordings of a session take the matrix of its training recordings.

    Parameters
    ----------
    shrinkage : "auto" or float
        Ledoit–Wolf, or a fixed weight from 0 to 1 of the diagonal. With 1 each channel is divided by its own noise
        alone, so that an electrode stays that electrode: Σ^(−1/2) mixes them in everybody's own way.
    centre : bool
        Subtract the mean of the fitted trials (of each stimulus's mean) at each moment. What everything shown evokes
        alike says nothing of what was shown, but differs from person to person; no label is needed to learn it.
    offset_s : float
        Where windows begin in the trial, for `centre` (the task's `offset_s`).
    start_s, stop_s : float, optional
        Part of each trial that is fitted on, from the trial's start; default all of it.
    """

    name: ClassVar[str] = "mvnn"
    learns: ClassVar[bool] = True
    shrinkage: str | float = "auto"
    start_s: float = 0.0
    stop_s: float | None = None
    centre: bool = False
    offset_s: float = 0.0
    _rate_hz: float = field(default=0.0, init=False, repr=False)
    _means: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)
    _fitted: dict[str, np.ndarray] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.shrinkage != "auto" and not (isinstance(self.shrinkage, (int, float)) and 0 <= self.shrinkage <= 1):
            raise ConfigError(f"mvnn: shrinkage is {self.shrinkage}; expected auto, or a number from 0 to 1")

    def fit(self, dataset: Dataset, spans: Sequence[Span], *, allowed: Sequence[Span]) -> None:
        """Average the covariances of the trials in `spans`.

        Raises
        ------
        DataError
            When a span lies outside `allowed`, or a trial is too short.
        """
        super().fit(dataset, spans, allowed=allowed)
        groups: dict[tuple[str, ...], list[Span]] = defaultdict(list)
        for span in sorted(set(spans)):
            groups[_key(dataset, span.recording_id)].append(span)
        for key, members in groups.items():
            names, self._rate_hz = _names(dataset, members[0].recording_id), dataset.rate_hz(members[0].recording_id)
            covariances: dict[str, list[np.ndarray]] = defaultdict(list)
            sums: dict[str, np.ndarray] = {}
            for span in members:
                for trial in _trials(dataset, span, names):
                    covariances[span.stimulus_id].append(trial_covariance(self._part(trial, span), self.shrinkage))
                    if self.centre:
                        sums[span.stimulus_id] = _added(sums.get(span.stimulus_id), trial, span)
            matrix = inverse_root(np.mean([np.mean(found, axis=0) for found in covariances.values()], axis=0))
            means = [total / len(covariances[s]) for s, total in sums.items()]
            for r in dataset.recordings:
                if _key(dataset, r) == key:
                    order = [names.index(n) for n in _names(dataset, r)]
                    self._fitted[r] = matrix[np.ix_(order, order)]
                    if self.centre:
                        self._means[r] = np.mean(means, axis=0).astype(np.float32)[:, order]

    def _part(self, trial: np.ndarray, span: Span) -> np.ndarray:
        """What of a trial the covariance is taken of."""
        a = round(self.start_s * self._rate_hz)
        b = len(trial) if self.stop_s is None else min(len(trial), round(self.stop_s * self._rate_hz))
        if b - a < 2:
            raise DataError(
                f"transform 'mvnn': the trial at {span.start_s:g} s of '{span.recording_id}' has fewer than 2 samples "
                f"between start_s={self.start_s:g} and stop_s; change them"
            )
        return trial[a:b]

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return (values − mean response) · Σ^(−1/2)."""
        matrix = self._matrix(recording_id, values.shape[1])
        if self.centre:
            values = values - self._response(recording_id, len(values))
        return (values @ matrix).astype(np.float32)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return the window in its physical unit."""
        matrix = self._matrix(recording_id, values.shape[1])
        x = np.linalg.solve(matrix, values.T.astype(np.float64)).T
        return (x + self._response(recording_id, len(values)) if self.centre else x).astype(np.float32)

    def _response(self, recording_id: str, n_samples: int) -> np.ndarray:
        """Mean response in a window, that many samples from where windows begin in the trial."""
        mean = self._means[recording_id]
        first = round(self.offset_s * self._rate_hz)
        if first + n_samples > len(mean):
            raise DataError(
                f"transform 'mvnn': a window of {n_samples} samples from offset_s={self.offset_s:g} on is longer than the "
                f"trials of '{recording_id}' ({len(mean)}); give offset_s as the task does"
            )
        return mean[first : first + n_samples]

    def _matrix(self, recording_id: str, n_channels: int) -> np.ndarray:
        if recording_id not in self._fitted:
            raise DataError(
                f"transform 'mvnn' was never fitted on the session of recording '{recording_id}'; fit it on a part of "
                "this person's session that may be looked at"
            )
        matrix = self._fitted[recording_id]
        if len(matrix) != n_channels:
            raise DataError(
                f"transform 'mvnn' was fitted on {len(matrix)} channels of '{recording_id}', the window has {n_channels}"
            )
        return matrix

    def state(self) -> dict[str, Any]:
        """Matrix of every fitted recording, and its mean response where that is taken off."""
        matrices = {r: m.tolist() for r, m in sorted(self._fitted.items())}
        if not self.centre:
            return matrices
        means = {r: m.tolist() for r, m in sorted(self._means.items())}
        return {"matrices": matrices, "means": means, "rate_hz": self._rate_hz}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take what was fitted."""
        matrices = state["matrices"] if self.centre and state else state
        self._fitted = {r: np.array(m, np.float64) for r, m in matrices.items()}
        if self.centre and state:
            self._means = {r: np.array(m, np.float32) for r, m in state["means"].items()}
            self._rate_hz = float(state["rate_hz"])


def _names(dataset: Dataset, recording_id: str) -> list[str]:
    return [c["name"] for c in dataset.channels(recording_id)]


def _trials(dataset: Dataset, span: Span, names: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield what a span holds, (T, C) float64, channels in the order of `names`."""
    rate, own = dataset.rate_hz(span.recording_id), _names(dataset, span.recording_id)
    order = [own.index(n) for n in names]
    for origin, first, last in stretches(dataset, span):
        yield dataset.read(span.recording_id, origin + first / rate, last - first)[:, order].astype(np.float64)


def _added(total: np.ndarray | None, trial: np.ndarray, span: Span) -> np.ndarray:
    if total is not None and total.shape != trial.shape:
        raise DataError(
            f"transform 'mvnn': trials of '{span.recording_id}' have {len(total)} and {len(trial)} samples; centre=true "
            "needs trials of one length"
        )
    return trial if total is None else total + trial


def _key(dataset: Dataset, recording_id: str) -> tuple[str, ...]:
    """Person, session and set of channels."""
    row = dataset.recordings[recording_id]
    return (row["subject"], row["session"], *sorted(_names(dataset, recording_id)))


def trial_covariance(values: np.ndarray, shrinkage: str | float) -> np.ndarray:
    """Shrunk covariance over channels of one trial (T, C)."""
    x = values - values.mean(axis=0)
    scale = x.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    z = x / scale
    if shrinkage == "auto":
        from sklearn.covariance import ledoit_wolf

        correlation = ledoit_wolf(z, assume_centered=True)[0]
    else:
        plain = z.T @ z / len(z)
        correlation = (1 - float(shrinkage)) * plain + float(shrinkage) * np.diag(np.diag(plain))
    return correlation * np.outer(scale, scale)


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric Σ^(−1/2); directions without signal stay without."""
    values, vectors = np.linalg.eigh(covariance)
    floor = 1e-12 * max(values[-1], np.finfo(float).tiny)
    factor = np.where(values > floor, np.maximum(values, floor) ** -0.5, 0.0)
    return (vectors * factor) @ vectors.T
