"""Linear-phase FIR filtering of a stream: edges by odd reflection, delay taken out, the same as on the whole."""

from __future__ import annotations

from functools import partial

import numpy as np

from data_prep.running.threads import spread
from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import DataError

# Main lobe of a Hamming window: a transition of f Hz needs 3.3 / f seconds of filter.
HAMMING_WIDTH = 3.3
# Samples of the shortest transform that is worth while, of what is transformed at once (so that it stays in the
# processor's cache), and how many kernels' spectra are remembered when blocks come in many lengths.
SHORTEST_TRANSFORM = 8192
TOGETHER = 1 << 16
MOST_SPECTRA = 8


class Extender:
    """Lengthens a stream by `pad` samples of odd reflection at each end.

    Odd reflection (2·edge − mirrored) continues value and slope, so an offset of thousands leaves no edge step.
    A signal shorter than `pad` is continued by the last value of what could be reflected.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad
        self._head: list[np.ndarray] | None = []
        self._n = 0
        self._tail: np.ndarray | None = None

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take a block (time, channel); return what is ready of the lengthened stream."""
        if self._head is None:
            self._keep(block)
            return block
        self._head.append(block)
        self._n += len(block)
        if self._n <= self.pad:
            return block[:0]
        x = np.concatenate(self._head)
        self._head = None
        self._keep(x)
        return np.concatenate([reflect(x, self.pad), x])

    def flush(self) -> np.ndarray | None:
        """Return the end of the lengthened stream; None when nothing was pushed."""
        if self._head is None:
            assert self._tail is not None
            return reflect(self._tail[::-1], self.pad)[::-1]
        if not self._n:
            return None
        x = np.concatenate(self._head)
        return np.concatenate([reflect(x, self.pad), x, reflect(x[::-1], self.pad)[::-1]])

    def _keep(self, block: np.ndarray) -> None:
        wanted = self.pad + 1
        if self._tail is not None and len(block) < wanted:
            block = np.concatenate([self._tail, block])
        self._tail = block[-wanted:]


def reflect(x: np.ndarray, pad: int) -> np.ndarray:
    """Return the `pad` samples that come before `x` (time, channel) by odd reflection."""
    inner = 2 * x[0] - x[1 : pad + 1][::-1]
    if len(inner) < pad:
        outermost = inner[:1] if len(inner) else x[:1]
        inner = np.concatenate([np.repeat(outermost, pad - len(inner), axis=0), inner])
    return inner


def lowpass_kernel(cut_hz: float, transition_hz: float, rate_hz: float) -> np.ndarray:
    """Hamming-windowed low-pass of odd length whose −6 dB point is `cut_hz`; gain 1 at 0 Hz.

    Its length is that of ``mne.filter.create_filter`` to the sample, so that the same choices give the same numbers.
    """
    from scipy.signal import firwin

    n = round(HAMMING_WIDTH / transition_hz * rate_hz)
    n += 1 - n % 2
    return firwin(n, cut_hz, window="hamming", fs=rate_hz)


def bandpass_kernel(
    low_hz: float | None, high_hz: float | None, low_transition_hz: float, high_transition_hz: float, rate_hz: float
) -> np.ndarray:
    """Kernel that keeps low_hz … high_hz; None leaves that side open.

    The −6 dB points lie half a transition outside of the kept band; a high-pass has exactly zero gain at 0 Hz.
    """
    keep = (
        np.ones(1) if high_hz is None else lowpass_kernel(high_hz + high_transition_hz / 2, high_transition_hz, rate_hz)
    )
    if low_hz is None:
        return keep
    drop = lowpass_kernel(low_hz - low_transition_hz / 2, low_transition_hz, rate_hz)
    return subtract(keep, drop)


