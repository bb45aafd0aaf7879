"""HDF5 and MAT files: what is read is what was written, part by part, and nothing is run."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.readers.array_files import open_arrays
from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError

X = np.random.default_rng(0).standard_normal((3, 500))  # channel × time
TRIALS = np.random.default_rng(1).standard_normal((3, 50, 7))  # channel × time × trial


def only(root, **choices):
    (item,) = pickle.loads(pickle.dumps(SOURCES.build("arrays", root=root, **choices).list()))
    return item.load()


def whole(rec, interval: int = 0) -> np.ndarray:
    return rec.signal.read(interval, 0, rec.signal.n_samples[interval])


def matlab73(path, fill) -> None:
    """An HDF5 file as MATLAB writes it: 512 bytes of its own in front, axes turned, classes in attributes."""
    with h5py.File(path, "w", userblock_size=512) as f:
        fill(f)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: then HDF5 schema 1.00 ."
    with open(path, "r+b") as f:
        f.write(header.ljust(116) + b"\0" * 8 + (0x0200).to_bytes(2, "little") + b"IM")


def of_class(node, name: str):
    node.attrs["MATLAB_class"] = np.bytes_(name)
    return node


def text(f, name: str, value: str):
    return of_class(f.create_dataset(name, data=np.array([[ord(c)] for c in value], "u2")), "char")


def cell_of_texts(f, name: str, values: list[str]) -> None:
    refs = [text(f, f"#refs#/{name}{i}", v).ref for i, v in enumerate(values)]
    of_class(f.create_dataset(name, data=np.array([refs]).T, dtype=h5py.ref_dtype), "cell")


def test_hdf5_is_read_part_by_part(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "s1.h5", "w") as f:
        f["eeg/signal"] = X
        f["eeg/fs"] = 250.0
        f["eeg/names"] = ["Fz", "Cz", "Pz"]
    keys = {"key": "eeg/signal", "rate_key": "eeg/fs", "channels_key": "eeg/names", "layout": "channel_time"}
    rec = only(tmp_path, **keys, modality="eeg", unit="V")
    assert rec.signal.rate_hz == 250
    assert [(c.name, c.canonical, c.unit) for c in rec.signal.channels] == [
        ("Fz", "fz", "uV"), ("Cz", "cz", "uV"), ("Pz", "pz", "uV"),
    ]  # fmt: skip
    asked = []
    original = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda d, i: (asked.append(i), original(d, i))[1])
    assert np.allclose(rec.signal.read(0, 100, 110), X[:, 100:110].T * 1e6, rtol=1e-15)
    assert asked == [(slice(None), slice(100, 110))]


def test_events_of_a_continuous_recording(tmp_path):
    with h5py.File(tmp_path / "s1.h5", "w") as f:
        f["data"] = X.T
        f["mrk/pos"] = np.array([301, 1, 101])
        f["mrk/y"] = np.array([2.0, 1.0, 1.5])
        f["mrk/image"] = ["b.png", "a.png", "c.png"]
    facts = "rate_hz: 100\nevents: {onset_samples: mrk/pos, first_sample: 1, label: mrk/y, stimulus_id: mrk/image}\n"
    (tmp_path / "arrays.yaml").write_text(facts)
    events = only(tmp_path).events
    assert [(e.onset_s, e.label, e.stimulus_id, e.trial) for e in events] == [
        (0.0, "1", "a.png", 0), (1.0, "1.5", "c.png", 1), (3.0, "2", "b.png", 2),
    ]  # fmt: skip


def test_mat_of_version_5_with_structs_cells_and_chars(tmp_path):
    names = np.array(["Fz", "Cz", "POz"], dtype=object)
    labels = np.array([["left ", "right", "left ", "right", "left ", "right", "left "]])
    savemat(
        tmp_path / "s1.mat",
        {"eeg": {"signal": TRIALS, "fs": 128, "names": names}, "y": labels[0], "note": "Mrs Miller"},
        do_compression=True,
    )
    rec = only(
        tmp_path, key="eeg/signal", rate_key="eeg/fs", channels_key="eeg/names", labels_key="y",
        layout="channel_time_trial",
    )  # fmt: skip
    assert rec.signal.rate_hz == 128
    assert [c.name for c in rec.signal.channels] == ["Fz", "Cz", "POz"]
    assert [e.label for e in rec.events] == ["left", "right", "left", "right", "left", "right", "left"]
    assert np.array_equal(whole(rec, 4), TRIALS[:, :, 4].T)
    assert np.array_equal(rec.signal.read(2, 10, 20), TRIALS[:, 10:20, 2].T)


def test_mat_of_version_73_has_matlabs_axes(tmp_path):
    def fill(f):
        of_class(f.create_dataset("eeg/signal", data=TRIALS.T), "double")
        of_class(f["eeg"], "struct")
        of_class(f.create_dataset("eeg/fs", data=np.array([[128.0]])), "double")
        of_class(f.create_dataset("y", data=np.array([[1.0, 2, 1, 2, 1, 2, 1]]).T), "double")
        cell_of_texts(f, "names", ["Fz", "Cz", "POz"])

    matlab73(tmp_path / "s1.mat", fill)
    rec = only(
        tmp_path, key="eeg/signal", rate_key="eeg/fs", channels_key="names", labels_key="y",
        layout="channel_time_trial",
    )  # fmt: skip
    assert [c.name for c in rec.signal.channels] == ["Fz", "Cz", "POz"]
    assert [e.label for e in rec.events] == ["1", "2", "1", "2", "1", "2", "1"]
    assert rec.signal.n_samples == (50,) * 7
    assert np.array_equal(whole(rec, 4), TRIALS[:, :, 4].T)
    assert np.array_equal(rec.signal.read(2, 10, 20), TRIALS[:, 10:20, 2].T)


@pytest.mark.parametrize("layout", ["trial_time_channel", "time_channel_trial", "channel_time", "trial_channel_time"])
def test_layouts(tmp_path, layout):
    axes = layout.split("_") if "trial" in layout else ["trial", *layout.split("_")]
    order = [("channel", "time", "trial").index(a) for a in axes]
    np.save(tmp_path / "s1.npy", TRIALS.transpose(order))
    rec = only(tmp_path, layout=layout, rate_hz=10)
    assert np.array_equal(whole(rec, 3), TRIALS[:, :, 3].T)


def test_what_holds_objects_or_pickles_is_refused_and_not_opened(tmp_path):
    class Deadly:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Deadly()))
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Deadly()))
    np.savez(tmp_path / "c.npz", data=np.array([Deadly()], dtype=object))
    savemat(tmp_path / "d.mat", {"data": np.array([X, X], dtype=object)})
    savemat(tmp_path / "e.mat", {"data": {"inner": X}})
    matlab73(tmp_path / "f.mat", lambda f: cell_of_texts(f, "data", ["x", "y"]))
    matlab73(tmp_path / "g.mat", lambda f: text(f, "data", "hello"))
    with h5py.File(tmp_path / "h.h5", "w") as f:
        f["data"] = h5py.ExternalLink("/etc/hosts.h5", "/x")
    with h5py.File(tmp_path / "i.h5", "w") as f:
        f["data/x"] = X
    with h5py.File(tmp_path / "j.h5", "w") as f:
        f.create_dataset("data", (4,), "f8", external=[(str(tmp_path / "b.npy"), 0, 32)])
    messages = {
        "a.pkl": "can run code", "b.npy": "pickled objects are refused", "c.npz": "pickled objects are refused",
        "d.mat": "'data' is a cell array", "e.mat": "'data' is a struct", "f.mat": "'data' is a cell array",
        "g.mat": "of the MATLAB class 'char'", "h.h5": "link into another file", "i.h5": r"'data' is a group \(x\)",
        "j.h5": "values in another file",
    }  # fmt: skip
    items = {i.key: i for i in SOURCES.build("arrays", root=tmp_path, glob="*", rate_hz=100).list()}
    assert set(items) == set(messages)
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            items[name].load()
    assert not (tmp_path / "opened").exists()


def test_broken_files_are_told_in_words(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nonsense" * 100)
    (tmp_path / "b.mat").write_bytes(b"nonsense" * 100)
    (tmp_path / "c.mat").write_bytes(b"")
    savemat(tmp_path / "d.mat", {"data": X})
    (tmp_path / "d.mat").write_bytes((tmp_path / "d.mat").read_bytes()[:1000])
    savemat(tmp_path / "e.mat", {"dat": X})
    with h5py.File(tmp_path / "f.h5", "w") as f:
        f["eeg/dat"] = X
    messages = ["not a readable HDF5", "MAT file", "empty", "MAT file", "did you mean 'dat'", "did you mean 'eeg/dat'"]
    keys = ["data"] * 5 + ["eeg/data"]
    names = [f"{n}" for n in ("a.h5", "b.mat", "c.mat", "d.mat", "e.mat", "f.h5")]
    for name, key, message in zip(names, keys, messages, strict=True):
        with pytest.raises(DataError, match=message):
            open_arrays(tmp_path / name).signal(key)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"events": {"onset_s": "t"}}, "past the end.*at 9 s of a recording of 5 s"),
        ({"events": {"onset_samples": "t", "label": "y"}}, "different length"),
        ({"events": {"onset": "t"}}, "did you mean 'onset_s'"),
        ({"events": {"label": "y"}}, "either onset_s or onset_samples"),
        ({"events": {"onset_s": "tt"}}, "did you mean 't'"),
        ({"rate_key": "fs"}, "has no array 'fs'"),
        ({"rate_key": "t"}, "as 2 values"),
        ({"channels_key": "y"}, "3 channel names for 500 channels"),
        ({"labels_key": "y"}, "3 labels"),
        ({"layout": "time_channel_trial"}, "expected \\(time, channel, trial\\)"),
    ],
)
def test_facts_that_do_not_fit(tmp_path, facts, message):
    np.savez(tmp_path / "s1.npz", data=X, t=np.array([1.0, 9.0]), y=np.array([1, 2, 3]))
    usual = {"rate_hz": None if "rate_key" in facts else 100.0}
    turned = {} if {"channels_key", "layout"} & set(facts) else {"layout": "channel_time"}
    with pytest.raises(DataError, match=message):
        only(tmp_path, **usual, **turned, **facts)


def test_a_single_row_of_numbers_is_one_channel(tmp_path):
    x = np.random.default_rng(0).standard_normal(500)
    np.save(tmp_path / "s1.npy", x)
    recording = only(tmp_path, rate_hz=100.0, channels=["Cz"], layout="channel_time")
    assert [c.name for c in recording.signal.channels] == ["Cz"]
    np.testing.assert_array_equal(recording.signal.read(0, 100, 300), x[100:300, None])
