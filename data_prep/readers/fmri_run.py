"""One run of fMRI as a recording: masked, its confounds taken out, its events and repetition time checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers import event_table, fmriprep
from data_prep.readers.masking import Masking
from data_prep.readers.tables import Row, read_rows
from data_prep.readers.volumes import checked_tr_s, header_tr_s, open_run
from data_prep.regression import drifts, regress_out
from data_prep.stages.quality import runs_of
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel, Event, Recording, Stream

SCRUB = ("keep", "cut")


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is taken out of a whole run, and its repetition time where it is known better; see `BidsFmri`."""

    confounds: fmriprep.Confounds | None = None
    detrend: int = 0
    scrub: str = "keep"
    tr_s: float | None = None

    def check(self, source: str) -> None:
        """Check the choices.

        Raises
        ------
        ConfigError
            When one cannot be meant.
        """
        fmriprep.check_confounds(self.confounds, source)
        if self.detrend not in (0, 1, 2):
            raise ConfigError(f"source '{source}': detrend is {self.detrend}; expected 0, 1 (linear) or 2 (quadratic)")
        if self.scrub not in SCRUB:
            raise ConfigError(f"source '{source}': scrub is '{self.scrub}'; expected keep or cut")
        if self.tr_s is not None and not self.tr_s > 0:
            raise ConfigError(f"source '{source}': tr_s is {self.tr_s}; expected seconds above 0, or null")

    def describe(self) -> dict[str, Any]:
        """Return the choices as plain values."""
        c = self.confounds
        plain = dict(c) if isinstance(c, Mapping) else c if c is None or isinstance(c, str) else list(c)
        return {"confounds": plain, "detrend": self.detrend, "scrub": self.scrub, "tr_s": self.tr_s}


def fmri_recording(
    image: Path,
    *,
    dataset: str,
    who: dict[str, str],
    masking: Masking,
    cleaning: Cleaning,
    sidecar_tr_s: float | None = None,
    start_s: float = 0.0,
    events: Path | None = None,
    event_rows: list[Row] | None = None,
    frame: str = "",
    source_file: str = "",
) -> Recording:
    """Read a run; what is held in memory is its channels, not its volumes.

    Parameters
    ----------
    image : Path
        Four-dimensional.
    dataset, who, source_file
        As in `Recording`; `who` holds subject, session, task and run.
    masking, cleaning
        What becomes a channel, and what is taken out of it.
    sidecar_tr_s : float, optional
        Repetition time that a sidecar states.
    start_s : float
        Time of the first volume on the clock of the events.
    events : Path, optional
        Table of events (see `event_table.events_of`).
    event_rows : list of dict, optional
        Its rows, where the table holds those of other runs as well; one row without an onset labels the whole run.
    frame : str
        Coordinate frame; "" = as the header says.

    Raises
    ------
    DataError
        When its parts do not fit together.
    """
    name = image.name
    run = open_run(image, name)
    stated: dict[str, float | None] = {"source.tr_s": cleaning.tr_s}
    if cleaning.tr_s is None:
        stated = {"its sidecar": sidecar_tr_s, "its header": header_tr_s(run)}
    tr_s = checked_tr_s(stated, name, fix="set source.tr_s to the true one")
    n = run.shape[3]
    found = _events(events, event_rows, event_table.Run(n_volumes=n, tr_s=tr_s, start_s=start_s))
    keep, regressors = np.ones(n, bool), np.empty((n, 0))
    names: list[str] = []
    if cleaning.confounds is not None:
        regressors, names, keep = fmriprep.load(image, cleaning.confounds, n)
    channels, values = masking.series(run, name, who, frame)
    design = np.hstack([drifts(n, cleaning.detrend), regressors])
    if design.shape[1]:
        values = regress_out(values, design, keep=keep)
    spans = runs_of(keep) if cleaning.scrub == "cut" else [(0, n)]
    streams = [_stream("signal", "signal", "au", 1 / tr_s, channels, values, spans)]
    if names:
        columns = tuple(Channel(name=c, kind="confound") for c in names)
        streams.append(_stream("confounds", "covariate", "au", 1 / tr_s, columns, regressors, spans))
    if not keep.all() and cleaning.scrub == "keep":
        marks = (Channel(name="kept", kind="misc"),)
        streams.append(_stream("kept", "covariate", "au", 1 / tr_s, marks, keep[:, None].astype(np.float32), spans))
    return Recording(
        dataset=dataset,
        **{k: v for k, v in who.items() if v},
        modality="fmri",
        streams=tuple(streams),
        interval_start_s=tuple(start_s + a * tr_s for a, _ in spans),
        events=found,
        source_file=source_file,
        source_sha256=sha256_file(image),
    )


def _events(path: Path | None, rows: list[Row] | None, run: event_table.Run) -> tuple[Event, ...]:
    if path is None:
        return ()
    if rows is not None and len(rows) == 1 and event_table.column_of(rows, ("onset",)) is None:
        return event_table.whole_run(rows[0], path, run)
    return event_table.events_of(read_rows(path) if rows is None else rows, path, run)


def _stream(
    name: str,
    role: str,
    unit: str,
    rate_hz: float,
    channels: tuple[Channel, ...],
    values: np.ndarray,
    spans: list[tuple[int, int]],
) -> Stream:
    arrays = [values[a:b] for a, b in spans]
    return Stream.from_arrays(arrays, rate_hz=rate_hz, channels=channels, name=name, role=role, unit=unit)
