"""Sessions of spiking populations as a benchmark sees them: binned trials of a training and a test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import by_time, whole
from neurofm.data.splits.spans import Span, overlap
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.units import is_held_out

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Counts of a stretch of time, (bin, unit), its behaviour, (bin, dimension), true rates (per bin) and condition."""

    span: Span
    counts: Array
    behaviour: Array | None = None
    rates: Array | None = None
    condition: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What decoders of one session may learn from, and what they are tested on.

    Attributes
    ----------
    name, subject : str
        The session, and whose it is.
    bin_s : float
        Width of a bin.
    held_out : array, shape (unit,), bool
        Units that are predicted from the others and never shown.
    train, test : list of Trial
    budget_s : float
        Length of the training part.
    """

    name: str
    subject: str
    bin_s: float
    held_out: NDArray[np.bool_]
    train: list[Trial]
    test: list[Trial]

    @property
    def budget_s(self) -> float:
        """Seconds of the training part."""
        return round(sum(len(t.counts) for t in self.train) * self.bin_s, 6)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How trials are read.

    Attributes
    ----------
    bin_s : float
        Width of a bin.
    behaviour : str
        Stream that is decoded; "" = none.
    lag_s : float
        Behaviour so much later than the spikes of a bin is its target.
    mask : str
        Stream that is 0 where nothing is scored ("eval_mask" of FALCON); "" = everything is.
    align : str
        Kind of event around which trials are cut; "" = whole valid intervals.
    window_s : pair of float
        From the event, for `align`.
    held_out : int
        Where no unit is marked as held out: the last n units are.
    """

    bin_s: float
    behaviour: str = ""
    lag_s: float = 0.0
    mask: str = ""
    align: str = ""
    window_s: tuple[float, float] | None = None
    held_out: int = 0


def sessions_of(
    dataset: Dataset,
    *,
    reading: Reading,
    parts: Mapping[str, str] | None = None,
    test_fraction: float = 0.2,
    gap_s: float = 1.0,
    tasks: Sequence[str] | None = None,
    official: str = "",
) -> list[Session]:
    """Sessions of a dataset with a training and a test part each.

    Parameters
    ----------
    dataset : Dataset
        Opened with the reading's `bin_s`.
    reading : Reading
    parts : mapping, optional
        Official parts, ``{"train": …, "test": …}``; None: the last `test_fraction` of every recording is the test.
    test_fraction, gap_s : float
        For the latter; the gap lies between the two.
    tasks : sequence of str, optional
        Only recordings of these tasks.
    official : str
        Without `parts`: only recordings of this official part; "" = all.
    """
    asked = {"task": tasks, "part": official}
    chosen = dataset.select(**{k: v for k, v in asked.items() if v})
    if parts is None:
        split = by_time(
            dataset, fractions={"train": 1 - test_fraction, "test": test_fraction}, gap_s=gap_s, recording_ids=chosen
        )
        train, test = split["train"], split["test"]
    else:
        if set(parts) != {"train", "test"}:
            raise ConfigError(f"parts names {sorted(parts)}; expected train and test")
        known = {str(dataset.recordings[r]["part"]) for r in chosen} - {""}
        for p in parts.values():
            if p not in known:
                raise ConfigError(f"{dataset.path}: no recording has the official part '{p}': {nearest(p, known)}")
        train, test = (
            whole(dataset, [r for r in chosen if dataset.recordings[r]["part"] == parts[p]]) for p in ("train", "test")
        )
    names = {r: session_name(dataset, r) for r in chosen}
    sessions = []
    for name in sorted(set(names.values())):
        mine = [[s for s in part if names[s.recording_id] == name] for part in (train, test)]
        if all(mine):
            sessions.append(make_session(dataset, name, *mine, reading=reading))
    if not sessions:
        raise DataError(f"{dataset.path}: no session has both a training and a test part")
    return sessions


def session_name(dataset: Dataset, recording_id: str) -> str:
    """Subject, session and task: what the training and the test recordings of a session have in common."""
    row = dataset.recordings[recording_id]
    return "/".join(str(row[k]) for k in ("subject", "session", "task") if row[k])


def calibration_of(dataset: Dataset, calibrated_on: Sequence[Span], test: Sequence[Span]) -> list[Span]:
    """Spans that the baselines of a session learn from: of the session, or else of its subject's other sessions.

    A decoder that was calibrated on one day and is tested on another is compared with baselines that were fitted on the
    first day too; both days must have the same units.
    """
    sessions, people = (
        {key(s.recording_id) for s in test} for key in (lambda r: session_name(dataset, r), dataset.subject)
    )
    own = [s for s in calibrated_on if session_name(dataset, s.recording_id) in sessions]
    return own or [s for s in calibrated_on if dataset.subject(s.recording_id) in people]


