"""TUH corpora: what a path says, what a channel is called, what a marked span becomes."""

from __future__ import annotations

import edfio
import numpy as np
import pytest

from data_prep.privacy import starred
from data_prep.sources.tuh import Place, Tuh, electrode, marked, place
from neurofm.schema.errors import DataError


@pytest.mark.parametrize(
    ("corpus", "name", "expected"),
    [
        (
            "tuab",
            "edf/eval/abnormal/01_tcp_ar/aaaaaaav_s004_t000.edf",
            Place(subject="aaaaaaav", session="s004", run="t000", part="test", label="abnormal"),
        ),
        (
            "tuab",
            "edf/train/normal/01_tcp_ar/000/00002729/s001_2011_02_15/00002729_s001.edf",
            Place(subject="00002729", session="s001", part="train", label="normal"),
        ),
        (
            "tuev",
            "edf/train/aaaaaaar/aaaaaaar_00000001.edf",
            Place(subject="aaaaaaar", run="00000001", part="train"),
        ),
        ("tuev", "edf/eval/000/bckg_000_a_.edf", Place(subject="000", run="bckg_a", part="test")),
        ("tuev", "edf/eval/049/gped_049_a_6.edf", Place(subject="049", run="gped_a_6", part="test")),
        (
            "tueg",
            "edf/000/aaaaaaaa/s001_2015_12_30/01_tcp_ar/aaaaaaaa_s001_t000.edf",
            Place(subject="aaaaaaaa", session="s001", run="t000"),
        ),
    ],
)
def test_place(corpus, name, expected):
    assert place(name, corpus) == expected


def test_a_root_below_the_parts_still_says_them():
    assert place("01_tcp_ar/aaaaaaav_s004_t000.edf", "tuab", ("normal", "train")).part == "train"
    assert place("01_tcp_ar/aaaaaaav_s004_t000.edf", "tuab", ("normal", "train")).label == "normal"


def test_days_leave_no_trace():
    assert starred("edf/000/a/s001_2015_12_30/x.edf") == "edf/000/a/s001_*/x.edf"
    assert starred("10_20131130.mat") == "10_*.mat"
    assert starred("a/00002729_s001.edf") == "a/00002729_s001.edf"
    assert starred("x_19991301.mat") == "x_19991301.mat"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EEG FP1-REF", "FP1"), ("EEG T3-LE", "T3"), ("EEG Cz-REF", "CZ"), ("EEG EKG1-REF", None), ("PHOTIC-REF", None),
        ("EEG 20-REF", None), ("IBI", None), ("EMG-REF", None),
    ],
)  # fmt: skip
def test_electrodes(name, expected):
    assert electrode(name) == (None if expected is None else (expected, "eeg"))


def test_marked_spans(tmp_path):
    path = tmp_path / "x.edf"
    (tmp_path / "x.rec").write_text("13,90.4,91.4,6\n0,1,2,1\n3,1.0,2.0,1\n4,99.5,100.5,4\n4,100,101,4\n\n")
    events = marked(path, 100.0)
    assert [(e.onset_s, e.duration_s, e.label) for e in events] == [
        (1.0, 1.0, "spsw"), (90.4, pytest.approx(1.0), "bckg"), (99.5, 0.5, "eyem")
    ]  # fmt: skip
    (tmp_path / "x.rec").unlink()
    (tmp_path / "x.csv").write_text(
        "# version = csv_v1.0.0\n# duration = 5.0 secs\n\nchannel,start_time,stop_time,label,confidence\n"
        "FP1-F7,1.5,2.5,SPSW,1.0\n"
    )
    assert [(e.onset_s, e.label) for e in marked(path, 100.0)] == [(1.5, "spsw")]
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="start_time"):
        marked(path, 100.0)
    (tmp_path / "x.csv").unlink()
    with pytest.raises(DataError, match=r"no x\.rec"):
        marked(path, 100.0)


def test_a_recording_with_its_folder_s_label(tmp_path):
    path = tmp_path / "edf/train/abnormal/01_tcp_ar/aaaaaaav_s004_t000.edf"
    path.parent.mkdir(parents=True)
    x = np.random.default_rng(0).standard_normal((2, 2500)) * 20
    signals = [edfio.EdfSignal(x[0], 250, label="EEG FP1-REF", physical_dimension="uV")]
    # what is left out is sampled faster and slower than the electrodes
    signals += [
        edfio.EdfSignal(np.arange(5000.0), 500, label="PHOTIC-REF"),
        edfio.EdfSignal(np.ones(10), 1, label="IBI"),
    ]
    signals += [edfio.EdfSignal(x[1], 250, label="EEG T3-REF", physical_dimension="uV")]
    edfio.Edf(signals).write(path)
    (item,) = Tuh(root=tmp_path, corpus="tuab").list()
    r = item.load()
    assert (r.recording_id, r.part) == ("tuab_sub-aaaaaaav_ses-s004_run-t000", "train")
    assert [(c.name, c.canonical, c.reference) for c in r.signal.channels] == [
        ("FP1", "fp1", "REF"),
        ("T3", "t3", "REF"),
    ]
    assert (r.signal.rate_hz, r.signal.n_samples) == (250.0, (2500,))
    np.testing.assert_allclose(r.signal.read(0, 100, 200), x[:, 100:200].T, atol=0.01)
    assert [(e.onset_s, e.duration_s, e.label) for e in r.events] == [(0.0, 10.0, "abnormal")]


@pytest.mark.parametrize("line", ["1,2,3,7", "1,2,3", "a,b,c,d", "1,2,3,4,5"])
def test_a_bad_line_is_named(tmp_path, line):
    (tmp_path / "x.rec").write_text(f"0,1,2,1\n{line}\n")
    with pytest.raises(DataError, match="line 2"):
        marked(tmp_path / "x.edf", 100.0)
