"""Signals of THINGS-MEG: a run with its images at the hardware trigger, and published epochs one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.layout.trials import trial_starts
from data_prep.readers.from_mne import SIGNAL, channel_of, recording_from_raw
from data_prep.readers.raw_file import open_raw
from data_prep.readers.tables import number_or_nan, stream_rows
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Event, Recording, Stream

if TYPE_CHECKING:
    from mne.io import BaseRaw

    from data_prep.sources.things_meg import Shown

TRIGGER = "UPPT001"
IMAGE, RUN_END = 64, 32
# Image numbers in which the two tables of a healthy run may differ; more means rows of another run.
MAX_MISMATCH = 20


def run_recording(
    root: Path, name: str, rows: Sequence[Shown], events: Path, *, subject: str, session: str, run: str
) -> Recording:
    """Open one run; images stand at the trigger, since events.tsv is late by about 150 ms.

    Raises
    ------
    DataError
        When triggers and tables do not tell of the same images.
    """
    raw = open_raw(root / name)
    onsets = trigger_onsets_s(raw, len(rows))
    if events.exists():
        _check_numbers(events, rows)
    path = root / name
    data = path if path.is_file() else next(iter(sorted(path.glob("*.meg4"))), None)
    recording = recording_from_raw(
        raw,
        dataset="things_meg",
        subject=subject,
        session=session,
        task="main",
        run=run,
        modality="meg",
        source_file=name,
        source_sha256="" if data is None else sha256_file(data),
    )
    images = tuple(
        Event(
            onset_s=onset,
            duration_s=row.duration_s,
            kind="image",
            label=row.concept,
            value=float(row.kind == "test"),
            stimulus_id=row.stem,
            trial=i,
        )
        for i, (onset, row) in enumerate(zip(onsets, rows, strict=True))
        if row.kind != "catch"
    )
    return replace(recording, events=images)


def trigger_onsets_s(raw: BaseRaw, n_images: int) -> list[float]:
    """Return when each image came on, in seconds from the first sample.

    Raises
    ------
    DataError
        When the trigger channel does not hold one code per image and the code of the run's end.
    """
    import mne

    if TRIGGER not in raw.ch_names:
        raise DataError(f"has no trigger channel '{TRIGGER}'")
    found = mne.find_events(raw, stim_channel=TRIGGER, verbose="error")
    codes = found[:, 2].tolist()
    if codes != [IMAGE] * n_images + [RUN_END]:
        raise DataError(
            f"'{TRIGGER}' holds {len(codes)} codes {sorted(set(codes))}, expected {IMAGE} for each of {n_images} images "
            f"and a last {RUN_END}"
        )
    return ((found[:-1, 0] - raw.first_samp) / raw.info["sfreq"]).tolist()


def _check_numbers(events: Path, rows: Sequence[Shown]) -> None:
    values = [number_or_nan(row["value"]) for row in stream_rows(events, "value")]
    if len(values) != len(rows):
        raise DataError(f"{events.name}: has {len(values)} rows, the sample attributes have {len(rows)} for this run")
    differing = sum(r.kind != "catch" and r.number != v for r, v in zip(rows, values, strict=True))
    if differing > MAX_MISMATCH:
        raise DataError(f"{events.name}: {differing} of {len(rows)} images differ from the sample attributes")


def epochs_recording(root: Path, name: str, rows: Sequence[Shown], *, subject: str, part: str) -> Recording:
    """Open one part of a subject's epochs; the event code of an epoch is its image's number.

    Epochs of other codes (catch images, button presses) are left out.

    Raises
    ------
    DataError
        When a split file is missing or no epoch belongs to the part.
    """
    import mne

    images = {r.number: r for r in reversed(rows) if r.number > 0}
    try:
        epochs = mne.read_epochs(root / name, proj=False, preload=False, verbose="error")
    except OSError as error:
        gone = Path(error.filename).name if error.filename else name
        raise DataError(f"{name}: part '{gone}' is missing or not readable; fetch all parts of the split") from error
    kind = {"train": "exp", "test": "test"}[part]
    codes = epochs.events[:, 2].tolist()
    chosen = [i for i, code in enumerate(codes) if code in images and images[code].kind == kind]
    if not chosen:
        raise DataError(f"{name}: none of its {len(codes)} epochs shows an image of the {part} part")
    # Where epochs and table tell of the same presentations in the same order, the run is known too.
    aligned = len(codes) == len(rows) and all(rows[i].number == codes[i] for i in chosen)
    types = epochs.get_channel_types()
    picks = [i for i, t in enumerate(types) if t in SIGNAL]
    scale = np.array([SIGNAL[types[i]][1] for i in picks])
    n_samples, rate_hz = len(epochs.times), float(epochs.info["sfreq"])
    starts = trial_starts((n_samples,) * len(chosen), rate_hz)

    def read(interval: int, start: int, stop: int) -> np.ndarray:
        trial = epochs.get_data(picks=picks, item=[chosen[interval]], verbose="error")[0]
        return trial[:, start:stop].T * scale

    return Recording(
        dataset="things_meg",
        subject=subject,
        task="main",
        run=part,
        modality="meg",
        part=part,
        streams=(
            Stream(
                rate_hz=rate_hz,
                unit=SIGNAL[types[picks[0]]][0],
                channels=tuple(channel_of(epochs, i, SIGNAL[types[i]][0]) for i in picks),
                n_samples=(n_samples,) * len(chosen),
                read=read,
            ),
        ),
        interval_start_s=starts,
        events=tuple(
            Event(
                onset_s=start - float(epochs.times[0]),
                duration_s=images[codes[i]].duration_s,
                kind="image",
                label=images[codes[i]].concept,
                value=float(part == "test"),
                stimulus_id=images[codes[i]].stem,
                trial=trial,
                block=(rows[i].session - 1) * 10 + rows[i].run - 1 if aligned else -1,
            )
            for trial, (i, start) in enumerate(zip(chosen, starts, strict=True))
        ),
        source_file=name,
        source_sha256=sha256_file(root / name),
    )
