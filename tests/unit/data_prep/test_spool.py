"""Blocks come back as they went in, from memory or a file; without room nothing fails and nothing changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import data_prep.writer.spool
from data_prep.pipeline import prepare
from data_prep.writer.spool import Spool


@pytest.mark.parametrize("memory", [0, 1000, 1 << 20])
def test_blocks_come_back_to_the_bit(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(data_prep.writer.spool, "MEMORY_BYTES", memory)
    rng = np.random.default_rng(0)
    given = [[rng.standard_normal((n, 3)) for n in (5, 1, 70)], [], [np.asfortranarray(rng.standard_normal((9, 3)))]]
    given[0].append(np.arange(6, dtype=np.float32).reshape(2, 3))
    spool = Spool(tmp_path)
    for blocks in given:
        spool.begin_interval()
        for block in blocks:
            spool.add(block)
    assert spool.kept
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):
        for i in (2, 0, 1):
            back = list(spool.blocks(i))
            assert len(back) == len(given[i])
            assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(back, given[i], strict=True))


def test_without_room_it_gives_up(tmp_path, monkeypatch):
    monkeypatch.setattr(data_prep.writer.spool, "MEMORY_BYTES", 0)
    for folder, room in ((None, 1 << 30), (tmp_path, 10), (tmp_path / "absent", 1 << 30)):
        monkeypatch.setattr(data_prep.writer.spool, "FILE_BYTES", room)
        spool = Spool(folder)
        spool.begin_interval()
        for _ in range(3):
            spool.add(np.zeros((10, 3)))
        assert not spool.kept
    monkeypatch.setattr(data_prep.writer.spool, "FILE_BYTES", 10_000)
    spool = Spool(tmp_path, expected_bytes=10_001)
    spool.begin_interval()
    spool.add(np.zeros((1, 3)))
    assert not spool.kept


def test_the_dataset_is_the_same_either_way(tmp_path, monkeypatch):
    def digest(name: str) -> str:
        out = tmp_path / name
        stages = [{"name": "resample", "rate_hz": 33}]
        prepare(source={"name": "simulated", "n_subjects": 1}, out=out, stages=stages, dask="none", progress=False)
        h = hashlib.sha256()
        for p in sorted((out / "shards").iterdir()):
            h.update(p.read_bytes())
        return h.hexdigest()

    kept = digest("memory")
    monkeypatch.setattr(data_prep.writer.spool, "MEMORY_BYTES", 0)
    assert digest("file") == kept
    monkeypatch.setattr(data_prep.writer.spool, "FILE_BYTES", 0)
    assert digest("again") == kept
