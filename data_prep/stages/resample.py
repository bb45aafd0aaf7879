"""Another sampling rate by a polyphase filter, over blocks, for rational and non-integer rates."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial

import numpy as np

from data_prep.running.threads import spread
from data_prep.stages.base import SignalInfo, Stage
from data_prep.stages.fir import Extender, joined_rows
from data_prep.stages.resample_any import AnyRatio
from neurofm.schema.errors import ConfigError

# Beyond this the ratio of the rates is not meant as a ratio, and the kernel would be enormous.
LARGEST_TERM = 20000
# Entries of the matrix that a polyphase filter may become, and of what is multiplied with it at once.
LARGEST_BANK = 1 << 20
TOGETHER = 1 << 18


def ratio_of(rate_hz: float, wanted_hz: float) -> Fraction | None:
    """Return wanted / rate as the simplest fraction that is right to 1e-9; None when there is none with small terms."""
    exact = wanted_hz / rate_hz
    for limit in (10, 100, 1000, LARGEST_TERM):
        near = Fraction(exact).limit_denominator(limit)
        if near > 0 and abs(float(near) / exact - 1) < 1e-9:
            return near
    return None


def anti_alias_kernel(up: int, down: float, transition: float, attenuation_db: float) -> np.ndarray:
    """Odd-length Kaiser low-pass at the upsampled rate, gain `up`, that stops at the lower Nyquist frequency.

    Kept: up to (1 − transition) of the lower Nyquist frequency. Each of the `up` phases has a gain of exactly 1 at
    0 Hz: else an offset comes out as a ripple of its thousandth part, which for BOLD of 10,000 ± 50 is a fifth of
    the signal.
    """
    from scipy.signal import firwin, kaiserord

    largest = max(up, down)
    n, beta = kaiserord(attenuation_db, transition / largest)
    kernel = firwin(n | 1, (1 - transition / 2) / largest, window=("kaiser", beta))
    for phase in range(up):
        kernel[phase::up] /= kernel[phase::up].sum()
    return kernel


class Bank:
    """A polyphase filter as one matrix product: a few periods of outputs at once from the inputs under them.

    ``upfirdn`` walks through the samples one by one; the product does some work for nothing (the matrix is a band) and
    is several times faster all the same.

    Parameters
    ----------
    kernel : array, shape (n,)
        At the upsampled rate.
    up, down : int
        Output q is Σ_k input[k] · kernel[q · down − k · up].
    front : int
        Zeros that the kernel begins with.
    """

    def __init__(self, kernel: np.ndarray, up: int, down: int, front: int) -> None:
        self.key = (up, down, front)
        support = -(-len(kernel) // up)
        periods = max(1, support // down)
        self.n_out, self.stride = periods * up, periods * down
        # Inputs k0 + behind … k0 + ahead lie under the outputs of a group, k0 being the input at its first output.
        self.behind, ahead = -((len(kernel) - 1) // up), (self.n_out - 1) * down // up
        self.width = ahead - self.behind + 1
        self.fits = self.width * self.n_out <= LARGEST_BANK
        if not self.fits:
            return
        index = np.arange(self.n_out) * down - (np.arange(self.width)[:, None] + self.behind) * up
        inside = (index >= 0) & (index < len(kernel))
        self._matrix = np.where(inside, kernel[np.where(inside, index, 0)], 0.0)

    def __call__(self, x: np.ndarray, base: int, start: int, stop: int) -> np.ndarray:
        """Return outputs start … stop (time, channel) from inputs (channel, time) of which the first is `base`."""
        first, last = start // self.n_out, -(-stop // self.n_out)
        # Groups reach over what is there at both ends; the outputs that depend on that are not returned.
        begin = first * self.stride + self.behind
        length = (last - first - 1) * self.stride + self.width
        rows = np.zeros((len(x), length))
        a, b = max(begin, base), min(begin + length, base + x.shape[1])
        rows[:, a - begin : b - begin] = x[:, a - base : b - base]
        windows = np.lib.stride_tricks.sliding_window_view(rows, self.width, axis=1)[:, :: self.stride]
        out = np.empty((len(rows), last - first, self.n_out))
        together = max(1, TOGETHER // (self.width * (last - first)))

        def multiply(c: int) -> None:
            out[c : c + together] = np.ascontiguousarray(windows[c : c + together]) @ self._matrix

        spread(multiply, range(0, len(rows), together))
        skip = start - first * self.n_out
        return out.reshape(len(rows), -1)[:, skip : skip + stop - start].T


class Resample(Stage):
    """Resample to `rate_hz`; ⌈n · up / down⌉ samples come out of n, sample 0 at the same time as before.

    Parameters
    ----------
    rate_hz : float, optional
        Wanted rate. A signal that has it passes through.
    tr_s : float, optional
        Or the wanted time between two samples, as of fMRI: 0.735 s is no rate that can be written down exactly.
    transition : float
        Part of the lower Nyquist frequency given to the filter's flank: at 100 Hz, .16 keeps up to 42 Hz.
    attenuation_db : float
        Damping of what would alias.
    """

    version = 2
    causal = False

    def __init__(
        self,
        *,
        rate_hz: float | None = None,
        tr_s: float | None = None,
        transition: float = 0.16,
        attenuation_db: float = 60.0,
    ) -> None:
        if (rate_hz is None) == (tr_s is None):
            raise ConfigError("stage 'resample' needs rate_hz or tr_s, one of the two")
        for name, value in (("rate_hz", rate_hz), ("tr_s", tr_s)):
            if value is not None and not value > 0:
                raise ConfigError(f"stage 'resample': {name} is {value}; expected a number above 0")
        if not 0 < transition < 1:
            raise ConfigError(f"stage 'resample': transition is {transition}; expected a part between 0 and 1")
        self.rate_hz = 1 / float(tr_s) if rate_hz is None and tr_s is not None else float(rate_hz or 0)
        self.transition, self.attenuation_db = transition, attenuation_db
        self._designed: tuple[Fraction, np.ndarray] | None = None
        self._bank: Bank | None = None
        self._any: AnyRatio | None = None

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; return the new rate."""
        ratio = ratio_of(info.rate_hz, self.rate_hz)
        self._base, self._n = 0, 0
        self._rows: np.ndarray | None = None
        if ratio is None:
            return self._start_any(info)
        self._any = None
        self._up, self._down = ratio.numerator, ratio.denominator
        if ratio == 1:
            self.delay_s = 0.0
            return info
        if self._designed is None or self._designed[0] != ratio:
            self._designed = (ratio, anti_alias_kernel(self._up, self._down, self.transition, self.attenuation_db))
        kernel = self._designed[1]
        half = len(kernel) // 2
        self._pad = -(-half // self._up)
        # Zeros in front make the output grid of upfirdn, whose steps are `down`, fall on sample 0 of the signal.
        self._front = front = -(self._pad * self._up + half) % self._down
        self._kernel = np.concatenate([np.zeros(front), kernel])
        if self._bank is None or self._bank.key != (self._up, self._down, front):
            self._bank = Bank(self._kernel, self._up, self._down, front)
        self._first = (self._pad * self._up + half + front) // self._down
        self._extender = Extender(self._pad)
        self._next = self._first
        self.delay_s = half / (self._up * info.rate_hz)
        # 100 Hz asked is 100 Hz said, not 99.99999999999999.
        return replace(info, rate_hz=self.rate_hz)

    def _start_any(self, info: SignalInfo) -> SignalInfo:
        if self._any is None or self._any.key != (info.rate_hz, self.rate_hz):
            design = partial(anti_alias_kernel, transition=self.transition, attenuation_db=self.attenuation_db)
            self._any = AnyRatio(info.rate_hz, self.rate_hz, design)
        self._up = self._down = 0
        # a whole number of inputs in front that the clock of outputs does not know of
        self._pad = self._any.reach + 1
        self._extender = Extender(self._pad)
        self._base, self._next = -self._pad, 0
        self.delay_s = (self._any.reach + 2) / info.rate_hz
        return replace(info, rate_hz=self.rate_hz)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take a block, return the new samples whose filter support is complete."""
        if self._any is None and self._up == self._down:
            return block
        self._n += len(block)
        return self._advance(self._extender.push(np.asarray(block, dtype=np.float64)), None)

    def flush(self) -> np.ndarray | None:
        """Return the rest."""
        if self._any is None and self._up == self._down:
            return None
        rest = self._extender.flush()
        if rest is None:
            return None
        if self._any is not None:
            return self._advance(rest, self._any.length(self._n))
        return self._advance(rest, self._first - (-self._n * self._up // self._down))

    def _advance(self, new: np.ndarray, stop: int | None) -> np.ndarray:
        """Filter what is there.

        Output q is Σ_k input[k] · kernel[q · down − k · up]. The kernel begins with `front` zeros, so q is ready
        when the input reaches beyond (q · down − front) / up.
        """
        from scipy.signal import upfirdn

        buffer = joined_rows(self._rows, new)
        if self._any is not None:
            return self._advance_any(self._any, buffer, new, stop)
        up, down = self._up, self._down
        end = self._base + buffer.shape[1]
        ready = -(-(end * up + self._front) // down)
        stop = ready if stop is None else min(stop, ready)
        out = new[:0]
        if stop > self._next:
            assert self._bank is not None
            if self._bank.fits:
                out = self._bank(buffer, self._base, self._next, stop)
            else:
                # `base` is a multiple of `down`, so outputs counted from it begin at base · up / down.
                shift = self._base * up // down
                out = upfirdn(self._kernel, buffer, up, down, axis=1)[:, self._next - shift : stop - shift].T
            self._next = stop
        oldest = max(0, (self._next * down - len(self._kernel)) // up)
        base = max(self._base, oldest // down * down)
        self._rows = buffer[:, base - self._base :]
        self._base = base
        return out

    def _advance_any(self, weights: AnyRatio, buffer: np.ndarray, new: np.ndarray, stop: int | None) -> np.ndarray:
        end = self._base + buffer.shape[1]
        ready = weights.ready(end)
        stop = ready if stop is None else min(stop, ready)
        out = new[:0]
        if stop > self._next:
            out = weights(buffer, self._base, self._next, stop)
            self._next = stop
        base = min(max(self._base, weights.first(self._next)), end)
        self._rows, self._base = buffer[:, base - self._base :], base
        return out
