"""A recording's signal on its way through the stages: blocks that can be asked for again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from data_prep.stages import STAGES
from data_prep.stages.base import EventStage, SignalInfo, Stage
from data_prep.stages.fused import fused
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Event, Recording, Stream

# Blocks have the same borders on every machine, so that results do not depend on the parallelism.
BLOCK_S = 16.0
MIN_BLOCK = 4096
# What is kept of a staged signal so that the next of many short spans need not begin at the interval's start.
BEHIND_BYTES = 32 << 20

Blocks = Callable[[int, int, int | None], Iterator[np.ndarray]]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A valid interval after some stages: where it lies, which interval of the source it was cut from, its trial."""

    start_s: float
    length_s: float
    source: int
    offset_s: float = 0.0
    trial: Event | None = None


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A signal as re-iterable blocks.

    Attributes
    ----------
    info : SignalInfo
        Rate and channels.
    intervals : tuple of Interval
        The valid intervals.
    blocks : callable (interval, start, stop) -> iterator of arrays, shape (time, channel)
        Samples start … stop of an interval (stop None = to its end), each time from the beginning.
    events : tuple of Event
        On the clock of the intervals.
    figures : dict
        Quality figures gathered so far.
    """

    info: SignalInfo
    intervals: tuple[Interval, ...]
    blocks: Blocks = field(repr=False)
    events: tuple[Event, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)


def build_stages(stages: Sequence[Mapping[str, Any]]) -> list[Stage | EventStage]:
    """Build stages from ``{"name": …, **choices}`` entries.

    Raises
    ------
    ConfigError
        When a name or a choice is unknown.
    """
    built = []
    for entry in stages:
        if "name" not in entry:
            raise ConfigError(f"stage {dict(entry)} has no 'name'; write e.g. {{name: resample, rate_hz: 100}}")
        choices = {k: v for k, v in entry.items() if k != "name"}
        built.append(STAGES.build(entry["name"], allow_import=True, **choices))
    return built


def block_samples(rate_hz: float) -> int:
    """Return the number of samples per block at a rate."""
    return max(MIN_BLOCK, round(BLOCK_S * rate_hz))


def read_blocks(stream: Stream) -> Blocks:
    """Blocks straight from a stream, by random access."""
    size = block_samples(stream.rate_hz)

    def blocks(interval: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        end = stream.n_samples[interval] if stop is None else stop
        for a in range(start, end, size):
            b = min(a + size, end)
            block = np.asarray(stream.read(interval, a, b))
            if block.shape != (b - a, len(stream.channels)):
                raise DataError(
                    f"samples {a} to {b} of interval {interval} were read as shape {block.shape}, expected "
                    f"({b - a}, {len(stream.channels)}); the file is shorter than its header says"
                )
            yield block

    return blocks


def flow_of(recording: Recording) -> Flow:
    """Begin a flow at a recording's signal.

    Raises
    ------
    DataError
        When the recording is empty or contradicts itself.
    """
    s = recording.signal
    if not s.channels:
        raise DataError("has no channels")
    names = [c.name for c in s.channels]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DataError(f"channel name '{twice[0]}' occurs {names.count(twice[0])} times; names must be unique")
    if not np.isfinite(s.rate_hz) or s.rate_hz <= 0:
        raise DataError(f"sampling rate is {s.rate_hz} Hz; expected a positive number")
    if len(s.n_samples) != len(recording.interval_start_s):
        raise DataError(f"{len(s.n_samples)} intervals have data, {len(recording.interval_start_s)} have a start")
    if sum(s.n_samples) == 0:
        raise DataError("has no samples (length zero)")
    intervals = tuple(
        Interval(start_s=float(t), length_s=n / s.rate_hz, source=i)
        for i, (t, n) in enumerate(zip(recording.interval_start_s, s.n_samples, strict=True))
    )
    return Flow(
        info=SignalInfo(rate_hz=float(s.rate_hz), channels=s.channels),
        intervals=intervals,
        blocks=read_blocks(s),
        events=recording.events,
    )


def run_stages(recording: Recording, stages: Sequence[Stage | EventStage]) -> Flow:
    """Return the recording's signal after `stages`, in order.

    Surveying stages read everything before them once; the rest happens when blocks are asked for.
    """
    flow = flow_of(recording)
    for stage in fused(stages):
        if isinstance(stage, EventStage):
            raise ConfigError(
                f"stage '{type(stage).__name__}' is of events (spikes), and '{recording.recording_id}' is a regular "
                "signal; leave it out"
            )
        flow = through(flow, stage)
    return flow


def through(flow: Flow, stage: Stage) -> Flow:
    """Return the flow after one stage."""
    if stage.surveys:
        flow = _survey(flow, stage)
    out = stage.start(flow.info)
    flow = _long_enough(flow, stage.shortest_s)
    return replace(flow, info=replace(out, interval=0), blocks=Forward(lambda interval: _staged(flow, stage, interval)))


class Forward:
    """Spans of staged intervals; those asked for in rising order, overlapping or not, are served in one go.

    A staged signal can only be had from an interval's start. Trials and pieces between gaps are many short spans of
    it: the stages are left standing behind one span, with the last blocks kept, for the next.
    """

    def __init__(self, begin: Callable[[int], Iterator[np.ndarray]]) -> None:
        self._begin = begin
        self._interval: int | None = None
        self._at = 0
        self._held: list[tuple[int, np.ndarray]] = []

    def __call__(self, interval: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Yield blocks of samples start … stop of an interval."""
        if stop is None and start == 0:
            self._interval, self._held = None, []
            yield from self._begin(interval)
            return
        held = self._held[0][0] if self._held else self._at
        if interval != self._interval or start < held:
            self._interval, self._at, self._held, self._source = interval, 0, [], self._begin(interval)
        self._held = [(at, block) for at, block in self._held if at + len(block) > start]
        k = 0
        while True:
            if k == len(self._held):
                block = next(self._source, None)
                if block is None:
                    return
                self._at += len(block)
                if self._at <= start:
                    continue
                self._held.append((self._at - len(block), block))
            at, block = self._held[k]
            if stop is not None and at >= stop:
                return
            yield block[max(start - at, 0) : None if stop is None else stop - at]
            if stop is not None and at + len(block) >= stop:
                return
            k += 1
            while k > 1 and sum(b.nbytes for _, b in self._held) > BEHIND_BYTES:
                self._held.pop(0)
                k -= 1


