"""What lies beside the signal in an NWB file: trials as events, behaviour as further streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from data_prep.privacy import code_of, words_of
from data_prep.readers.nwb_series import Series, beside, series_of
from data_prep.readers.nwb_units import Spans
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.recording import Event, Stream, slug

if TYPE_CHECKING:
    from pynwb import NWBFile

# trials that share less than this touch, but for rounding
SAME_S = 1e-3
# types of series whose values are no behaviour
OTHER = ("ElectricalSeries", "RoiResponseSeries", "ImageSeries", "AnnotationSeries", "IntervalSeries",
         "PatchClampSeries", "DecompositionSeries", "AbstractFeatureSeries", "IndexSeries")  # fmt: skip

# A time further from its trial than this is on another clock: that of the day, which is nobody's business.
DAY_S = 86_400.0
# Three years: a clock that counts from 1970 or the like, on which a time tells the date of a visit.
CALENDAR_S = 1e8


def trial_events(nwb: NWBFile, *, label: str | Sequence[str] | None, may_overlap: bool = False) -> tuple[Event, ...]:
    """Return the trials, and what happened at the times that further columns ``<kind>_time`` state.

    Parameters
    ----------
    nwb : NWBFile
        The file.
    label : str or sequence of str, optional
        Column that says what each trial is, or several whose values are joined by "_"; the other columns, which may
        hold anything, are not read. A label with the name of an experimenter is left empty.
    may_overlap : bool
        Whether a trial may begin before the last one has ended, as in the Neural Latents Benchmark.

    Raises
    ------
    DataError
        When there is no such column, or a trial ends before it begins or after the next has begun.
    """
    table = nwb.trials
    columns = [] if label is None else [label] if isinstance(label, str) else list(label)
    if table is None:
        if columns:
            raise DataError("it has no trials table to take labels from; set source.label=null")
        return ()
    for c in columns:
        if c not in table.colnames:
            raise DataError(f"its trials table has no column '{c}': {nearest(c, table.colnames)}")
    starts, stops = (np.asarray(table[c][:], np.float64) for c in ("start_time", "stop_time"))
    people = words_of(" ".join(nwb.experimenter or ()))
    cells = [[_label(v, people) for v in table[c][:]] for c in columns]
    labels = ["_".join(filter(None, row)) for row in zip(*cells, strict=True)] if cells else [""] * len(starts)
    wrong = np.flatnonzero(stops < starts)
    if len(wrong):
        raise DataError(f"trial {wrong[0]} ends at {stops[wrong[0]]:g} s, before its start at {starts[wrong[0]]:g} s")
    if not may_overlap:
        _apart(starts, stops)
    found = [
        Event(onset_s=float(a), duration_s=float(b - a) if np.isfinite(b) else 0.0, kind="trial", label=text, trial=i)
        for i, (a, b, text) in enumerate(zip(starts, stops, labels, strict=True))
        if np.isfinite(a)
    ]
    for column in table.colnames:
        if column.endswith("_time") and column not in ("start_time", "stop_time"):
            times = np.asarray(table[column][:])
            if times.ndim == 1 and times.dtype.kind in "fiu":
                kind = column.removesuffix("_time")
                found += [
                    Event(onset_s=float(t), kind=kind, label=labels[i], trial=i)
                    for i, t in enumerate(times) if abs(t - starts[i]) < DAY_S
                ]  # fmt: skip
    return tuple(sorted(found, key=lambda e: (e.onset_s, e.kind, e.trial)))


def _label(cell: Any, people: set[str]) -> str:
    text = code_of(cell)
    return "" if people & words_of(text) else text


def behaviour(nwb: NWBFile) -> dict[str, Any]:
    """Return series of behaviour by name: those of processing modules of that name, and plain ones as acquired."""
    from pynwb import TimeSeries

    series = [
        o for o in nwb.objects.values()
        if isinstance(o, TimeSeries) and not any(c.__name__ in OTHER for c in type(o).__mro__) and _is_behaviour(o)
    ]  # fmt: skip
    count = Counter(slug(str(o.name)) for o in series)
    return {
        slug(str(o.name)) if count[slug(str(o.name))] == 1 else slug(f"{o.parent.name}_{o.name}"): o
        for o in sorted(series, key=lambda o: str(o.name))
    }


def _is_behaviour(o: Any) -> bool:
    """Whether a series stands in a module about behaviour or directly among what was acquired."""
    ancestors = []
    at = o.parent
    while at is not None:
        ancestors.append(at)
        at = at.parent
    modules = [a for a in ancestors if type(a).__name__ == "ProcessingModule"]
    if modules:
        return "behavior" in str(modules[0].name).lower() or "behaviour" in str(modules[0].name).lower()
    root = ancestors[-1] if ancestors else None
    holder = ancestors[-2] if len(ancestors) > 1 else o
    return root is not None and str(holder.name) in getattr(root, "acquisition", {})


def covariates_of(
    nwb: NWBFile, spans: Spans, *, names: Sequence[str] | None, taken: set[str], used: Sequence[str] = ()
) -> list[Stream]:
    """Return series of behaviour as streams over the valid intervals.

    Parameters
    ----------
    nwb : NWBFile
        The file.
    spans : tuple of (start_s, stop_s)
        The valid intervals of the signal.
    names : sequence of str, optional
        Which series; None = all that can be read.
    taken : set of str
        Names of streams that exist already.
    used : sequence of str
        Datasets that the signal is read from.

    Raises
    ------
    DataError
        When a named series is not there or cannot be read, or one lies wholly outside the signal: on another clock.
    """
    there = behaviour(nwb)
    chosen = list(there) if names is None else [slug(n) for n in names]
    starts, lengths = [a for a, _ in spans], [b - a for a, b in spans]
    streams = []
    for name in chosen:
        if name not in there:
            raise DataError(f"it has no behaviour series '{name}': {nearest(name, there)}")
        try:
            described = series_of(there[name])
        except DataError:
            # unasked for, a series that holds no numbers over time is not worth the recording
            if names is not None:
                raise
            continue
        if described.place in used:
            continue
        _same_clock(described, spans)
        stream = beside(
            described, starts, lengths, name=name if name not in taken else f"{name}_series", role="covariate"
        )
        if sum(stream.n_samples):
            streams.append(stream)
    return streams


def _apart(starts: np.ndarray, stops: np.ndarray) -> None:
    """Refuse trials that overlap: the same spikes would be in two of them, and in two parts of a split."""
    whole = np.flatnonzero(np.isfinite(starts) & np.isfinite(stops))
    order = whole[np.argsort(starts[whole], kind="stable")]
    twice = np.flatnonzero(stops[order[:-1]] > starts[order[1:]] + SAME_S)
    if len(twice):
        a, b = order[twice[0]], order[twice[0] + 1]
        raise DataError(
            f"trials {a} and {b} overlap ({starts[a]:g} to {stops[a]:g} s and {starts[b]:g} to {stops[b]:g} s; {len(twice)} "
            "such pairs); correct start_time and stop_time in the trials table"
        )


def _same_clock(series: Series, spans: Spans) -> None:
    """Refuse a series none of which lies in the time of the signal, and say by how much it is off."""
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    t = series.timeline
    if t.start_s < last and t.stop_s > first:
        return
    if abs(t.start_s) > CALENDAR_S:
        raise DataError(
            f"series '{series.name}' lasts {t.stop_s - t.start_s:.3f} s on a clock that counts from a date (its times are "
            f"not shown for that), the signal runs from {first:.3f} to {last:.3f} s: subtract the start of the recording "
            "from its times, or name the series to be read in source.covariates"
        )
    raise DataError(
        f"series '{series.name}' runs from {t.start_s:.3f} to {t.stop_s:.3f} s, the signal from {first:.3f} to {last:.3f} s: "
        f"another clock, {'ahead' if t.start_s > first else 'behind'} by {abs(t.start_s - first):.3f} s if both began "
        "together; correct its times, or name the series to be read in source.covariates"
    )
