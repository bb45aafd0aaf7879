"""Spans → windows: where each sample of a batch is cut from."""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.spans import Span
from neurofm.data.storage.catalogue import GRID
from neurofm.schema.errors import ConfigError, DataError, nearest


class Window(NamedTuple):
    """One sample of a batch.

    Attributes
    ----------
    recording_id, start_s, n_samples : str, float, int
        What to read.
    target : int or float, optional
        Class index or value.
    slack_samples : int
        In training the window may start up to this many samples later (jitter).
    trial : int
        Trial number of the event it belongs to, −1 for none.
    """

    recording_id: str
    start_s: float
    n_samples: int
    target: int | float | None = None
    slack_samples: int = 0
    trial: int = -1


def windows_hash(windows: Sequence[Window]) -> str:
    """Sixteen hex digits that change with any window or their order."""
    digest = hashlib.sha256()
    for w in windows:
        digest.update(repr(tuple(w)).encode())
    return digest.hexdigest()[:16]


def samples_in(dataset: Dataset, window_s: float, recording_id: str) -> int:
    """Length of a window in samples of a recording, at least one."""
    n = round(window_s * dataset.rate_hz(recording_id))
    if n < 1:
        raise ConfigError(f"window_s is {window_s:g}, less than one sample of '{recording_id}'")
    return n


def sliding(
    dataset: Dataset, spans: Sequence[Span], *, window_s: float, stride_s: float | None = None, jitter: bool = False
) -> list[Window]:
    """Windows every `stride_s`, from the first sample of each span's stretch of a valid interval.

    Parameters
    ----------
    dataset : Dataset
        For rates and valid intervals.
    spans : sequence of Span
        Where windows may lie; a span over a gap gives windows on both sides of it, none across.
    window_s, stride_s : float
        Length and step; the step defaults to the length.
    jitter : bool
        Let training shift each window by less than a step, inside its stretch.

    Raises
    ------
    DataError
        When a span is shorter than the window; the message names both.
    """
    made = []
    for span in spans:
        rate, n = dataset.rate_hz(span.recording_id), samples_in(dataset, window_s, span.recording_id)
        step = n if stride_s is None else max(1, round(stride_s * rate))
        found = False
        for origin, first, last in stretches(dataset, span):
            for at in range(first, last - n + 1, step):
                slack = min(step - 1, last - n - at) if jitter else 0
                made.append(Window(span.recording_id, origin + at / rate, n, None, slack))
                found = True
        if not found:
            raise _too_short(span, window_s)
    return made


def random_windows(
    dataset: Dataset, spans: Sequence[Span], *, window_s: float, n_windows: int, seed: int, jitter_s: float = 0.0
) -> list[Window]:
    """Draw windows uniformly over all places where one fits, with replacement.

    With `jitter_s` training shifts each by up to so much, inside its stretch, anew in every epoch.

    Raises
    ------
    DataError
        When no window fits in any span.
    """
    places, room = [], []
    for span in spans:
        n = samples_in(dataset, window_s, span.recording_id)
        for origin, first, last in stretches(dataset, span):
            if last - first >= n:
                places.append((span.recording_id, origin, first, n))
                room.append(last - first - n + 1)
    if not places:
        raise _too_short(max(spans, key=lambda s: s.stop_s - s.start_s), window_s) if spans else _no_spans()
    ends = np.cumsum(room)
    rng = keyed_generator(seed, "random_windows")
    made = []
    for draw in rng.integers(ends[-1], size=n_windows).tolist():
        i = int(np.searchsorted(ends, draw, side="right"))
        recording_id, origin, first, n = places[i]
        at = first + draw - (int(ends[i]) - room[i])
        rate = dataset.rate_hz(recording_id)
        slack = min(round(jitter_s * rate), first + room[i] - 1 - at)
        made.append(Window(recording_id, origin + at / rate, n, None, slack))
    return made


def class_index(classes: Sequence[str], label: str) -> int:
    """Index of a label; an unknown one names the nearest."""
    if label not in classes:
        raise DataError(f"label '{label}' is not one of the classes: {nearest(label, classes)}")
    return list(classes).index(label)