def _long_enough(flow: Flow, shortest_s: float) -> Flow:
    """Leave out the intervals that are too short to be worked on, unless all are; the stage then says so itself."""
    stay = [i for i, x in enumerate(flow.intervals) if x.length_s > shortest_s]
    if not stay or len(stay) == len(flow.intervals):
        return flow
    before, lost_s = flow.blocks, sum(x.length_s for x in flow.intervals if x.length_s <= shortest_s)

    def blocks(interval: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        return before(stay[interval], start, stop)

    return replace(
        flow,
        intervals=tuple(flow.intervals[i] for i in stay),
        blocks=blocks,
        figures={**flow.figures, "too_short_s": flow.figures.get("too_short_s", 0.0) + lost_s},
    )


def _staged(flow: Flow, stage: Stage, interval: int) -> Iterator[np.ndarray]:
    stage.start(replace(flow.info, interval=interval))
    for block in flow.blocks(interval, 0, None):
        ready = stage.push(block)
        if len(ready):
            yield ready
    rest = stage.flush()
    if rest is not None and len(rest):
        yield rest


def _survey(flow: Flow, stage: Stage) -> Flow:
    told = replace(
        flow.info,
        spans=tuple((i.start_s, i.start_s + i.length_s) for i in flow.intervals),
        trials=tuple(i.trial for i in flow.intervals),
        events=flow.events,
    )
    for i, interval in enumerate(flow.intervals if stage.observes else ()):
        if i >= stage.observes_intervals:
            break
        info = replace(told, interval=i)
        stop = round(stage.observes_s * info.rate_hz) if stage.observes_s < interval.length_s else None
        for block in flow.blocks(i, 0, stop):
            stage.observe(block, info)
    verdict = stage.conclude(told)
    flow = replace(flow, figures={**flow.figures, **verdict.figures})
    if verdict.keep is None:
        return flow
    keep, rate, before = verdict.keep, flow.info.rate_hz, flow.blocks

    def blocks(interval: int, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        source, a, b = keep[interval]
        return before(source, a + start, b if stop is None else a + stop)

    intervals = [
        replace(
            flow.intervals[i],
            start_s=flow.intervals[i].start_s + a / rate,
            length_s=(b - a) / rate,
            offset_s=flow.intervals[i].offset_s + a / rate,
        )
        for i, a, b in keep
    ]
    if verdict.starts_s is not None:
        intervals = [replace(i, start_s=t) for i, t in zip(intervals, verdict.starts_s, strict=True)]
    if verdict.trials is not None:
        intervals = [replace(i, trial=e) for i, e in zip(intervals, verdict.trials, strict=True)]
        flow = replace(flow, events=tuple(verdict.trials))
    return replace(flow, intervals=tuple(intervals), blocks=blocks)
