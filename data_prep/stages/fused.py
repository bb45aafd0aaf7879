"""Linear-phase filters in a row as one convolution: a notch and a band-pass cost what the longer of them does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from data_prep.stages.fir import Convolver, LinearPhase, joined_rows


class Fused(Stage):
    """What `stages` do one after the other, to rounding, edges included.

    Away from the edges two filters are one whose kernel is the convolution of theirs. Within their joint reach of an
    edge they are not: the second sees what the first has made of the reflected signal, reflected again. There the
    stages themselves are run, at the end on the reversed signal (kernels and reflection are symmetric).

    Parameters
    ----------
    stages : sequence of LinearPhase
        Two or more.
    """

    causal = False
    _convolver: Convolver | None = None
    _kernels: Sequence[np.ndarray] = ()

    def __init__(self, stages: Sequence[LinearPhase]) -> None:
        self.stages = list(stages)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        self._info = info
        self._restart()
        kernels = [s.kernel for s in self.stages]
        if self._convolver is None or not _equal(self._kernels, kernels):
            self._kernels = [k.copy() for k in kernels]
            self._convolver = Convolver(reduce(np.convolve, kernels))
        self._reach = sum(len(k) // 2 for k in kernels)
        self.delay_s = self._reach / info.rate_hz
        self.shortest_s = max(s.shortest_s for s in self.stages)
        self._head: list[np.ndarray] | None = []
        self._n = 0
        return info

    def _restart(self) -> None:
        for s in self.stages:
            s.start(self._info)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Filter a block; output lags input by `delay_s` and is stamped with the input's time."""
        new = np.asarray(block, dtype=np.float64)
        if self._head is not None:
            self._head.append(new)
            self._n += len(new)
            # both ends have room of their own
            if self._n <= 4 * self._reach:
                return new[:0]
            x = np.concatenate(self._head)
            self._head, self._rows = None, np.ascontiguousarray(x.T)
            return np.concatenate([self._edge(x[: 2 * self._reach]), self._middle()])
        self._rows = joined_rows(self._rows, new)
        return self._middle()

    def flush(self) -> np.ndarray | None:
        """Return the last `delay_s`.

        Raises
        ------
        DataError
            When the interval is shorter than half a filter.
        """
        if self._head is None:
            return self._edge(self._rows.T[::-1])[::-1]
        if not self._n:
            return None
        x = np.concatenate(self._head)
        self._restart()
        for s in self.stages:
            ready = s.push(x)
            x = np.concatenate([ready, s.flush()])
        return x

    def _edge(self, x: np.ndarray) -> np.ndarray:
        """Return the first `_reach` outputs from twice as many inputs."""
        self._restart()
        for s in self.stages:
            x = s.push(x)
        return x[: self._reach]

    def _middle(self) -> np.ndarray:
        """Return the outputs whose support is complete, and keep the inputs that later ones need."""
        assert self._convolver is not None
        ready = self._rows.shape[1] - 2 * self._reach
        if ready <= 0:
            return self._rows[:, :0].T
        out = self._convolver(self._rows).T
        self._rows = self._rows[:, ready:]
        return out


def _equal(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def fused(stages: Sequence[Any]) -> list[Any]:
    """Return the stages with every row of two or more linear-phase filters in one."""
    out: list[Any] = []
    row: list[LinearPhase] = []
    for stage in [*stages, None]:
        if isinstance(stage, LinearPhase) and not stage.surveys:
            row.append(stage)
            continue
        out += [Fused(row)] if len(row) > 1 else row
        row = []
        if stage is not None:
            out.append(stage)
    return out
