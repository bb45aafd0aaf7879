"""What each task's files of FALCON hold, and where: each is laid out in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import code_of
from data_prep.readers.nwb_channels import unit_channels
from data_prep.readers.nwb_series import Series, rows, series_of
from data_prep.readers.nwb_units import spike_stream, spike_table
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.recording import Channel, Event, EventStream, Stream

if TYPE_CHECKING:
    from pynwb import NWBFile

BIN_S = 0.02
# two stamps further apart than this have a gap between them
GAP_S = 0.021
TASKS = {
    "000954": {"task": "h1", "subject": "HumanPitt"}, "000950": {"task": "h2", "subject": "T5"},
    "000941": {"task": "m1", "subject": "MonkeyL"}, "000953": {"task": "m2", "subject": "MonkeyN"},
    "001046": {"task": "b1", "subject": "Finch"},
}  # fmt: skip

Read = tuple[Stream | EventStream, list[Stream], Sequence[float], tuple[Event, ...]]


@dataclass(frozen=True)
class Runs:
    """Unbroken runs of bins: where each begins in the series, how many bins it has, when it starts."""

    first: np.ndarray
    length: np.ndarray
    start_s: np.ndarray = field(repr=False)

    @property
    def spans(self) -> tuple[tuple[float, float], ...]:
        """(start_s, stop_s) of each run."""
        return tuple((float(a), float(a + n * BIN_S)) for a, n in zip(self.start_s, self.length, strict=True))


def runs_of_bins(begin_s: np.ndarray) -> Runs:
    """Cut bins into unbroken runs at gaps of more than 21 ms; a bin that begins before time 0 is left out.

    Raises
    ------
    DataError
        When bins overlap, are not in order, or all lie before time 0.
    """
    steps = np.diff(begin_s)
    if not len(begin_s) or not np.isfinite(begin_s).all() or (steps < 2 * BIN_S - GAP_S).any():
        raise DataError(f"its {len(begin_s)} bins of 20 ms overlap or are not in order; expected rising time stamps")
    # where the first stamp marks the end of a bin that began before the recording did
    early = int(np.searchsorted(begin_s, -1e-9))
    if early == len(begin_s):
        raise DataError(f"its bins lie before time 0 (from {begin_s[0]:g} s)")
    first = np.concatenate([[early], np.flatnonzero(steps > GAP_S) + 1])
    first = np.unique(first[first >= early])
    length = np.diff(np.concatenate([first, [len(begin_s)]]))
    return Runs(first, length, np.maximum(begin_s[first], 0.0))


def beside(members: Sequence[Series], runs: Runs, *, name: str, role: str = "covariate") -> Stream:
    """Return series with one value per bin as a stream of 50 Hz: sample j of a run belongs to its bin j."""

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        a = int(runs.first[interval])
        return np.concatenate([s.values(a + start, a + stop) for s in members], axis=1)

    return Stream(
        name=name,
        role=role,
        unit=members[0].unit,
        rate_hz=1 / BIN_S,
        channels=tuple(Channel(name=c, kind="misc", unit=s.unit) for s in members for c in s.columns),
        n_samples=tuple(int(n) for n in runs.length),
        read=read,
    )


def acquired(nwb: NWBFile, name: str) -> Any:
    """Return what was acquired under a name.

    Raises
    ------
    DataError
        When there is no such thing.
    """
    if name not in nwb.acquisition:
        raise DataError(f"has no acquisition '{name}': {nearest(name, nwb.acquisition)}")
    return nwb.acquisition[name]


def binned_series(nwb: NWBFile, name: str, n: int) -> list[Series]:
    """Describe a series with one value per bin, or all of a container, whatever clock the file gives them."""
    held = acquired(nwb, name)
    members = list(held.time_series.values()) if hasattr(held, "time_series") else [held]
    found = [series_of(m, rate_hz=1 / BIN_S, start_s=0.0) for m in members]
    for s in found:
        if s.timeline.n != n:
            raise DataError(f"series '{s.name}' has {s.timeline.n} values for {n} bins")
    return found


def masks(nwb: NWBFile, n: int, runs: Runs) -> list[Stream]:
    """Return the mask of what is scored: `eval_mask`, or in older files the contrary of `Blacklist`."""
    for name in ("eval_mask", "Blacklist"):
        if name in nwb.acquisition:
            (s,) = binned_series(nwb, name, n)
            scale, offset = (np.ones(1), np.zeros(1)) if name == "eval_mask" else (-np.ones(1), np.ones(1))
            mask = Series(
                name="eval_mask", unit="au", columns=("eval_mask",), timeline=s.timeline, file=s.file, place=s.place,
                scale=scale, offset=offset,
            )  # fmt: skip
            return [beside([mask], runs, name="eval_mask")]
    return []


def stamps_of(series: Any) -> np.ndarray:
    """Return a series' time stamps."""
    if series.timestamps is None:
        raise DataError(f"series '{series.name}' has no time stamps")
    return np.asarray(series.timestamps[:], np.float64)


