"""Resampling between rates whose ratio is none of small integers (600.615 Hz, 24414.0625 Hz): each output on its own time.

The filter of a rational ratio has one set of weights for each of its few phases. Here the phases are as many as there are
outputs; weights are tabulated at fine steps of phase and taken in between by a straight line (Smith and Gossett 1984, A
flexible sampling-rate conversion method, ICASSP). No rate is rounded, so that a day later every sample is still in its
place.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

# Steps of phase in one period of the highest frequency that is kept: interpolated weights are right to 1e-6 of their size.
STEPS = 2048
# Numbers in the windows that are multiplied at once.
TOGETHER = 1 << 21


class AnyRatio:
    """Weights for outputs at any time.

    Parameters
    ----------
    rate_hz, wanted_hz : float
        Of what goes in and what comes out; output q lies at input q · rate_hz / wanted_hz.
    kernel : callable (up, down) -> array
        Low-pass at `up` times the input's rate, of odd length, each phase of gain 1.
    """

    def __init__(self, rate_hz: float, wanted_hz: float, kernel: Callable[[int, float], np.ndarray]) -> None:
        self.key = (rate_hz, wanted_hz)
        self._step = Fraction(rate_hz) / Fraction(wanted_hz)
        self.phases = max(1, int(np.ceil(STEPS / max(1.0, float(self._step)))))
        taps = kernel(self.phases, self.phases * float(self._step))
        half = len(taps) // 2
        self.reach = -(-half // self.phases) + 1
        # Row f: weights of inputs k − reach … k + reach + 1 for an output f / phases after input k; one row more, so
        # that every phase has a next one.
        at = half + np.arange(self.phases + 1)[:, None] - np.arange(-self.reach, self.reach + 2)[None, :] * self.phases
        inside = (at >= 0) & (at < len(taps))
        self._table = np.where(inside, taps[np.where(inside, at, 0)], 0.0)

    def length(self, n: int) -> int:
        """Return how many outputs lie before the end of `n` inputs."""
        return -(-n * self._step.denominator // self._step.numerator)

    def first(self, q: int) -> int:
        """Return the first input that output `q` depends on."""
        return int(q * self._step) - self.reach

    def ready(self, n: int) -> int:
        """Return how many outputs depend on the inputs before `n` alone."""
        last = n - self.reach - 2  # the latest input at or before an output whose window is there
        return max(0, self.length(last + 1)) if last >= 0 else 0

    def __call__(self, x: np.ndarray, base: int, start: int, stop: int) -> np.ndarray:
        """Return outputs start … stop (time, channel) from inputs (channel, time) of which the first is `base`."""
        # exact in integers for the first, and over one block to 1e-10 of a sample for the others
        origin = start * self._step
        whole = origin.numerator // origin.denominator
        place = float(origin - whole) + np.arange(stop - start) * float(self._step)
        input_, phase = np.divmod(place, 1.0)
        low = np.minimum((phase * self.phases).astype(np.int64), self.phases - 1)
        share = phase * self.phases - low
        begin = whole + input_.astype(np.int64) - self.reach - base
        width = self._table.shape[1]
        windows = np.lib.stride_tricks.sliding_window_view(x, width, axis=1)
        out = np.empty((stop - start, len(x)))
        together = max(1, TOGETHER // (width * len(x)))
        for a in range(0, stop - start, together):
            part = slice(a, a + together)
            weights = (1 - share[part, None]) * self._table[low[part]] + share[part, None] * self._table[low[part] + 1]
            out[part] = np.einsum("cqw,qw->qc", windows[:, begin[part]], weights)
        return out
