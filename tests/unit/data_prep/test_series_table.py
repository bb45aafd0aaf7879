"""Text tables of time series: what numpy or pandas wrote is read back, and what is wrong is told."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.readers.series_table import read_series
from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError

X = np.random.default_rng(0).standard_normal((20, 3))


def test_with_and_without_header(tmp_path):
    np.savetxt(tmp_path / "a.csv", X, delimiter=",")
    s = read_series(tmp_path / "a.csv")
    assert s.names is None
    np.testing.assert_array_equal(s.values, X)
    np.savetxt(tmp_path / "b.tsv", X, delimiter="\t", header="V1\tV2\tA 1", comments="")
    s = read_series(tmp_path / "b.tsv")
    assert s.names == ["V1", "V2", "A 1"]
    np.testing.assert_array_equal(s.values, X)


def test_index_and_times_are_no_channels(tmp_path):
    lines = [",time,V1,V2,V3", *(f"{i},{0.72 * i:.2f},{','.join(map(repr, r))}" for i, r in enumerate(X.tolist()))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    s = read_series(tmp_path / "a.csv")
    assert s.names == ["V1", "V2", "V3"]
    assert s.rate_hz == pytest.approx(1 / 0.72, rel=1e-8)
    np.testing.assert_array_equal(s.values, X)


def test_semicolons_and_decimal_commas_as_spreadsheets_write_them(tmp_path):
    (tmp_path / "a.csv").write_text("time;C3;C4\n0,0;1,5;-2\n0,01;2,5e-1;3,25\n")
    s = read_series(tmp_path / "a.csv")
    assert (s.names, s.rate_hz) == (["C3", "C4"], 100.0)
    np.testing.assert_array_equal(s.values, [[1.5, -2], [0.25, 3.25]])


def test_gaps_are_nan(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,n/a\n,2\n")
    np.testing.assert_array_equal(read_series(tmp_path / "a.csv").values, [[1, np.nan], [np.nan, 2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3", "row 2 has 1 cells, the first 2; is it cut short"),
        ("a,b\n1,2\n3,x\n", "row 2 holds no number in column 2; expected numbers in all$"),
        ("time,b\n0,2\n1,2\n5,2\n", "not evenly spaced"),
        ("\n", "is empty"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_series(tmp_path / "a.csv")


def test_arrays_reads_tables(tmp_path):
    np.savetxt(tmp_path / "P1.csv", X, delimiter=",", header="V1,V2,V3", comments="")
    (item,) = SOURCES.build("arrays", root=tmp_path, glob="*.csv", rate_hz=0.5, modality="fmri").list()
    r = item.load()
    assert ([c.name for c in r.signal.channels], r.signal.rate_hz, r.subject) == (["V1", "V2", "V3"], 0.5, "P1")
    np.testing.assert_array_equal(r.signal.read(0, 0, 20), X)
