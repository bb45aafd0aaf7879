"""Tables of what happened during a run: onsets in seconds, one label per volume, or one label for the whole run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath

from data_prep.privacy import CONDITION
from data_prep.readers.tables import MISSING, Row, column_of, number
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Event

LABELS = ("trial_type", "label", "labels", "condition", "stimulus", "value")
STIMULI = ("stimulus_id", "stim_id", "stim_file")
BLOCKS = ("block", "chunk", "chunks")
FILES = ("file", "filename", "image")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is known of the run that a table belongs to; times in seconds."""

    n_volumes: int
    tr_s: float
    start_s: float = 0.0

    @property
    def stop_s(self) -> float:
        """End of the last volume."""
        return self.start_s + self.n_volumes * self.tr_s


def events_of(rows: list[Row], path: Path, run: Run) -> tuple[Event, ...]:
    """Turn a table into events.

    Parameters
    ----------
    rows : list of dict
        With a column `onset` (seconds from the first volume; `duration` beside it), or one row per volume with a
        label: then every stretch of one label is an event. Labels stand in trial_type, label, condition or value,
        stimuli in stimulus_id or stim_file, blocks in block or chunk. No other column is looked at.
    path : Path
        For errors.
    run : Run
        Length and repetition time.

    Raises
    ------
    DataError
        When it is neither, or an onset lies beyond the end of the data.
    """
    if column_of(rows, ("onset",)) is not None:
        return _from_onsets(rows, path, run)
    if not rows:
        return ()
    if len(rows) != run.n_volumes:
        raise DataError(
            f"{path.name}: has neither a column 'onset' nor one row for each of the {run.n_volumes} volumes "
            f"({len(rows)} rows)"
        )
    return _from_volumes(rows, path, run)


def rows_of_file(rows: list[Row], path: Path, name: str) -> list[Row]:
    """Return the rows that belong to one image, by the column `file`: its path under the root, or its name.

    Raises
    ------
    DataError
        When there is no such column or no such row.
    """
    column = column_of(rows, FILES)
    if column is None:
        raise DataError(f"{path.name}: has no column 'file' that says which image a row is of")
    mine = [r for r in rows if r[column] in (name, PurePosixPath(name).name)]
    if not mine:
        raise DataError(f"{path.name}: column '{column}' has no row '{PurePosixPath(name).name}'")
    return mine


def whole_run(row: Row, path: Path, run: Run) -> tuple[Event, ...]:
    """Return one event as long as the run, with the row's label."""
    label = column_of([row], LABELS)
    if label is None:
        raise DataError(f"{path.name}: has no column with a label; expected one of {', '.join(LABELS)}")
    return (Event(onset_s=run.start_s, duration_s=run.stop_s - run.start_s, kind="trial", label=condition(row[label]),
                  trial=0),)  # fmt: skip


def _from_onsets(rows: list[Row], path: Path, run: Run) -> tuple[Event, ...]:
    onset, duration = column_of(rows, ("onset",)), column_of(rows, ("duration",))
    label, stimulus, block = column_of(rows, LABELS), column_of(rows, STIMULI), column_of(rows, BLOCKS)
    assert onset is not None
    events = []
    for i, row in enumerate(rows):
        at = number(row[onset], path, i, onset)
        name = condition(row[label]) if label else ""
        if at >= run.stop_s:
            raise DataError(
                f"{path.name}: event {i + 1}{f' ({name})' if name else ''} begins at {at:g} s, but the data end at "
                f"{run.stop_s:g} s ({run.n_volumes} volumes, TR {run.tr_s:g} s); the TR is wrong (set source.tr_s) or "
                "the table is of another run"
            )
        events.append(
            Event(
                onset_s=at,
                duration_s=number(row[duration], path, i, duration, missing=0.0) if duration else 0.0,
                label=name,
                stimulus_id=_text(row[stimulus]) if stimulus else "",
                block=int(number(row[block], path, i, block, missing=-1.0)) if block else -1,
            )
        )
    events.sort(key=lambda e: e.onset_s)
    return tuple(_numbered(events))


def _from_volumes(rows: list[Row], path: Path, run: Run) -> tuple[Event, ...]:
    label, block = column_of(rows, LABELS), column_of(rows, BLOCKS)
    if label is None:
        raise DataError(f"{path.name}: has no column with a label; expected one of {', '.join(LABELS)}")
    events, at = [], 0
    for (name, part), stretch in groupby((condition(r[label]), r[block] if block else "-1") for r in rows):
        n = len(list(stretch))
        if name:
            number_of = int(number(part, path, at, block, missing=-1.0)) if block else -1
            events.append(
                Event(onset_s=run.start_s + at * run.tr_s, duration_s=n * run.tr_s, label=name, block=number_of)
            )
        at += n
    return tuple(_numbered(events))


def _numbered(events: list[Event]) -> list[Event]:
    return [replace(e, trial=i) for i, e in enumerate(events)]


def condition(cell: str) -> str:
    """Return a cell as a label; "" where it is missing or too long to be a condition."""
    text = _text(cell)
    return text if CONDITION.fullmatch(text) else ""


def _text(cell: str) -> str:
    return "" if cell.lower() in MISSING else cell
