"""Butterworth filters of a stream: zero-phase over overlapping blocks, or causal with a state."""

from __future__ import annotations

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from data_prep.stages.fir import Extender
from neurofm.schema.errors import ConfigError, DataError

# The backward pass begins so far behind what it gives out that its answers have decayed to this. 1e-7 is what is
# promised of the output; a narrow band's answers are small themselves, so its promise needs more.
FORGOTTEN = 1e-9
SHORTEST_CHUNK = 8192


class Iir(Stage):
    """Keep ``low_hz … high_hz`` with a Butterworth filter, forwards and backwards, or forwards only.

    ``phase="zero"`` equals ``scipy.signal.sosfiltfilt`` on the whole interval, its edges included: the interval is
    lengthened by odd reflection and each direction begins in the steady state of its first value. The forward
    pass carries its state from block to block and is exact. The backward pass over a chunk begins behind the
    chunk, where what it does not know of the future has decayed to under 1e-7: that is its delay.

    ``phase="causal"`` is ``scipy.signal.sosfilt`` begun in the steady state of the first value, exactly, for any
    size of blocks. It has a phase, and no delay.

    Parameters
    ----------
    low_hz, high_hz : float, optional
        Edges (−3 dB for each pass, so −6 dB for zero phase); None leaves that side open.
    order : int
        Of one pass.
    phase : str
        "zero" or "causal".
    """

    def __init__(
        self, *, low_hz: float | None = None, high_hz: float | None = None, order: int = 4, phase: str = "zero"
    ) -> None:
        if low_hz is None and high_hz is None:
            raise ConfigError("stage 'iir' needs low_hz or high_hz")
        for name, value in (("low_hz", low_hz), ("high_hz", high_hz)):
            if value is not None and value <= 0:
                raise ConfigError(f"stage 'iir': {name} is {value}; expected a frequency above 0, or null")
        if low_hz is not None and high_hz is not None and low_hz >= high_hz:
            raise ConfigError(f"stage 'iir': low_hz {low_hz} is not below high_hz {high_hz}")
        if order < 1:
            raise ConfigError(f"stage 'iir': order is {order}; expected 1 or more")
        if phase not in ("zero", "causal"):
            raise ConfigError(f"stage 'iir': phase is '{phase}'; expected zero or causal")
        self.low_hz, self.high_hz, self.order, self.phase = low_hz, high_hz, order, phase
        self.causal = phase == "causal"
        self._reach: tuple[float, int] | None = None

    def design(self, rate_hz: float) -> np.ndarray:
        """Return second-order sections, shape (section, 6).

        Raises
        ------
        DataError
            When an edge does not fit the sampling rate.
        """
        from scipy.signal import butter

        for name, edge in (("low_hz", self.low_hz), ("high_hz", self.high_hz)):
            if edge is not None and edge >= rate_hz / 2:
                raise DataError(
                    f"stage 'iir': {name} {edge} is not below half the sampling rate ({rate_hz / 2:g} Hz); "
                    "lower it or leave it out"
                )
        if self.low_hz is None:
            return butter(self.order, self.high_hz, "lowpass", fs=rate_hz, output="sos")
        if self.high_hz is None:
            return butter(self.order, self.low_hz, "highpass", fs=rate_hz, output="sos")
        return butter(self.order, (self.low_hz, self.high_hz), "bandpass", fs=rate_hz, output="sos")

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        from scipy.signal import sosfilt_zi

        self._rate = info.rate_hz
        self._sos = self.design(info.rate_hz)
        # shape (section, 2, channel): the state after a constant 1 for ever
        self._steady = np.repeat(sosfilt_zi(self._sos)[:, :, None], len(info.channels), axis=2)
        self._state: np.ndarray | None = None
        if self.causal:
            return info
        self._pad = edge_length(self._sos)
        self.shortest_s = self._pad / info.rate_hz
        if self._reach is None or self._reach[0] != info.rate_hz:
            self._reach = (info.rate_hz, reach(self._sos))
        self._overlap = self._reach[1]
        self._chunk = max(SHORTEST_CHUNK, self._overlap)
        self.delay_s = (self._overlap + self._chunk) / info.rate_hz
        self._extender = Extender(self._pad)
        self._forward: list[np.ndarray] = []
        self._n_forward = 0
        self._n = 0
        self._skip = self._pad
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Filter a block."""
        x = np.asarray(block, dtype=np.float64)
        if self.causal:
            return self._pass(x)
        self._n += len(x)
        self._take(self._pass(self._extender.push(x)))
        out = []
        while self._n_forward >= self._chunk + self._overlap:
            held = np.concatenate(self._forward)
            out.append(self._backward(held[: self._chunk + self._overlap])[: self._chunk])
            self._forward, self._n_forward = [held[self._chunk :]], len(held) - self._chunk
        return self._trim(np.concatenate(out)) if out else x[:0]

    def flush(self) -> np.ndarray | None:
        """Return the end of the interval.

        Raises
        ------
        DataError
            When the interval is not longer than the reflection at its edges.
        """
        if self.causal:
            return None
        rest = self._extender.flush()
        if rest is None:
            return None
        if self._n <= self._pad:
            raise DataError(
                f"an interval of {self._n / self._rate:.3g} s is too short for stage 'iir', which needs more than "
                f"{self._pad / self._rate:.3g} s; filter before cutting trials, or lower the order"
            )
        self._take(self._pass(rest))
        out = self._trim(self._backward(np.concatenate(self._forward)))
        return out[: len(out) - self._pad]

    def _take(self, forward: np.ndarray) -> None:
        self._forward.append(forward)
        self._n_forward += len(forward)

    def _pass(self, x: np.ndarray) -> np.ndarray:
        from scipy.signal import sosfilt

        if not len(x):
            return x
        if self._state is None:
            self._state = self._steady * x[0]
        out, self._state = sosfilt(self._sos, x, axis=0, zi=self._state)
        return out

    def _backward(self, forward: np.ndarray) -> np.ndarray:
        from scipy.signal import sosfilt

        back = forward[::-1]
        return sosfilt(self._sos, back, axis=0, zi=self._steady * back[0])[0][::-1]

    def _trim(self, out: np.ndarray) -> np.ndarray:
        """Take the reflection in front of the interval away."""
        skip = min(self._skip, len(out))
        self._skip -= skip
        return out[skip:]


def edge_length(sos: np.ndarray) -> int:
    """Samples of odd reflection at each edge: the rule of ``scipy.signal.sosfiltfilt``."""
    taps = 2 * len(sos) + 1
    return int(3 * (taps - min((sos[:, 2] == 0).sum(), (sos[:, 5] == 0).sum())))


def reach(sos: np.ndarray) -> int:
    """Return after how many samples a unit step's and a unit impulse's answer stay within `FORGOTTEN` of their end.

    The slowest pole sets the decay, but poles close to each other linger: the answers themselves are looked at.
    """
    from scipy.signal import sos2zpk, sosfilt

    slowest = float(np.abs(sos2zpk(sos)[1]).max())
    n = 64 if slowest == 0 else int(np.ceil(np.log(FORGOTTEN / 10) / np.log(slowest))) + 64
    while True:
        n *= 2
        steps = np.zeros((n, 2))
        steps[0, 0], steps[:, 1] = 1.0, 1.0
        answer = sosfilt(sos, steps, axis=0)
        answer[:, 1] -= answer[-1, 1]
        late = np.flatnonzero((np.abs(answer) >= FORGOTTEN).any(axis=1))
        last = int(late[-1]) + 1 if len(late) else 1
        if last < n // 2:
            return last
