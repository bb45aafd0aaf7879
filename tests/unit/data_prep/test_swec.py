"""SWEC: a signal over several files is read as if it were one, and what is missing is noticed."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.readers.mat import mat_shape, read_mat
from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError

PARTS = (700, 300, 450)


def write_parts(root, *, gone: int | None = None, seizures=((100.0, 130.5),)) -> np.ndarray:
    """A patient in three parts of different length; the second lies in its file after 11 other samples."""
    folder = root / "ID04"
    folder.mkdir()
    x = np.random.default_rng(0).integers(-999, 999, (3, sum(PARTS))).astype("i2")
    layout = h5py.VirtualLayout(x.shape, "i2")
    at = 0
    for i, n in enumerate(PARTS):
        own = x[:, at : at + n]
        if i == 1:
            own = np.concatenate([np.full((3, 11), 7, "i2"), own], axis=1)
        with h5py.File(folder / f"ID04_part_{i + 1}.h5", "w") as f:
            f.create_dataset("data/ieeg", data=own, chunks=(3, 64), compression="gzip")
        source = h5py.VirtualSource(f"/elsewhere/ID04_part_{i + 1}.h5", "data/ieeg", own.shape)
        layout[:, at : at + n] = source[:, own.shape[1] - n :]
        at += n
    with h5py.File(folder / "ID04_total.h5", "w") as f:
        f.create_virtual_dataset("data/ieeg", layout, fillvalue=0)
        f["data/seizures"] = np.array(list(seizures), dtype=[("onsets", "f8"), ("offsets", "f8")])
        f.attrs["sampling_rate"] = np.array([10])
    if gone:
        (folder / f"ID04_part_{gone}.h5").unlink()
    return x.T


def test_parts_are_one_recording(tmp_path):
    x = write_parts(tmp_path)
    (item,) = pickle.loads(pickle.dumps(SOURCES.build("swec", root=tmp_path).list()))
    rec = item.load()
    assert (rec.subject, rec.signal.rate_hz, rec.signal.n_samples) == ("ID04", 10.0, (1450,))
    assert np.array_equal(rec.signal.read(0, 0, 1450), x)
    for a, b in ((690, 1010), (699, 701), (1000, 1001), (0, 1), (5, 5 + 1)):
        assert np.array_equal(rec.signal.read(0, a, b), x[a:b])
    assert [(e.kind, e.label, e.onset_s, e.duration_s) for e in rec.events] == [("seizure", "seizure", 100.0, 30.5)]


def test_missing_part_is_noticed_or_left_out(tmp_path):
    x = write_parts(tmp_path, gone=2)
    with pytest.raises(DataError, match=r"ID04_part_2\.h5"):
        SOURCES.build("swec", root=tmp_path).list()[0].load()
    rec = SOURCES.build("swec", root=tmp_path, missing="leave_out").list()[0].load()
    assert rec.interval_start_s == (0.0, 100.0)
    assert rec.signal.n_samples == (700, 450)
    assert np.array_equal(rec.signal.read(1, 3, 9), x[1003:1009])


def test_seizure_that_does_not_fit_is_refused(tmp_path):
    write_parts(tmp_path, seizures=((150.0, 160.0),))
    with pytest.raises(DataError, match="145"):
        SOURCES.build("swec", root=tmp_path).list()[0].load()


def test_hours_are_channel_first_and_seizures_are_channel_last(tmp_path):
    """Fewer samples than channels in the last hour: the shape says nothing of the orientation."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "ID01"
    folder.mkdir()
    hours = [rng.integers(-99, 99, (4, n)).astype("i2") for n in (7200, 7200, 3)]
    for i, x in enumerate(hours):
        savemat(folder / f"ID01_{i + 1}h.mat", {"EEG": x}, do_compression=bool(i))
    info = {"fs": np.array([[2]], "u2"), "seizure_begin": np.array([[3590.0], [10.0]]), "seizure_end": [[3620.0], [20]]}
    savemat(folder / "ID01_info.mat", info)
    rec = SOURCES.build("swec", root=tmp_path).list()[0].load()
    assert rec.signal.n_samples == (14403,)
    assert np.array_equal(rec.signal.read(0, 7000, 14403), np.concatenate(hours, axis=1).T[7000:])
    assert [(e.onset_s, e.duration_s) for e in rec.events] == [(10.0, 10.0), (3590.0, 30.0)]
    (folder / "ID01_2h.mat").unlink()
    with pytest.raises(DataError, match="hour 2 is missing"):
        SOURCES.build("swec", root=tmp_path).list()[0].load()

    short = tmp_path / "ID4a"
    short.mkdir()
    x = rng.standard_normal((2 * 92160 + 1024, 2)).astype("f4")
    savemat(short / "Sz12.mat", {"EEG": x})
    savemat(short / "Sz2.mat", {"EEG": x[:1000]})
    first, second = SOURCES.build("swec", root=tmp_path, variant="short").list()
    rec = first.load()
    assert (rec.subject, rec.run, rec.signal.rate_hz, rec.signal.n_samples) == ("ID4a", "12", 512.0, (len(x),))
    assert np.array_equal(rec.signal.read(0, 5, 9), x[5:9])
    assert [(e.onset_s, e.duration_s) for e in rec.events] == [(180.0, 2.0)]
    with pytest.raises(DataError, match="three minutes"):
        second.load()