def make_session(
    dataset: Dataset, name: str, train: Sequence[Span], test: Sequence[Span], *, reading: Reading
) -> Session:
    """Read a session.

    Raises
    ------
    DataError
        When its parts meet, have other units, or nothing is left to read.
    """
    if overlap(train, test).spans:
        raise DataError(f"session '{name}': training and test parts overlap in time; choose others")
    ids = sorted({s.recording_id for s in [*train, *test]})
    tables = {r: dataset.channels(r) for r in ids}
    units = {tuple(c["canonical"] or c["name"] for c in t) for t in tables.values()}
    if len(units) > 1:
        a, b = sorted(units, key=len)[:2]
        strange = sorted(set(a) ^ set(b)) or list(a)
        raise DataError(
            f"session '{name}': training and test recordings have other units, or another order (first: '{strange[0]}')"
        )
    held = np.array([is_held_out(c) for c in tables[ids[0]]])
    if not held.any() and reading.held_out:
        held[-reading.held_out :] = True
    read = [[t for s in part for t in trials_in(dataset, s, reading)] for part in (train, test)]
    if not all(read):
        raise DataError(f"session '{name}': no trial is left to {'learn from' if not read[0] else 'score'}")
    return Session(
        name=name, subject=dataset.subject(ids[0]), bin_s=reading.bin_s, held_out=held, train=read[0], test=read[1]
    )


def trials_in(dataset: Dataset, span: Span, reading: Reading) -> list[Trial]:
    """Trials of a span: the span itself, or windows around events in it that lie wholly inside."""
    if not reading.align:
        return _read(dataset, span, reading)
    if reading.window_s is None:
        raise ConfigError(f"align is '{reading.align}' without window_s; give both, in seconds from the event")
    a, b = reading.window_s
    out = []
    for e in dataset.events(span.recording_id):
        if e["kind"] == reading.align and span.start_s <= e["onset_s"] < span.stop_s:
            cut = span._replace(start_s=e["onset_s"] + a, stop_s=e["onset_s"] + b)
            # a window that reaches into the next trial is not this trial's
            if cut.start_s >= span.start_s - 1e-9 and cut.stop_s <= span.stop_s + 1e-9:
                out += _read(dataset, cut, reading)
    return out


def _read(dataset: Dataset, span: Span, reading: Reading) -> list[Trial]:
    n = int((span.stop_s - span.start_s) / reading.bin_s + 1e-6)
    if n < 1:
        return []
    r = span.recording_id
    if dataset.is_events(r):
        counts = dataset.read_binned(r, span.start_s, n, reading.bin_s).astype(np.float64)
    else:
        counts = dataset.read(r, span.start_s, n).astype(np.float64)
    behaviour = _sampled(dataset, span, n, reading, reading.behaviour) if reading.behaviour else None
    if behaviour is not None and reading.mask:
        scored = _sampled(dataset, span, n, reading, reading.mask)[:, 0]
        behaviour = np.where((scored > 0.5)[:, None], behaviour, np.nan)
    rates = None
    if "true_rates" in dataset.streams(r):
        rates = _sampled(dataset, span, n, reading, "true_rates", lag=False) * reading.bin_s
    return [Trial(span=span, counts=counts, behaviour=behaviour, rates=rates, condition=condition_of(dataset, span))]


def _sampled(dataset: Dataset, span: Span, n: int, reading: Reading, stream: str, lag: bool = True) -> Array:
    """Values of a stream at the beginnings of bins (means over the bins of a faster one), NaN where there are none."""
    shift = reading.lag_s if lag else 0.0
    values, time_s = dataset.read_stream(span.recording_id, span.start_s + shift, span.stop_s + shift, stream=stream)
    bins = np.floor((time_s - span.start_s - shift) / reading.bin_s + 1e-6).astype(np.int64)
    there = (bins >= 0) & (bins < n)
    total, count = np.zeros((n, values.shape[1])), np.zeros(n)
    np.add.at(total, bins[there], values[there])
    np.add.at(count, bins[there], 1)
    found = np.where((count > 0)[:, None], total / np.maximum(count, 1)[:, None], np.nan)
    seen = np.flatnonzero(count > 0)
    if not len(seen) or len(seen) == n:
        return found
    # a stream slower than the bins is interpolated between its samples, never beyond the last of them
    step = int(np.ceil(1 / (dataset.rate_hz(span.recording_id, stream) * reading.bin_s) - 1e-6))
    if step > 1:
        inside = np.arange(n) <= seen[-1]
        whole_ = np.stack([np.interp(np.arange(n), seen, found[seen, k]) for k in range(found.shape[1])], axis=1)
        found = np.where(inside[:, None] & (np.arange(n) >= seen[0])[:, None], whole_, np.nan)
    return found


def condition_of(dataset: Dataset, span: Span) -> str:
    """Label of the trial that begins last before the span's end, in the span's own recording; "" where none does."""
    trials = [
        e for e in dataset.events(span.recording_id)
        if e["kind"] == "trial" and e["onset_s"] < span.stop_s and e["onset_s"] + e["duration_s"] > span.start_s
    ]  # fmt: skip
    return str(trials[-1]["label"]) if trials else ""
