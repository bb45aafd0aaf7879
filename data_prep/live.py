"""The stages of a preparation in their causal form: what a decoder can run while the recording goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data_prep.stages.base import EventStage, SignalInfo, Stage
from data_prep.stages.demean import Demean
from data_prep.stages.epoch import Epoch
from data_prep.stages.fir import Convolver, LinearPhase, joined_rows
from data_prep.stages.iir import Iir
from data_prep.stages.resample import Resample
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Recording


class MinimumPhase(Stage):
    """A linear-phase filter with the same gain at every frequency and no look ahead.

    The kernel is the minimum-phase one of equal magnitude (homomorphic: the causal part of the cepstrum; Oppenheim &
    Schafer, Discrete-Time Signal Processing, ch. 13), begun in the steady state of the first value.

    Parameters
    ----------
    stage : LinearPhase
        Whose kernel is meant.
    """

    def __init__(self, stage: LinearPhase) -> None:
        self.stage = stage

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval."""
        from scipy.signal import minimum_phase

        kernel = self.stage.design(info)
        self._kernel = minimum_phase(kernel, method="homomorphic", half=False) if len(kernel) > 1 else kernel
        # the magnitude at 0 Hz is met to 1e-3 or so, which on a signal far from zero would show
        total = self._kernel.sum()
        if abs(kernel.sum()) > 0.5 and total:
            self._kernel = self._kernel * (kernel.sum() / total)
        else:
            self._kernel = self._kernel - (total - kernel.sum()) / len(self._kernel)
        self._convolver = Convolver(self._kernel)
        self._rows: np.ndarray | None = None
        return info

    def push(self, block: np.ndarray) -> np.ndarray:
        """Filter a block; as many samples come out as went in."""
        if not len(block):
            return block
        x = np.asarray(block, dtype=np.float64)
        if self._rows is None:
            self._rows = np.repeat(x[:1].T, len(self._kernel) - 1, axis=1)
        rows = joined_rows(self._rows, x)
        self._rows = rows[:, rows.shape[1] - len(self._kernel) + 1 :]
        return self._convolver(rows).T


def causal_form(stages: Sequence[Stage | EventStage]) -> tuple[list[Stage], list[str]]:
    """Return the stages as they can run live, and what had to be changed, in sentences.

    Zero-phase filters become causal ones of the same edges: linear-phase kernels their minimum-phase counterpart, Butterworth
    filters their forward pass. Resampling stays, and waits for half its kernel. What surveys the whole recording falls
    back on its arguments. Cutting trials is left out: windows are cut as they come.

    Raises
    ------
    ConfigError
        When a stage needs what is still to come.
    """
    made: list[Stage] = []
    notes = []
    for stage in stages:
        name = type(stage).__name__
        if isinstance(stage, EventStage):
            raise ConfigError(f"stage '{name}' is of events (spikes), which are not decoded live yet")
        if isinstance(stage, LinearPhase):
            made.append(MinimumPhase(stage))
            notes.append(f"{name}: minimum phase in the place of linear phase")
        elif isinstance(stage, Iir) and not stage.causal:
            made.append(Iir(low_hz=stage.low_hz, high_hz=stage.high_hz, order=stage.order, phase="causal"))
            notes.append(f"{name}: the forward pass alone, with half the steepness of both")
        elif isinstance(stage, Resample):
            made.append(stage)
        elif isinstance(stage, Epoch) and stage.baseline_s is None:
            notes.append(f"{name}: left out, windows are cut as they come")
        elif stage.causal or (isinstance(stage, Demean) and stage.baseline_s is not None):
            made.append(stage)
            if stage.surveys:
                notes.append(f"{name}: without its look at the whole recording")
        else:
            raise ConfigError(
                f"stage '{name}' needs what is still to come, so this preparation has no causal form; prepare the training "
                "data without it to decode live"
            )
    return made, notes


class Chain:
    """Several stages as one, pushed block by block; columns of bad channels are left out at the end.

    Parameters
    ----------
    stages : sequence of Stage
        In order, as `causal_form` gave them.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; return what comes out, good channels only."""
        self._delays = []
        for stage in self.stages:
            info = stage.start(info)
            self._delays.append(stage.delay_s)
        self._good = [i for i, c in enumerate(info.channels) if not c.bad]
        self._empty = np.empty((0, len(self._good)))
        return replace(info, channels=tuple(info.channels[i] for i in self._good))

    @property
    def delay_s(self) -> float:
        """How long after a sample went in its output comes out, all stages together."""
        return sum(self._delays)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Return what is ready, shape (time, good channel)."""
        return self._onwards(block, 0)

    def flush(self) -> np.ndarray:
        """Return what is left at the end of the interval."""
        parts = []
        for i, stage in enumerate(self.stages):
            rest = stage.flush()
            if rest is not None and len(rest):
                parts.append(self._onwards(rest, i + 1))
        return np.concatenate([self._empty, *parts])

    def _onwards(self, block: np.ndarray, first: int) -> np.ndarray:
        for stage in self.stages[first:]:
            if not len(block):
                return self._empty
            block = stage.push(block)
        return np.asarray(block)[:, self._good] if len(block) else self._empty


class Block(NamedTuple):
    """What arrives at once: values (time, channel), the interval they are of, its start, and whether it begins here."""

    values: np.ndarray
    interval: int
    interval_start_s: float
    begins: bool


def replay(recording: Recording, *, block_s: float) -> Iterator[Block]:
    """Yield a recording's signal in blocks of `block_s`, as a device would send them, but as fast as they are taken.

    Raises
    ------
    ConfigError
        When a block would hold no sample.
    """
    stream = recording.signal
    size = round(block_s * stream.rate_hz)
    if size < 1:
        raise ConfigError(f"block_s={block_s:g} is less than one sample at {stream.rate_hz:g} Hz")
    for i, (start_s, n) in enumerate(zip(recording.interval_start_s, stream.n_samples, strict=True)):
        for a in range(0, n, size):
            yield Block(np.asarray(stream.read(i, a, min(a + size, n))), i, float(start_s), a == 0)
