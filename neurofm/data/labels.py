"""Labels of windows from events that last: which class a window belongs to.

Windows are cut without jitter, because a window that moved could change its class.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span
from neurofm.data.windows import Window, sliding
from neurofm.schema.errors import ConfigError, DataError, nearest


def classes_in(dataset: Dataset, spans: Sequence[Span], *, kind: str, background: str | None) -> tuple[str, ...]:
    """Labels of the events of a kind that reach into the spans, sorted, after the background class if there is one.

    Raises
    ------
    DataError
        When there are none.
    """
    kinds = {e["kind"] for s in spans for e in dataset.events(s.recording_id)}
    labels = {
        e["label"]
        for s in spans
        for e in dataset.events(s.recording_id)
        if e["kind"] == kind and e["label"] and e["onset_s"] < s.stop_s and e["onset_s"] + e["duration_s"] > s.start_s
    }
    if not labels:
        raise DataError(
            f"{dataset.path}: no labelled event of kind '{kind}' in {len(spans)} spans: {nearest(kind, kinds)}"
        )
    first = () if background is None else (background,)
    return (*first, *sorted(labels - {background}))


def labelled_windows(
    dataset: Dataset,
    spans: Sequence[Span],
    *,
    window_s: float,
    stride_s: float | None,
    kind: str,
    classes: Sequence[str],
    background: str | None = None,
    label_s: float | None = None,
    fraction: float = 0.5,
) -> list[Window]:
    """Windows every `stride_s` with the class of their last `label_s` seconds.

    Parameters
    ----------
    dataset : Dataset
        For events, rates and valid intervals.
    spans : sequence of Span
        Where windows may lie; none crosses the border of a span or a gap, so none crosses a split.
    window_s, stride_s : float
        Length and step; the step defaults to the length.
    kind : str
        Of the events that count; each lasts `duration_s` and is of class `label`.
    classes : sequence of str
        The target is an index into these.
    background : str, optional
        Class of windows that belong to no event; without it they are left out.
    label_s : float, optional
        The class is decided on so much of the window's end (published for MVPFormer: the last 5 of 125 s); default
        the whole window.
    fraction : float
        The class whose events cover more than this share of it, the one with most; 0 = any overlap.

    Raises
    ------
    ConfigError
        When a choice makes no sense.
    DataError
        When no window is left, or an event's label is not one of the classes.
    """
    length_s = window_s if label_s is None else float(label_s)
    if not 0 < length_s <= window_s:
        raise ConfigError(f"label_s is {length_s:g}; expected above 0 and at most window_s, {window_s:g}")
    if not 0 <= fraction < 1:
        raise ConfigError(f"label_fraction is {fraction:g}; expected from 0 to below 1")
    if background is not None and background not in classes:
        raise ConfigError(f"background is '{background}', which is not one of the classes: {', '.join(classes)}")
    made = []
    events: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for window in sliding(dataset, spans, window_s=window_s, stride_s=stride_s):
        if window.recording_id not in events:
            events[window.recording_id] = _lasting(dataset, window.recording_id, kind, classes)
        stop = window.start_s + window.n_samples / dataset.rate_hz(window.recording_id)
        cover = {
            label: sum(max(0.0, min(b, stop) - max(a, stop - length_s)) for a, b in rows)
            for label, rows in events[window.recording_id].items()
        }
        label = max(cover, key=lambda k: cover[k], default=None)
        # a microsecond of tolerance: half of a window is not more than half
        if label is None or cover[label] <= fraction * length_s + 1e-6:
            label = background
        if label is not None:
            made.append(window._replace(target=list(classes).index(label)))
    if not made:
        raise DataError(
            f"{dataset.path}: no window of {len(spans)} spans has a class from events of kind '{kind}'; "
            "name a background class, or check the split"
        )
    return made


def _lasting(
    dataset: Dataset, recording_id: str, kind: str, classes: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """Label → (onset, offset) of a recording's events of a kind, those of one label joined where they overlap."""
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for e in sorted(dataset.events(recording_id), key=lambda e: e["onset_s"]):
        if e["kind"] != kind or not e["label"]:
            continue
        if e["label"] not in classes:
            raise DataError(
                f"{dataset.path}: label '{e['label']}' of '{recording_id}' is not one of the classes: "
                f"{nearest(e['label'], classes)}"
            )
        start, stop = e["onset_s"], e["onset_s"] + e["duration_s"]
        last = rows[e["label"]]
        if last and start <= last[-1][1]:
            last[-1] = (last[-1][0], max(last[-1][1], stop))
        else:
            last.append((start, stop))
    return rows
