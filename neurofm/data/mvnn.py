"""Multivariate noise normalization of trials, learned from the training part alone (Guggenmos, Sterzer & Cichy 2018)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.spans import Span
from neurofm.data.transforms import Transform
from neurofm.data.windows import stretches
from neurofm.schema.errors import ConfigError, DataError


@dataclass(kw_only=True)
class Mvnn(Transform):
    """Multiply each window by Σ^(−1/2) over channels.

    Σ is the covariance over time of each fitted trial, shrunk by Ledoit and Wolf's rule on z-scored channels, averaged
    over the trials of a stimulus and then over stimuli; one for each person and session. The published code of
    THINGS-EEG2 averaged the covariances of training and test trials; here, as in NICE, only fitted ones count, and the
    official test recordings of a session take the matrix of its training recordings.

    Parameters
    ----------
    shrinkage : "auto" or float
        Ledoit–Wolf, or a fixed weight from 0 to 1 of the diagonal.
    start_s, stop_s : float, optional
        Part of each trial that is fitted on, from the trial's start; default all of it.
    """

    name: ClassVar[str] = "mvnn"
    learns: ClassVar[bool] = True
    shrinkage: str | float = "auto"
    start_s: float = 0.0
    stop_s: float | None = None
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
            by_stimulus: dict[str, list[np.ndarray]] = defaultdict(list)
            for span in members:
                for values in self._trials(dataset, span):
                    by_stimulus[span.stimulus_id].append(trial_covariance(values, self.shrinkage))
            covariance = np.mean([np.mean(found, axis=0) for found in by_stimulus.values()], axis=0)
            matrix = inverse_root(covariance)
            names = [c["name"] for c in dataset.channels(members[0].recording_id)]
            for r in dataset.recordings:
                if _key(dataset, r) == key:
                    own = [c["name"] for c in dataset.channels(r)]
                    order = [names.index(n) for n in own]
                    self._fitted[r] = matrix[np.ix_(order, order)]

    def _trials(self, dataset: Dataset, span: Span) -> list[np.ndarray]:
        rate = dataset.rate_hz(span.recording_id)
        made = []
        for origin, first, last in stretches(dataset, span):
            a = first + round(self.start_s * rate)
            b = last if self.stop_s is None else min(last, first + round(self.stop_s * rate))
            if b - a < 2:
                raise DataError(
                    f"transform 'mvnn': the trial at {span.start_s:g} s of '{span.recording_id}' has fewer than 2 samples "
                    f"between start_s={self.start_s:g} and stop_s; change them"
                )
            made.append(dataset.read(span.recording_id, origin + a / rate, b - a).astype(np.float64))
        return made

    def apply(self, values: np.ndarray, recording_id: str, *, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return values · Σ^(−1/2)."""
        return (values @ self._matrix(recording_id, values.shape[1])).astype(np.float32)

    def inverse(self, values: np.ndarray, recording_id: str) -> np.ndarray:
        """Return the window in its physical unit."""
        return np.linalg.solve(self._matrix(recording_id, values.shape[1]), values.T.astype(np.float64)).T.astype(
            np.float32
        )

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
        """Matrix of every fitted recording."""
        return {r: m.tolist() for r, m in sorted(self._fitted.items())}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take what was fitted."""
        self._fitted = {r: np.array(m, np.float64) for r, m in state.items()}


def _key(dataset: Dataset, recording_id: str) -> tuple[str, ...]:
    """Person, session and set of channels."""
    row = dataset.recordings[recording_id]
    return (row["subject"], row["session"], *sorted(c["name"] for c in dataset.channels(recording_id)))


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
