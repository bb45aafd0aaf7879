from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from neurofm.benchmarks.results import (
    append_results,
    count_looks,
    read_results,
    record_look,
    row,
    scores_only,
    span_hash,
)
from neurofm.schema.errors import ConfigError, DataError


def _append(folder: str, run: int) -> None:
    append_results(
        folder, [{"run_id": f"run-{run}", "test_hash": "t", "protocol_hash": "p", "metric": "r2", "value": run / 10}]
    )


def test_rows_survive_and_missing_cells_are_neutral(tmp_path: Path) -> None:
    append_results(
        tmp_path, [{"run_id": "a", "test_hash": "t", "protocol_hash": "p", "metric": "r2", "value": 0.5, "budget": 50}]
    )
    (back,) = read_results(tmp_path)
    assert (back["value"], back["budget"], back["looks"], back["baseline"], back["seed"]) == (0.5, 50.0, 1, False, -1)
    assert math.isnan(back["low"])
    assert back["date"].endswith("+00:00")


def test_appends_of_many_processes_lose_nothing(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_append, [str(tmp_path)] * 12, range(12)))
    rows = read_results(tmp_path)
    assert sorted(r["run_id"] for r in rows) == sorted(f"run-{k}" for k in range(12))
    assert [r["looks"] for r in rows] == list(range(1, 13))


def test_a_look_counts_once_per_run_and_test_part(tmp_path: Path) -> None:
    assert record_look(tmp_path, run_id="a", test_hash="t", benchmark="b") == 1
    append_results(
        tmp_path,
        [{"run_id": "a", "test_hash": "t", "protocol_hash": "p", "metric": m, "value": 1.0} for m in ("r2", "r")],
    )
    assert record_look(tmp_path, run_id="b", test_hash="other") == 1
    assert record_look(tmp_path, run_id="b", test_hash="t") == 2
    rows = read_results(tmp_path)
    assert count_looks(rows, "t") == 2
    assert [r["metric"] for r in scores_only(rows)] == ["r2", "r"]


def test_wrong_rows_and_a_damaged_table_are_refused_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'metric'"):
        row(metrik="r2")
    with pytest.raises(ConfigError, match="run_id and test_hash"):
        append_results(tmp_path, [{"run_id": "a"}])
    assert not (tmp_path / "results.parquet").exists()
    (tmp_path / "results.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match="not a readable"):
        _append(str(tmp_path), 1)
    assert (tmp_path / "results.parquet").read_bytes() == b"PAR1 damaged"


def test_span_hash_ignores_order_and_sees_a_shift() -> None:
    a, b = {"recording_id": "x", "start_s": 0, "stop_s": 5}, {"recording_id": "y", "start_s": 1, "stop_s": 5}
    assert span_hash([a, b]) == span_hash([b, a])
    assert span_hash([a]) != span_hash([{**a, "stop_s": 5.1}])