def event_windows(
    dataset: Dataset,
    spans: Sequence[Span],
    *,
    window_s: float,
    offset_s: float = 0.0,
    kind: str | None = None,
    classes: Sequence[str] | None = None,
    incomplete: str = "error",
    jitter_s: float = 0.0,
) -> list[Window]:
    """One window per event inside the spans, starting `offset_s` after its onset, at the nearest sample.

    Parameters
    ----------
    dataset : Dataset
        For events, rates and valid intervals.
    spans : sequence of Span
        An event counts when its onset lies in a span; its window must lie there too.
    window_s, offset_s : float
        Length, and start relative to the onset (negative = before).
    kind : str, optional
        Only events of this kind.
    classes : sequence of str, optional
        The target is the index of the event's label here; events without a label are left out.
    incomplete : str
        "error", or "drop": events whose window sticks out of its span or interval are left out.
    jitter_s : float
        In training the window may start up to this much later, inside its stretch.

    Raises
    ------
    DataError
        When no event is found, or a window sticks out.
    """
    if incomplete not in ("error", "drop"):
        raise ConfigError(f"incomplete is '{incomplete}': {nearest(incomplete, ('error', 'drop'))}")
    made = []
    kinds: set[str] = set()
    for span in spans:
        rate, n = dataset.rate_hz(span.recording_id), samples_in(dataset, window_s, span.recording_id)
        runs = list(stretches(dataset, span))
        for event in _events_in(dataset.events(span.recording_id), span):
            kinds.add(event["kind"])
            if (kind is not None and event["kind"] != kind) or (classes is not None and not event["label"]):
                continue
            start_s = event["onset_s"] + offset_s
            window = None
            for origin, first, last in runs:
                at = round((start_s - origin) * rate)
                if first <= at and at + n <= last:
                    slack = min(round(jitter_s * rate), last - n - at)
                    target = None if classes is None else class_index(classes, event["label"])
                    window = Window(span.recording_id, origin + at / rate, n, target, slack, event["trial"])
            if window is not None:
                made.append(window)
            elif incomplete == "error":
                raise DataError(
                    f"{_name(span)}: the window of {window_s:g} s at {start_s:g} s (event '{event['label']}' at "
                    f"{event['onset_s']:g} s) sticks out of the span or of a valid interval; shorten window_s, "
                    "change offset_s, or pass incomplete=drop"
                )
    if not made:
        asked = f" of kind '{kind}': {nearest(kind, kinds)}" if kind is not None else ""
        raise DataError(f"{dataset.path}: no usable event{asked} in {len(spans)} spans; check task and split")
    return made


def trial_windows(
    dataset: Dataset,
    spans: Sequence[Span],
    *,
    classes: Sequence[str] | None = None,
    window_s: float | None = None,
    offset_s: float = 0.0,
    kind: str | None = None,
) -> list[Window]:
    """One window per span (epoched data: one span per trial), `offset_s` after the span's start.

    The target is the label of the one event of the trial that has one (of `kind`, where given). `window_s` None
    takes the whole trial.

    Raises
    ------
    DataError
        When a trial is shorter than the window, crosses a gap, or has no label or several.
    """
    made = []
    for span in spans:
        rate = dataset.rate_hz(span.recording_id)
        runs = list(stretches(dataset, span))
        if len(runs) != 1:
            raise DataError(f"{_name(span)} is not inside one valid interval; a trial may not cross a gap")
        origin, first, last = runs[0]
        at = first + round(offset_s * rate)
        n = last - at if window_s is None else samples_in(dataset, window_s, span.recording_id)
        if at < first or at + n > last or n < 1:
            raise _too_short(span, window_s or 0.0, offset_s)
        events = [
            e
            for e in _events_in(dataset.events(span.recording_id), span)
            if e["label"] and (kind is None or e["kind"] == kind)
        ]
        target = None
        if classes is not None:
            labels = {e["label"] for e in events}
            if len(labels) != 1:
                raise DataError(f"{_name(span)} has {len(labels)} labels where one is needed; name the `kind` of event")
            target = class_index(classes, labels.pop())
        made.append(Window(span.recording_id, origin + at / rate, n, target, 0, events[0]["trial"] if events else -1))
    return made


def labels_in(dataset: Dataset, spans: Sequence[Span], *, kind: str | None = None) -> list[str]:
    """Sorted labels of the events inside the spans: the classes of a task, taken from its training part."""
    found = {
        e["label"]
        for span in spans
        for e in _events_in(dataset.events(span.recording_id), span)
        if e["label"] and (kind is None or e["kind"] == kind)
    }
    if not found:
        kinds = {e["kind"] for span in spans for e in dataset.events(span.recording_id) if e["label"]}
        said = f" of kind '{kind}' in {len(spans)} spans: {nearest(kind, kinds)}" if kind and kinds else ""
        raise DataError(f"{dataset.path}: no labelled event{said or f' in {len(spans)} spans'}")
    return sorted(found)


def stretches(dataset: Dataset, span: Span) -> Iterator[tuple[float, int, int]]:
    """Yield (interval start, first sample, stop sample) of the span's part of each valid interval."""
    rate, valid = dataset.rate_hz(span.recording_id), dataset.valid(span.recording_id)
    begin = max(0, bisect.bisect_right(valid, span.start_s, key=lambda v: v[0]) - 1)
    for a, b in valid[begin:]:
        if a >= span.stop_s:
            break
        first = max(0, math.ceil((span.start_s - a) * rate - GRID))
        last = math.floor((min(b, span.stop_s) - a) * rate + GRID)
        if last > first:
            yield a, first, last


def _events_in(events: Sequence[Mapping[str, Any]], span: Span) -> Sequence[Mapping[str, Any]]:
    begin = bisect.bisect_left(events, span.start_s - 1e-9, key=lambda e: e["onset_s"])
    end = bisect.bisect_left(events, span.stop_s - 1e-9, key=lambda e: e["onset_s"])
    return events[begin:end]


def _name(span: Span) -> str:
    return f"the span {span.start_s:g} to {span.stop_s:g} s of '{span.recording_id}'"


def _too_short(span: Span, window_s: float, offset_s: float = 0.0) -> DataError:
    at = f" at offset {offset_s:g} s" if offset_s else ""
    return DataError(
        f"{_name(span)} holds no window of {window_s:g} s{at} ({span.stop_s - span.start_s:g} s long, gaps apart); "
        "shorten window_s or leave the span out"
    )


def _no_spans() -> DataError:
    return DataError("there are no spans to cut windows from; check the split")