def spikes(nwb: NWBFile, runs: Runs, task: str) -> EventStream:
    """Return the threshold crossings; an electrode keeps its name over the days."""
    table = spike_table(nwb.units)
    channels = unit_channels(nwb.units, owner=task, partly={}, quality=None)
    return spike_stream(table, channels, runs.spans)


def trials(nwb: NWBFile, column: str | None, *, sentence: bool = False) -> tuple[Event, ...]:
    """Return the trials table as events; `sentence`: labels are prompts, with ">" for a space."""
    table = nwb.trials
    if table is None:
        return ()
    cells = [""] * len(table.id) if column is None or column not in table.colnames else list(table[column][:])
    labels = [str(c).replace(">", " ") if sentence else code_of(c) for c in cells]
    return tuple(
        Event(onset_s=float(a), duration_s=float(b - a), kind="trial", label=text, trial=i)
        for i, (a, b, text) in enumerate(zip(table["start_time"][:], table["stop_time"][:], labels, strict=True))
    )


def read_h1(nwb: NWBFile) -> Read:
    """Arm and hand of a person: velocities of 7 joints; the clock's `rate` holds seconds per bin, `offset` its start."""
    velocity = acquired(nwb, "OpenLoopKinematicsVelocity")
    clock = acquired(nwb, "OpenLoopKinematics")
    n = len(velocity.data)
    if clock.timestamps is not None:
        ends_s = stamps_of(clock)
    else:
        step_s = clock.rate if clock.rate < 1 else 1 / clock.rate
        ends_s = (clock.offset or clock.starting_time or 0.0) + np.arange(n) * step_s
    runs = runs_of_bins(ends_s - BIN_S)
    (kinematics,) = binned_series(nwb, "OpenLoopKinematicsVelocity", n)
    # the field that these files use for times is no offset of the values
    kinematics.offset[:] = 0.0
    events: tuple[Event, ...] = ()
    if "TrialNum" in nwb.acquisition:
        number = np.asarray(nwb.acquisition["TrialNum"].data[:]).ravel()
        edges = np.concatenate([[0], np.flatnonzero(np.diff(number)) + 1, [n]])
        events = tuple(
            Event(
                onset_s=float(max(0.0, ends_s[a] - BIN_S)), duration_s=float(ends_s[b - 1] - ends_s[a] + BIN_S),
                kind="trial", trial=i,
            )
            for i, (a, b) in enumerate(pairwise(edges))
        )  # fmt: skip
    streams = [beside([kinematics], runs, name="kinematics"), *masks(nwb, n, runs)]
    return spikes(nwb, runs, "h1"), streams, runs.start_s.tolist(), events


