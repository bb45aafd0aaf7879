"""The set V1AL of Neuroformer: 60 trials in which a mouse saw one of three clips, published as a Python pickle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.layout.trials import trial_starts
from data_prep.readers.safe_pickle import load_pickle
from data_prep.sources.counts import check_counts, events_between, values_between
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Event, EventStream, Recording, Stream

TRIALS = "Combo3_V1AL.pkl"
DT_S = 0.01
# the last trial of each clip (callback of the paper's code); nothing in the files says so
LAST_TRIAL = (20, 40, 60)


def load_clips(root: Path, name: str, choices: dict[str, Any]) -> Recording:
    """Read the trials: one valid interval each, one after the other, since their place in time is not known.

    Raises
    ------
    DataError
        When the pickle holds anything but numbers by trial, or they do not fit together.
    """
    path = root / name
    trials = trials_of(load_pickle(path), path.name)
    arrays = list(trials.values())
    n_cells, lengths = len(arrays[0]), [x.shape[1] for x in arrays]
    channels = tuple(Channel(name=str(i + 1), canonical=f"v1al/{i + 1}", kind="unit") for i in range(n_cells))
    first: Stream | EventStream
    if choices["signal"] == "events":
        for number, x in trials.items():
            check_counts(x, f"trial {number} of '{path.name}'")
        first = EventStream(
            channels=channels, duration_s=tuple(n * DT_S for n in lengths), read=partial(_events, arrays)
        )
    else:
        first = Stream(rate_hz=1 / DT_S, channels=channels, n_samples=tuple(lengths), read=partial(_columns, arrays))
    starts = trial_starts(lengths, 1 / DT_S)
    clips = [next(c for c, last in enumerate(LAST_TRIAL) if number <= last) for number in trials]
    return Recording(
        dataset="neuroformer",
        subject="v1al",
        task="clips",
        modality="spikes",
        streams=(first,),
        interval_start_s=starts,
        events=tuple(
            Event(
                onset_s=start, duration_s=n * DT_S, kind="stimulus", label=f"clip{clip}", stimulus_id=f"clip{clip}",
                trial=i,
            )
            for i, (start, n, clip) in enumerate(zip(starts, lengths, clips, strict=True))
        ),
        source_file=name,
        source_sha256=sha256_file(path),
    )  # fmt: skip


def trials_of(content: Any, name: str) -> dict[int, np.ndarray]:
    """Return the arrays (cell, bin of 10 ms) by number of trial, in order."""
    if not isinstance(content, dict) or not content:
        raise DataError(f"'{name}' holds no trials; expected a dictionary of trial and counts (cell, bin)")
    trials: dict[int, np.ndarray] = {}
    n_cells = None
    for key, x in content.items():
        try:
            number = int(key)
        except (TypeError, ValueError) as error:
            raise DataError(f"'{name}': trial '{key}' is no number") from error
        if not 0 <= number <= LAST_TRIAL[-1] or number in trials:
            raise DataError(f"'{name}': trial '{key}' is twice there, or none of the {LAST_TRIAL[-1]} that saw a clip")
        if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind not in "fiu" or not x.size:
            what = f"{x.shape} of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
            raise DataError(f"'{name}': trial {number} is {what}; expected numbers (cell, bin of 10 ms)")
        n_cells = len(x) if n_cells is None else n_cells
        if len(x) != n_cells:
            raise DataError(f"'{name}': trial {number} has {len(x)} cells, others {n_cells}; expected as many in all")
        trials[number] = x
    return dict(sorted(trials.items()))


def _events(arrays: list[np.ndarray], interval: int, start_s: float, stop_s: float) -> tuple[np.ndarray, np.ndarray]:
    return events_between(arrays[interval], DT_S, start_s, stop_s)


def _columns(arrays: list[np.ndarray], interval: int, start: int, stop: int) -> np.ndarray:
    return values_between(arrays[interval], start, stop)
