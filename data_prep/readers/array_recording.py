"""Values of an array file and the facts about them → a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.naming import misfit
from data_prep.readers.array_files import ArrayFile, Values, open_arrays
from data_prep.readers.events import require_inside
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

LAYOUTS = (
    "time_channel", "channel_time", "trial_time_channel", "trial_channel_time", "time_channel_trial",
    "channel_time_trial",
)  # fmt: skip
KINDS = {
    "eeg": "eeg", "ieeg": "seeg", "meg": "mag", "fmri": "bold", "spikes": "unit", "calcium": "calcium",
    "series": "misc",  # time series that are no recording of a nervous system
}  # fmt: skip
# unit a user may state → unit of storage and factor
UNITS = {
    "V": ("uV", 1e6), "mV": ("uV", 1e3), "uV": ("uV", 1.0), "µV": ("uV", 1.0), "nV": ("uV", 1e-3),
    "T": ("fT", 1e15), "pT": ("fT", 1e3), "fT": ("fT", 1.0), "au": ("au", 1.0),
}  # fmt: skip
# columns of an event table → where they go; times are in seconds or counted in samples
EVENT_KEYS = ("onset_s", "onset_samples", "first_sample", "duration_s", "label", "value", "stimulus_id", "kind")
# under which keys a file may state facts itself, when the user names no others
USUAL = {"rate_key": "rate_hz", "channels_key": "channels", "labels_key": "labels"}


def load_array_file(root: Path, name: str, who: dict[str, str] | None, facts: dict[str, Any]) -> Recording:
    """Read one array file; pickles and objects are refused.

    Raises
    ------
    DataError
        When the file is not what the facts say.
    """
    if who is None:
        raise DataError(misfit(name, facts["pattern"]))
    path = root / name
    file = open_arrays(path)
    values = file.signal(facts["key"])
    facts = dict(facts)
    if facts["rate_hz"] is None:
        facts["rate_hz"] = _rate(_stated(file, facts, "rate_key"))
    if facts["channels"] is None and (names := _stated(file, facts, "channels_key")) is not None:
        facts["channels"] = [_text(n) for n in names]
    labels = _stated(file, facts, "labels_key")
    return recording_from_values(
        values,
        who,
        facts,
        labels=None if labels is None else [_text(v) for v in labels],
        columns=None if facts["events"] is None else event_columns(file, facts["events"]),
        source_file=name,
        source_sha256=sha256_file(path),
    )


def _stated(file: ArrayFile, facts: Mapping[str, Any], what: str) -> np.ndarray | None:
    """Return what the file itself states; a key that the user named must be there."""
    found = file.small(facts[what] or USUAL[what])
    if found is None and facts[what]:
        raise file.missing(facts[what])
    return found


def _rate(found: np.ndarray | None) -> float | None:
    if found is None:
        return None
    if found.size != 1 or found.dtype.kind not in "biuf":
        raise DataError(f"the sampling rate is stated as {found.size} values of type {found.dtype}, expected a number")
    return float(found[0])


def _text(value: Any) -> str:
    """Return a name or label; whole numbers without a decimal point, whatever type they were stored as."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def event_columns(file: ArrayFile, spec: Mapping[str, Any]) -> dict[str, Any]:
    """Read the columns of an event table.

    Parameters
    ----------
    file : ArrayFile
        Where they are.
    spec : mapping
        `onset_s`, `duration_s`, `value`, `label`, `stimulus_id` → key in the file; `onset_samples` → key of onsets
        counted in samples, of which the first has the number `first_sample` (0, or 1 in MATLAB); `kind` → text.

    Raises
    ------
    DataError
        When a key is unknown or missing, or the columns differ in length.
    """
    for name in spec:
        if name not in EVENT_KEYS:
            raise DataError(f"events: field '{name}' is unknown: {nearest(name, EVENT_KEYS)}")
    if ("onset_s" in spec) == ("onset_samples" in spec):
        raise DataError("events: expected either onset_s or onset_samples, the key of the onsets")
    columns: dict[str, Any] = {}
    for name, key in spec.items():
        if name in ("first_sample", "kind"):
            columns[name] = key
            continue
        found = file.small(str(key))
        if found is None:
            raise file.missing(str(key))
        columns[name] = found
    lengths = {n: len(c) for n, c in columns.items() if n not in ("first_sample", "kind")}
    if len(set(lengths.values())) > 1:
        raise DataError(f"events: columns of different length ({', '.join(f'{k} {v}' for k, v in lengths.items())})")
    return columns


