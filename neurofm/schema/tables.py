"""The parquet tables of a prepared dataset: their columns, and the only place they are read or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa

# name → columns; s string, f float64, i int64, b bool, F list of [start, stop] pairs, S list of string
COLUMNS: dict[str, dict[str, str]] = {
    "recordings": {
        "recording_id": "s", "dataset": "s", "subject": "s", "session": "s", "task": "s", "run": "s", "modality": "s",
        "part": "s", "duration_s": "f", "valid": "F", "source_file": "s", "source_sha256": "s", "quality": "s",
        "shards": "S", "content": "s",
    },
    "streams": {
        "recording_id": "s", "name": "s", "role": "s", "regular": "b", "rate_hz": "f", "t0_s": "f", "unit": "s",
        "n_channels": "i", "dtype": "s",
    },
    "channels": {
        "recording_id": "s", "stream": "s", "index": "i", "name": "s", "canonical": "s", "kind": "s", "unit": "s",
        "x": "f", "y": "f", "z": "f", "frame": "s", "region": "s", "reference": "s", "scale": "f", "offset": "f",
        "bad": "b", "reason": "s", "depth_um": "f", "quality": "s",
    },
    "events": {
        "recording_id": "s", "onset_s": "f", "duration_s": "f", "kind": "s", "label": "s", "value": "f",
        "stimulus_id": "s", "trial": "i", "block": "i",
    },
    # stimuli/stimuli.parquet: what was shown or heard; file is relative to stimuli/, or to the folder given to `embed`
    "stimuli": {
        "stimulus_id": "s", "concept": "s", "kind": "s", "part": "s", "file": "s", "sha256": "s", "start_s": "f",
        "stop_s": "f", "caption": "s",
    },
    "rejected": {
        "recording_id": "s", "subject": "s", "session": "s", "source_file": "s", "start_s": "f", "reason": "s",
    },
    # row i says which window vector i of `neurofm embed` is of
    "windows": {
        "recording_id": "s", "subject": "s", "start_s": "f", "duration_s": "f", "trial": "i", "label": "s",
    },
    # every score and every look at a test part (neurofm.benchmarks.results); run_id is one evaluate run
    "results": {
        "run_id": "s", "date": "s", "benchmark": "s", "dataset": "s", "subject": "s", "task": "s", "part": "s",
        "model": "s", "strategy": "s", "budget": "f", "budget_unit": "s", "seed": "i", "metric": "s", "value": "f",
        "low": "f", "high": "f", "n": "i", "baseline": "b", "transductive": "b", "normalised_by": "s", "looks": "i",
        "test_hash": "s", "protocol_hash": "s", "checkpoint_hash": "s", "split_hash": "s", "leak_reason": "s",
        "versions": "s", "machine": "s", "seconds": "f", "note": "s", "control": "s", "fold": "s", "unit": "s", "p": "f",
        "ceiling": "f",
    },
    # what a report's figures show, one row per plotted point (neurofm.report)
    "report_figures": {
        "figure": "s", "panel": "s", "series": "s", "x": "f", "x_label": "s", "y": "f", "y_label": "s", "low": "f",
        "high": "f", "label": "s",
    },
}  # fmt: skip
COLUMNS["report_scores"] = COLUMNS["results"]
# columns that older files lack, and what stands for them
ADDED: dict[str, dict[str, Any]] = {
    "recordings": {"content": ""},
    "channels": {"depth_um": float("nan"), "quality": ""},
    "results": {"control": "", "fold": "", "unit": "", "p": float("nan"), "ceiling": float("nan")},
}


def _schema(table: str) -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "s": pa.string(), "f": pa.float64(), "i": pa.int64(), "b": pa.bool_(),
        "F": pa.list_(pa.list_(pa.float64())), "S": pa.list_(pa.string()),
    }  # fmt: skip
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS[table].items()])


def write_table(folder: str | Path, table: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write ``folder/<table>.parquet`` from rows, atomically; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / f"{table}.parquet"
    added = ADDED.get(table, {})
    data = pa.Table.from_pylist([{**added, **r} for r in rows], schema=_schema(table))
    with atomic_write(path) as f:
        pq.write_table(data, f, compression="zstd")
    return path


def read_table(folder: str | Path, table: str) -> list[dict[str, Any]]:
    """Read ``folder/<table>.parquet`` as a list of rows.

    Raises
    ------
    DataError
        When the file is missing, damaged or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder) / f"{table}.parquet"
    if not path.exists():
        raise DataError(f"{path}: no such table; prepare the dataset again with `neurofm prep`")
    try:
        # one file, not a dataset: ParquetFile never looks at neighbouring folders for partitions
        with pq.ParquetFile(path) as f:
            data = f.read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: is not a readable parquet table ({error})") from error
    added = ADDED.get(table, {})
    missing = [c for c in COLUMNS[table] if c not in data.column_names and c not in added]
    if missing:
        raise DataError(f"{path}: column '{missing[0]}' is missing; expected {', '.join(COLUMNS[table])}")
    rows = data.to_pylist()
    absent = {c: v for c, v in added.items() if c not in data.column_names}
    return [{**r, **absent} for r in rows] if absent else rows


def parquet_groups(path: str | Path, columns: list[str]) -> list[dict[str, list[Any]]]:
    """Read some columns of a parquet file of other people, one dict per row group; for short columns.

    Raises
    ------
    DataError
        When it is not readable or lacks a column.
    """
    import pyarrow.parquet as pq

    return _foreign(path, columns, lambda f: [f.read_row_group(i, columns=columns).to_pydict() for i in _groups(f)], pq)


def parquet_group(path: str | Path, group: int, columns: list[str]) -> dict[str, list[Any]]:
    """Read some columns of one row group; a cell that is a list of numbers comes as an array.

    Raises
    ------
    DataError
        When it is not readable or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(f: Any) -> dict[str, list[Any]]:
        data = f.read_row_group(group, columns=columns)
        found: dict[str, list[Any]] = {}
        for name in columns:
            column = data.column(name).combine_chunks()
            is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
            found[name] = [c.values.to_numpy(zero_copy_only=False) for c in column] if is_list else column.to_pylist()
        return found

    return _foreign(path, columns, read, pq)


def _groups(f: Any) -> range:
    return range(f.metadata.num_row_groups)


def _foreign(path: str | Path, columns: list[str], read: Any, pq: Any) -> Any:
    import pyarrow as pa

    try:
        with pq.ParquetFile(path) as f:
            names = f.schema_arrow.names
            for c in columns:
                if c not in names:
                    raise DataError(f"{Path(path).name}: column '{c}' is missing; found {', '.join(names)}")
            return read(f)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{Path(path).name}: is not a readable parquet table ({error})") from error