def read_h2(nwb: NWBFile) -> Read:
    """Handwriting of a person: counts in 20 ms were all that was published, so they are a regular signal."""
    series = acquired(nwb, "binned_spikes")
    begin_s = stamps_of(series)
    runs, n = runs_of_bins(begin_s), len(begin_s)
    (counts,) = binned_series(nwb, "binned_spikes", n)
    width = len(counts.columns)
    channels = tuple(Channel(name=str(i), canonical=f"h2/{i}", kind="unit") for i in range(width))

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        a = int(runs.first[interval])
        return counts.stored(a + start, a + stop).astype(np.float64)

    lengths = tuple(int(x) for x in runs.length)
    signal = Stream(name="signal", rate_hz=1 / BIN_S, channels=channels, n_samples=lengths, read=read)
    return signal, masks(nwb, n, runs), runs.start_s.tolist(), trials(nwb, "cue", sentence=True)


def read_m1(nwb: NWBFile) -> Read:
    """Reach and grasp of a monkey: 16 muscles; time stamps are ends of bins."""
    muscles = list(acquired(nwb, "preprocessed_emg").time_series.values())
    if not muscles:
        raise DataError("'preprocessed_emg' holds no series")
    begin_s = stamps_of(muscles[0]) - BIN_S
    runs, n = runs_of_bins(begin_s), len(begin_s)
    emg = beside(binned_series(nwb, "preprocessed_emg", n), runs, name="emg")
    return spikes(nwb, runs, "m1"), [emg, *masks(nwb, n, runs)], runs.start_s.tolist(), trials(nwb, "condition_id")


def read_m2(nwb: NWBFile) -> Read:
    """Two fingers of a monkey; time stamps are beginnings of bins."""
    velocity = list(acquired(nwb, "finger_vel").time_series.values())
    if not velocity:
        raise DataError("'finger_vel' holds no series")
    begin_s = stamps_of(velocity[0])
    runs, n = runs_of_bins(begin_s), len(begin_s)
    streams = [
        beside(binned_series(nwb, name, n), runs, name=name)
        for name in ("finger_vel", "finger_pos") if name in nwb.acquisition
    ]  # fmt: skip
    return spikes(nwb, runs, "m2"), [*streams, *masks(nwb, n, runs)], runs.start_s.tolist(), trials(nwb, None)


def read_b1(nwb: NWBFile) -> Read:
    """Song of a finch: crossings as a raster of 30 kHz, which is read as events; the sound beside them."""
    raster = series_of(acquired(nwb, "tx"))
    line = raster.timeline
    if not line.is_regular or line.start_s < 0:
        raise DataError("series 'tx' has no regular clock that begins at 0 or later")
    duration_s = line.n / line.rate_hz

    def read(interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
        a = max(0, int(np.floor(start_s * line.rate_hz)) - 1)
        b = min(line.n, int(np.ceil(stop_s * line.rate_hz)) + 1)
        at, unit = np.nonzero(rows(raster.file, raster.place, a, b))
        time_s = (a + at) / line.rate_hz
        inside = (time_s >= start_s) & (time_s < stop_s)
        return time_s[inside], unit[inside].astype(np.int32)

    channels = tuple(Channel(name=str(i), canonical=f"b1/{i}", kind="unit") for i in range(len(raster.columns)))
    stream = EventStream(channels=channels, duration_s=(duration_s,), read=read)
    streams = []
    if "vocalizations" in nwb.acquisition:
        sound = series_of(acquired(nwb, "vocalizations"))
        if sound.timeline.is_regular and abs(sound.timeline.start_s - line.start_s) < 1e-6:
            streams.append(
                Stream(
                    name="vocalizations", role="covariate", unit=sound.unit, rate_hz=sound.timeline.rate_hz,
                    channels=tuple(Channel(name=c, kind="misc", unit=sound.unit) for c in sound.columns),
                    n_samples=(sound.timeline.n,), read=lambda i, a, b: sound.values(a, b),
                )
            )  # fmt: skip
    return stream, streams, [line.start_s], trials(nwb, None)


READERS: dict[str, Callable[[Any], Read]] = {
    "h1": read_h1, "h2": read_h2, "m1": read_m1, "m2": read_m2, "b1": read_b1
}  # fmt: skip
