"""Du-IN: trials out of pickles of the authors' own dictionary class, and nothing else out of them."""

from __future__ import annotations

import os
import pickle
import sys
import types

import numpy as np
import pytest

from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError

PLACE = "data/seeg.he2023xuanwu/{}/word-recitation/{}/dataset.bipolar.default.{}"


@pytest.fixture(params=["plain", "attributes", "own_state"])
def dot_dict(request, monkeypatch):
    """The class the authors pickle, as it may have been written; it is gone when the file is read."""
    if request.param == "plain":
        yield dict
        return

    class DotDict(dict):
        def __init__(self, items):
            super().__init__(items)
            if request.param == "own_state":
                self.__dict__ = self

    DotDict.__module__, DotDict.__qualname__ = "utils.DotDict", "DotDict"
    module = types.ModuleType("utils.DotDict")
    module.DotDict = DotDict
    with monkeypatch.context() as m:
        m.setitem(sys.modules, "utils", types.ModuleType("utils"))
        m.setitem(sys.modules, "utils.DotDict", module)
        yield DotDict


def write(root, subject, run, alignment, trials, names, make) -> None:
    folder = root / PLACE.format(subject, run, alignment)
    folder.mkdir(parents=True)
    data = [make({"name": w, "data_s": x}) for w, x in trials]
    (folder / "data").write_bytes(pickle.dumps(data))
    (folder / "info").write_bytes(pickle.dumps(make({"ch_names": names})))


def test_runs(tmp_path, dot_dict):
    rng = np.random.default_rng(0)
    trials = [("嘴巴", rng.standard_normal((3, 3000)) * 2e-5), ("菠萝", rng.standard_normal((3, 60000)) * 2e-5)]
    for run in ("run1", "run10"):
        write(tmp_path, "001", run, "unaligned", trials, ["A1", "A2", "B'1"], dot_dict)
    sys.modules.pop("utils.DotDict", None)
    first, _ = SOURCES.build("du_in", root=tmp_path).list()
    rec = first.load()
    assert (rec.subject, rec.run, rec.signal.rate_hz, rec.signal.n_samples) == ("001", "1", 1000.0, (3000, 60000))
    assert [c.name for c in rec.signal.channels] == ["A1", "A2", "B'1"]
    for i, (word, x) in enumerate(trials):
        assert np.array_equal(rec.signal.read(i, 5, 50), x.T[5:50])
        assert (rec.events[i].label, rec.events[i].trial) == (word, i)
    assert rec.interval_start_s[1] > 3
    write(tmp_path, "001", "run2", "aligned", trials[:1], ["A1", "A2", "B'1"], dict)
    assert [i.key for i in SOURCES.build("du_in", root=tmp_path).list()] == ["001_run2"]


class Evil:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_is_run(tmp_path):
    folder = tmp_path / PLACE.format("001", "run1", "aligned")
    folder.mkdir(parents=True)
    evil = Evil()
    evil.path = str(tmp_path / "made")
    (folder / "data").write_bytes(pickle.dumps([{"name": evil}]))
    (folder / "info").write_bytes(pickle.dumps({"ch_names": ["A1"]}))
    (item,) = SOURCES.build("du_in", root=tmp_path).list()
    with pytest.raises(DataError, match="mkdir"):
        item.load()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("data", "info", "words"),
    [
        ([{"name": "x", "data_s": np.zeros((2, 9))}], {"ch_names": ["a"]}, "trial 0"),
        ([{"name": "x"}], {"ch_names": ["a"]}, "trial 0"),
        ([], {"ch_names": ["a"]}, "no trial"),
        ([], ["a"], "ch_names"),
    ],
)
def test_what_does_not_fit_is_told(tmp_path, data, info, words):
    folder = tmp_path / PLACE.format("001", "run1", "aligned")
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(pickle.dumps(data))
    (folder / "info").write_bytes(pickle.dumps(info))
    with pytest.raises(DataError, match=words):
        SOURCES.build("du_in", root=tmp_path).list()[0].load()