@pytest.mark.parametrize("turned", [False, True])
def test_time_is_the_longer_side_in_hours_and_seizures(tmp_path, turned):
    """Both ways round; the last hour has fewer samples than channels, and goes with the others."""
    rng = np.random.default_rng(2)
    (tmp_path / "ID01").mkdir()
    hours = [rng.integers(-99, 99, (n, 4)).astype("i2") for n in (7200, 3)]
    for i, x in enumerate(hours):
        savemat(tmp_path / "ID01" / f"ID01_{i + 1}h.mat", {"EEG": x if turned else x.T})
    savemat(tmp_path / "ID01" / "ID01_info.mat", {"fs": 2.0, "seizure_begin": [[10.0]], "seizure_end": [[20.0]]})
    rec = SOURCES.build("swec", root=tmp_path).list()[0].load()
    assert (rec.signal.n_samples, len(rec.signal.channels)) == ((7203,), 4)
    np.testing.assert_array_equal(rec.signal.read(0, 7100, 7203), np.concatenate(hours)[7100:])
    (tmp_path / "ID1").mkdir()
    x = rng.standard_normal((2 * 92160 + 512, 2)).astype("f4")
    savemat(tmp_path / "ID1" / "Sz1.mat", {"EEG": x.T if turned else x})
    rec = SOURCES.build("swec", root=tmp_path, variant="short").list()[0].load()
    np.testing.assert_array_equal(rec.signal.read(0, 5, 9), x[5:9])
    assert rec.events[0].duration_s == 1.0


def test_mat_of_version_73_has_its_axes_turned_back(tmp_path):
    x = np.arange(12.0).reshape(3, 4)
    with h5py.File(tmp_path / "x.mat", "w", userblock_size=512) as f:
        f["EEG"] = x.T
        f.create_dataset("cells", (1, 2), h5py.ref_dtype)
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    with open(tmp_path / "x.mat", "r+b") as f:
        f.write(head)
    assert mat_shape(tmp_path / "x.mat", "EEG") == (3, 4)
    assert np.array_equal(read_mat(tmp_path / "x.mat", "EEG"), x)
    with pytest.raises(DataError, match="not an array of real numbers"):
        read_mat(tmp_path / "x.mat", "cells")


def test_objects_in_a_mat_file_are_refused(tmp_path):
    folder = tmp_path / "ID1"
    folder.mkdir()
    savemat(folder / "Sz1.mat", {"EEG": np.array([{"a": 1}, "text"], dtype=object)})
    savemat(folder / "Sz2.mat", {"eeg": np.zeros(3)})
    (folder / "Sz3.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 400)
    for item, words in zip(
        SOURCES.build("swec", root=tmp_path, variant="short").list(),
        ("not an array of real numbers", "has no variable 'EEG'", "whole MATLAB file"),
        strict=True,
    ):
        with pytest.raises(DataError, match=words):
            item.load()