def subtract(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a − b of two odd-length kernels, centre on centre."""
    n = max(len(a), len(b))
    out = np.zeros(n)
    for kernel, sign in ((a, 1.0), (b, -1.0)):
        start = (n - len(kernel)) // 2
        out[start : start + len(kernel)] += sign * kernel
    return out


class LinearPhase(Stage):
    """A stage that convolves with a symmetric kernel and takes its delay out; subclasses design the kernel."""

    causal = False
    _convolver: Convolver | None = None

    def design(self, info: SignalInfo) -> np.ndarray:
        """Return the odd-length kernel for this rate."""
        raise NotImplementedError

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        self.kernel = self.design(info)
        if self._convolver is None or not np.array_equal(self._convolver.kernel, self.kernel):
            self._convolver = Convolver(self.kernel)
        self._rate = info.rate_hz
        half = len(self.kernel) // 2
        self.delay_s = self.shortest_s = half / info.rate_hz
        self._extender = Extender(half)
        self._rows: np.ndarray | None = None
        self._n = 0
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Filter a block; output lags input by `delay_s` and is stamped with the input's time."""
        self._n += len(block)
        return self._convolve(self._extender.push(np.asarray(block, dtype=np.float64)))

    def flush(self) -> np.ndarray | None:
        """Return the last `delay_s`.

        Raises
        ------
        DataError
            When the interval is shorter than half the filter.
        """
        rest = self._extender.flush()
        if rest is None:
            return None
        half = len(self.kernel) // 2
        if self._n <= half:
            raise DataError(
                f"an interval of {self._n / self._rate:.3g} s is too short for a filter of "
                f"{len(self.kernel) / self._rate:.3g} s; filter before cutting trials, widen the transition band, or leave the filter out"
            )
        return self._convolve(rest)

    def _convolve(self, new: np.ndarray) -> np.ndarray:
        assert self._convolver is not None
        rows = joined_rows(self._rows, new)
        if rows.shape[1] < len(self.kernel):
            self._rows = rows
            return new[:0]
        self._rows = rows[:, rows.shape[1] - len(self.kernel) + 1 :]
        return self._convolver(rows).T


def joined_rows(before: np.ndarray | None, new: np.ndarray) -> np.ndarray:
    """Return `before` (channel, time) followed by `new` (time, channel) as (channel, time), one copy of each."""
    if before is None:
        return np.ascontiguousarray(new.T)
    n = before.shape[1]
    rows = np.empty((len(before), n + len(new)))
    rows[:, :n], rows[:, n:] = before, new.T
    return rows


class Convolver:
    """Convolution with one kernel by overlap and save: the spectrum of the kernel is computed once per length.

    Parameters
    ----------
    kernel : array, shape (n,)
        What to convolve with.
    """

    def __init__(self, kernel: np.ndarray) -> None:
        from scipy.fft import next_fast_len

        self.kernel = kernel
        # Half of each transform at least is new output, and short blocks cost no more than they must.
        self._longest = next_fast_len(max(4 * len(kernel), SHORTEST_TRANSFORM), real=True)
        self._spectra: dict[int, np.ndarray] = {}

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        """Return the outputs whose support is complete: shape (channel, time) → (channel, time − n + 1)."""
        from scipy.fft import next_fast_len, rfft

        lead = len(self.kernel) - 1
        n_out = rows.shape[1] - lead
        out = np.empty((len(rows), n_out))
        at = 0
        while at < n_out:
            length = min(self._longest, next_fast_len(n_out - at + lead, real=True))
            if length not in self._spectra:
                if len(self._spectra) > MOST_SPECTRA:
                    self._spectra.clear()
                self._spectra[length] = rfft(self.kernel, length)
            step = min(length - lead, n_out - at)
            together = max(1, TOGETHER // length)
            groups = [slice(c, c + together) for c in range(0, len(rows), together)]
            spread(partial(self._convolve, rows[:, at : at + step + lead], out[:, at : at + step], length), groups)
            at += step
        return out

    def _convolve(self, rows: np.ndarray, out: np.ndarray, length: int, group: slice) -> None:
        from scipy.fft import irfft, rfft

        spectrum = rfft(rows[group], length, axis=1)
        spectrum *= self._spectra[length]
        lead = len(self.kernel) - 1
        out[group] = irfft(spectrum, length, axis=1, overwrite_x=True)[:, lead : lead + out.shape[1]]
