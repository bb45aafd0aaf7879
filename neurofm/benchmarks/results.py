"""`results.parquet`: every score ever made and every look at a test split, appended under a lock."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of
from neurofm.schema.tables import COLUMNS, read_table, write_table

TABLE = "results"
LOOK = "look"
_EMPTY: dict[str, Any] = {"s": "", "f": float("nan"), "i": -1, "b": False}


def row(**values: Any) -> dict[str, Any]:
    """One row of the results table; what is not given is "", NaN, −1 or False.

    Raises
    ------
    ConfigError
        When a column does not exist.
    """
    columns = COLUMNS[TABLE]
    for name in values:
        if name not in columns:
            raise ConfigError(f"results has no column '{name}': {nearest(name, columns)}")
    return {name: values.get(name, _EMPTY[kind]) for name, kind in columns.items()}


def span_hash(spans: Iterable[Mapping[str, Any]]) -> str:
    """Identity of a test part: the hash of its spans, whatever their order."""
    keys = ("recording_id", "start_s", "stop_s")
    return hash_of(sorted([str(s[keys[0]]), round(float(s[keys[1]]), 6), round(float(s[keys[2]]), 6)] for s in spans))


def machine() -> str:
    """Kind of machine, without its name: processor, number of cores, accelerator."""
    import torch

    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no accelerator"
    return f"{platform.machine()}, {os.cpu_count()} cores, {accelerator}"


@contextmanager
def _locked(folder: Path, *, wait_s: float = 60.0) -> Iterator[None]:
    """Hold the folder's lock; the operating system drops it when the process dies, so no lock is ever stale."""
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        f = open(folder / f".{TABLE}.lock", "a")  # noqa: SIM115 (closed by the `with` below)
    except OSError as error:
        raise DataError(f"{folder}: results cannot be written ({error.strerror}); choose another folder") from error
    with f:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise DataError(
                        f"{folder}/{TABLE}.parquet: another run has held it for {wait_s:g} s; try again"
                    ) from error
                time.sleep(0.02)
        yield


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """All rows, oldest first; none when nothing was scored yet."""
    return read_table(folder, TABLE) if (Path(folder) / f"{TABLE}.parquet").exists() else []


def count_looks(rows: Iterable[Mapping[str, Any]], test: str) -> int:
    """How many runs have scored on the test part with this hash."""
    return len({r["run_id"] for r in rows if r["test_hash"] == test})


def append_results(folder: str | Path, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Append rows, atomically; `date`, `looks` and `machine` are filled in here.

    `looks` is the number of runs, this one included, that had scored on the row's test part when it was written.

    Returns
    -------
    list of dict
        The rows as written.

    Raises
    ------
    ConfigError
        When a column does not exist, or a row lacks its run_id or test_hash.
    DataError
        When the table is damaged (it is left as it is) or the folder cannot be written.
    """
    folder = Path(folder)
    new = [row(**r) for r in rows]
    for r in new:
        if not r["run_id"] or not r["test_hash"]:
            raise ConfigError("results: every row needs run_id and test_hash, else looks at the test cannot be counted")
        if r["metric"] != LOOK and not r["protocol_hash"]:
            raise ConfigError("results: every row needs protocol_hash; without the protocol a figure means nothing")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with _locked(folder):
        old = read_results(folder)
        looks = {h: count_looks([*old, *new], h) for h in {r["test_hash"] for r in new}}
        for r in new:
            r["date"] = r["date"] or now
            r["looks"] = looks[r["test_hash"]]
            r["machine"] = r["machine"] or machine()
        write_table(folder, TABLE, [*old, *new])
    return new


def record_look(folder: str | Path, **values: Any) -> int:
    """Record that a run is about to look at a test part, and return how many have, this one included.

    Called before scoring, so that a run which fails or is not liked counts as well.

    Parameters
    ----------
    folder : path
        Where results.parquet lies.
    **values
        Columns of the row; run_id, benchmark and test_hash at least.
    """
    return append_results(folder, [{**values, "metric": LOOK}])[0]["looks"]


def record_script(folder: str | Path, *, script: str, dataset: str, spans: Iterable[Any]) -> int:
    """Record that a script is about to look at a test part (`spans` of a split); each call is a run of its own."""
    test = span_hash([s._asdict() for s in spans])
    return record_look(
        folder,
        run_id=uuid.uuid4().hex[:12],
        benchmark=f"scripts/{script}",
        dataset=dataset,
        part="test",
        test_hash=test,
    )


def scores_only(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows that carry a score, without those that only record a look."""
    return [dict(r) for r in rows if r["metric"] != LOOK]
