"""BCI IV 2a: runs with and without trials, gaps of a GDF file, labels from their own file."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.sources.bci_iv_2a import EEG, BciIv2a, gaps, named, recording_of
from neurofm.schema.errors import DataError

CLASSES = np.array(["left hand", "right hand", "feet", "tongue"], dtype=object)


def run(seed: int, trials: list[int], classes: list[int], artifacts: list[int], n: int = 1500) -> dict:
    x = np.random.default_rng(seed).standard_normal((n, 25)) * 10
    column = {k: np.array(v, dtype=float).reshape(-1, 1) for k, v in (("trial", trials), ("y", classes))}
    return {"X": x, **column, "fs": 250, "classes": CLASSES, "artifacts": np.array(artifacts).reshape(-1, 1)}


def save(path, runs):
    data = np.empty((1, len(runs)), dtype=object)
    for i, r in enumerate(runs):
        data[0, i] = r
    savemat(path, {"data": data})


def test_runs_without_trials_are_found_not_counted(tmp_path):
    runs = [run(0, [], [], []), run(1, [1, 751], [4, 1], [0, 1]), run(2, [251], [2], [0], n=1600)]
    save(tmp_path / "A04T.mat", runs)
    (item,) = BciIv2a(root=tmp_path).list()
    r = item.load()
    assert (r.subject, r.session, r.part) == ("A04", "T", "train")
    assert r.signal.n_samples == (1500, 1600)
    assert r.interval_start_s == (0.0, 7.0)
    found = [(e.onset_s, e.kind, e.label, e.trial, e.block) for e in r.events]
    assert found == [
        (2.0, "cue", "tongue", 0, 0), (5.0, "rejected cue", "left hand", 1, 0), (10.0, "cue", "right hand", 2, 1)
    ]  # fmt: skip
    assert [c.name for c in r.signal.channels] == list(EEG)
    np.testing.assert_array_equal(r.signal.read(1, 5, 9), runs[2]["X"][5:9, :22])
    np.testing.assert_array_equal(r.streams[1].read(1, 5, 9), runs[2]["X"][5:9, 22:])


def test_contradictions_are_told(tmp_path):
    save(tmp_path / "A01T.mat", [run(1, [1], [1, 2], [0])])
    savemat(tmp_path / "A02E.mat", {"classlabel": np.ones((288, 1))})
    save(tmp_path / "A03T.mat", [run(1, [1], [5], [0])])
    save(tmp_path / "A04T.mat", [run(0, [], [], [])])
    (tmp_path / "A05T.mat").write_bytes((tmp_path / "A03T.mat").read_bytes()[:700])
    messages = ["1 trials, 2 classes", "labels alone", "class 5", "no run has a trial", "not a whole MATLAB file"]
    for item, message in zip(BciIv2a(root=tmp_path).list(), messages, strict=True):
        with pytest.raises(DataError, match=message):
            item.load()


def gdf(codes: list[tuple[float, str]]) -> mne.io.RawArray:
    """What mne makes of a GDF file: two runs, 100 samples between them at the smallest value."""
    x = np.random.default_rng(0).standard_normal((25, 7000)) * 1e-5
    x[:, 3000:3100] = -1e-4
    x[:, 500] = -1e-4  # a single sample at the limit everywhere is no gap
    x[3, 600:700] = -1e-4  # nor is one channel
    info = mne.create_info([f"EEG-{i}" for i in range(25)], 250.0, "eeg")
    raw = mne.io.RawArray(x, info, verbose="error")
    raw.set_annotations(mne.Annotations([t for t, _ in codes], [0] * len(codes), [c for _, c in codes]))
    return named(raw, "x")


CODES = [(0.0, "276"), (1.0, "768"), (3.0, "769"), (6.0, "768"), (6.0, "1023"), (8.0, "772"), (12.4, "32766"),
         (14.0, "768"), (16.0, "770")]  # fmt: skip


def test_gdf_gaps_cues_and_rejected_trials():
    raw = gdf(CODES)
    assert gaps(raw) == [(12.0, 12.4)]
    r = recording_of(raw, ("A01", "T"), None, "x")
    assert r.valid == ((0.0, 12.0), (12.4, 28.0))
    assert [(e.onset_s, e.kind, e.label) for e in r.events] == [
        (0.0, "block", "eyes open"), (3.0, "cue", "left hand"), (8.0, "rejected cue", "tongue"),
        (16.0, "cue", "right hand"),
    ]  # fmt: skip
    assert [len(s.channels) for s in r.streams] == [22, 3]


def test_gdf_labels_of_the_test_session():
    codes = [(t, "783" if c in ("769", "770", "772") else c) for t, c in CODES]
    assert {e.label for e in recording_of(gdf(codes), ("A01", "E"), None, "x").events if e.kind == "cue"} == {"unknown"}
    r = recording_of(gdf(codes), ("A01", "E"), [3, 1, 2], "x")
    assert [e.label for e in r.events if "cue" in e.kind] == ["feet", "left hand", "right hand"]
    assert r.part == "test"
    with pytest.raises(DataError, match="3 trials, its label file 2"):
        recording_of(gdf(codes), ("A01", "E"), [3, 1], "x")


def test_gdf_files_take_mat_files_as_their_labels(tmp_path):
    (tmp_path / "A01T.gdf").write_bytes(b"GDF 1.99")
    (tmp_path / "true_labels").mkdir()
    for name in ("A01T", "A01E"):
        savemat(tmp_path / "true_labels" / f"{name}.mat", {"classlabel": np.ones((2, 1))})
    items = BciIv2a(root=tmp_path).list()
    assert [i.source_file for i in items] == ["A01T.gdf", "true_labels/A01E.mat"]
    with pytest.raises(DataError, match=r"A01T\.gdf: mne cannot open it"):
        items[0].load()
