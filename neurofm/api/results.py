"""What `embed` and `predict` return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """One vector per window; `numpy.asarray` of it is `vectors`.

    Attributes
    ----------
    vectors : ndarray, shape (window, dim), float32
        The model's pooled tokens.
    start_s : ndarray, shape (window,)
        Start of each window on the recording's clock; of trials, on a clock that puts them one after the other.
    interval : ndarray of int, shape (window,)
        Valid interval of the recording, or the trial, that the window lies in.
    window_s, rate_hz : float
        Length of a window, and the rate that the model read.
    channel_names_used : tuple of str
        As the model knows them, in the order it read them.
    transductive : bool
        Whether a transform learned from the very windows that are embedded.
    notes : tuple of str
        What was done on the way, one sentence each.
    """

    vectors: np.ndarray = field(repr=False)
    start_s: np.ndarray = field(repr=False)
    interval: np.ndarray = field(repr=False)
    window_s: float
    rate_hz: float
    channel_names_used: tuple[str, ...] = field(repr=False)
    transductive: bool
    notes: tuple[str, ...]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.vectors, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A decoder's answer per window; `numpy.asarray` of it is `probabilities`.

    Attributes
    ----------
    probabilities : ndarray, shape (window, class), float32
        Rows sum to one.
    classes : tuple of str
        Columns.
    start_s, interval, notes, transductive
        As in `Embedding`.
    """

    probabilities: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    start_s: np.ndarray = field(repr=False)
    interval: np.ndarray = field(repr=False)
    transductive: bool
    notes: tuple[str, ...]

    @property
    def labels(self) -> list[str]:
        """The likeliest class of each window."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.probabilities, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.probabilities)