def recording_from_values(
    values: Values,
    who: dict[str, str],
    facts: Mapping[str, Any],
    *,
    labels: Sequence[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    source_file: str = "",
    source_sha256: str = "",
) -> Recording:
    """Return values with their facts as a recording that is read lazily.

    Raises
    ------
    DataError
        When shape, type, rate, names, labels and events do not fit together.
    """
    if len(values.shape) == 1:  # one channel
        values = _column(values)
        facts = {**facts, "layout": "time_channel"}
    axes = _axes(values, facts["layout"])
    if values.dtype.kind not in "fiu":
        raise DataError(f"holds values of type {values.dtype}, expected real numbers")
    rate = facts["rate_hz"]
    if not isinstance(rate, (int, float)) or not rate > 0 or not math.isfinite(rate):
        raise DataError(f"rate_hz is {rate!r}; expected samples per second (argument, arrays.yaml, or in the file)")
    sizes = dict(zip(axes, values.shape, strict=True))
    n_trials, n_samples, n_channels = sizes.get("trial"), sizes["time"], sizes["channel"]
    if n_trials == 0:
        raise DataError("has no trials (length zero)")
    names = facts["channels"] or [f"ch{i:02d}" for i in range(n_channels)]
    if len(names) != n_channels:
        raise DataError(f"{len(names)} channel names for {n_channels} channels; is the layout {facts['layout']}?")
    if labels is not None and len(labels) != n_trials:
        raise DataError(f"{len(labels)} labels for an array of shape {values.shape}; expected one per trial")
    if columns is not None and n_trials is not None:
        raise DataError("events are told of one continuous recording; trials have labels (labels_key)")
    unit, factor = UNITS.get(facts["unit"], (facts["unit"], 1.0))
    channels = tuple(
        Channel(name=str(n), canonical=str(n).lower() if facts["channels"] else "", kind=facts["kind"], unit=unit)
        for n in names
    )
    length_s = n_samples / float(rate)
    starts = tuple(i * float(math.ceil(length_s) + 1) for i in range(n_trials or 1))
    events: tuple[Event, ...] = ()
    if labels is not None:
        events = tuple(
            Event(onset_s=t, duration_s=length_s, kind="trial", label=label, trial=i)
            for i, (t, label) in enumerate(zip(starts, labels, strict=True))
        )
    if columns is not None:
        events = events_from_columns(columns, float(rate))
        require_inside(events, length_s)

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        index: dict[str, int | slice] = {"trial": interval, "time": slice(start, stop), "channel": slice(None)}
        part = values.read(tuple(index[a] for a in axes))
        part = part if axes.index("time") < axes.index("channel") else part.T
        return part if factor == 1 else part * factor

    return Recording(
        dataset="arrays",
        **who,
        modality=facts["modality"],
        streams=(
            Stream(
                unit=unit, rate_hz=float(rate), channels=channels, n_samples=(n_samples,) * (n_trials or 1), read=read
            ),
        ),
        interval_start_s=starts,
        events=events,
        source_file=source_file,
        source_sha256=source_sha256,
    )  # fmt: skip


def _column(values: Values) -> Values:
    """Return a series of numbers as one channel."""
    return Values(
        shape=(*values.shape, 1),
        dtype=values.dtype,
        read=lambda index: values.read(index[:1])[..., None][..., index[1]],
    )


def _axes(values: Values, layout: str) -> list[str]:
    """Return what each axis is; a layout of two words puts the trials of a three-dimensional array in front."""
    axes = layout.split("_")
    if len(values.shape) == 3 and len(axes) == 2:
        axes = ["trial", *axes]
    if len(values.shape) != len(axes):
        raise DataError(f"has shape {values.shape}, expected ({', '.join(axes)}), trials in front if there are any")
    return axes


def events_from_columns(columns: Mapping[str, Any], rate_hz: float) -> tuple[Event, ...]:
    """Return the rows of an event table as events in the order of their onsets, trials numbered by it.

    Raises
    ------
    DataError
        When an onset, duration or value is no number.
    """
    if "onset_s" in columns:
        onset = _numbers(columns, "onset_s")
    else:
        onset = (_numbers(columns, "onset_samples") - int(columns.get("first_sample", 0))) / rate_hz
    n = len(onset)
    duration = _numbers(columns, "duration_s") if "duration_s" in columns else np.zeros(n)
    value = _numbers(columns, "value") if "value" in columns else np.full(n, np.nan)
    label, stimulus = columns.get("label", [""] * n), columns.get("stimulus_id", [""] * n)
    return tuple(
        Event(
            onset_s=float(onset[i]),
            duration_s=float(duration[i]),
            kind=str(columns.get("kind", "event")),
            label=_text(label[i]),
            value=float(value[i]),
            stimulus_id=_text(stimulus[i]),
            trial=trial,
        )
        for trial, i in enumerate(np.argsort(onset, kind="stable"))
    )


def _numbers(columns: Mapping[str, Any], name: str) -> np.ndarray:
    column = np.asarray(columns[name])
    if column.dtype.kind not in "biuf" or (name != "value" and not np.isfinite(column).all()):
        raise DataError(f"events: {name} holds values that are no numbers")
    return column.astype(np.float64)
