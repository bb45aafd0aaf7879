"""Sources: what is read is what was written, and bad files are told in words."""

from __future__ import annotations

import pickle
import re
import warnings

import mne
import mne_bids
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.layout.naming import compile_pattern, entities
from data_prep.readers.from_mne import canonical_name, events_of
from data_prep.sources import SOURCES
from data_prep.sources.aeon import read_ts, repair_stride
from data_prep.sources.hcp7 import region_names
from data_prep.sources.simulated import population_mixing, subject_mixing
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import slug


def whole(stream, interval: int = 0) -> np.ndarray:
    return stream.read(interval, 0, stream.n_samples[interval])


@settings(max_examples=50, deadline=None)
@given(c=st.integers(2, 12), t=st.integers(3, 200), seed=st.integers(0, 5))
def test_stride_repair_is_exact(c, t, seed):
    """Store a known vector with the wrong stride, as the package does, and ask for its true channels."""
    if t <= c:
        return
    flat = np.random.default_rng(seed).standard_normal((4, c * t))
    stored = np.stack([flat[:, c * k : c * k + t] for k in range(c)], axis=1)
    repaired = repair_stride(stored)
    n_known = c * (c - 1) + t
    assert repaired.shape == (4, n_known // t, t)
    true = flat.reshape(4, c, t)
    assert np.array_equal(repaired, true[:, : n_known // t])


def test_stride_repair_leaves_healthy_data_alone():
    x = np.random.default_rng(0).standard_normal((5, 10, 400))
    assert repair_stride(x) is x
    assert repair_stride(x[:, :1]) is not None
    assert repair_stride(x[:, :1]).shape == (5, 1, 400)
    constant = np.ones((3, 4, 50))
    assert repair_stride(constant) is constant


def test_read_ts(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text("#text\n@problemName x\n@data\n1,2,-3e-5:4,5,6:left\n7,8,9:1,2,3:right\n")
    values, labels = read_ts(path)
    assert values.tolist() == [[[1, 2, -3e-5], [4, 5, 6]], [[7, 8, 9], [1, 2, 3]]]
    assert labels == ["left", "right"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2:left\n", "@data"),
        ("@data\n", "no trial"),
        ("@data\n1,2:3,4:left\n1,2:3,:left", "trial 1 is cut short"),
        ("@data\n1,2:3,4:left\n1,2:3", "trial 1 has shape"),
        ("@data\n1,2:3,4:left\n1,2:left", "trial 1 has shape"),
        ("@data\n1,x:3,4:left\n", "trial 0"),
    ],
)
def test_read_ts_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "x.ts"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ts(path)


def test_region_names_are_read_as_a_literal_never_run(tmp_path):
    names = {i: f"R{i}" for i in range(1, 121)}
    (tmp_path / "atlas.py").write_text(f"raise SystemExit\nclass A:\n    aal2 = {names!r}\n")
    assert region_names(tmp_path / "atlas.py") == [f"R{i}" for i in range(1, 95)]
    (tmp_path / "none.py").write_text("x = 1\n")
    assert region_names(tmp_path / "none.py")[:2] == ["region-00", "region-01"]


def test_pattern_takes_entities_from_paths():
    p = compile_pattern("**/sub-{subject}/ses-{session}/*_run-{run}.edf")
    assert entities("a/b/sub-01/ses-x/foo_run-2.edf", p) == {"subject": "01", "session": "x", "run": "2"}
    assert entities("sub-01/ses-x/foo_run-2.edf", p) is not None
    assert entities("sub-01/foo.edf", p) is None
    assert entities("deep/P03.edf", None) == {"subject": "P03"}
    with pytest.raises(ConfigError, match="'subject'"):
        compile_pattern("{subjct}.edf")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [("EEG FPZ-REF.", "fpz"), ("Fp1", "fp1"), ("EEG C3-LE", "c3"), ("A1-Cz", "a1-cz"), ("Cz.", "cz")],
)
def test_canonical_names(name, canonical):
    assert canonical_name(name) == canonical


def raw_of(n: int = 2000, sfreq: float = 200.0) -> tuple[mne.io.RawArray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((5, n)) * 20e-6
    info = mne.create_info(["Fz", "Cz", "Pz", "EOG", "STI"], sfreq, ["eeg", "eeg", "eeg", "eog", "stim"])
    return mne.io.RawArray(x, info, verbose="error"), x


def test_files_reads_fif_lazily_with_events_bad_spans_and_bad_channels(tmp_path):
    raw, x = raw_of()
    raw.info["bads"] = ["Pz"]
    notes = ["left", "right", "BAD_muscle", "Mrs Miller coughed at noon"]
    raw.set_annotations(mne.Annotations([1.0, 2.5, 4.0, 5.5], [0.5, 0, 1.0, 0], notes))
    (tmp_path / "P01").mkdir()
    raw.save(tmp_path / "P01" / "P01_run-2_raw.fif", verbose="error", fmt="double")
    source = SOURCES.build("files", root=tmp_path, glob="**/*.fif", pattern="{subject}/*_run-{run}_raw.fif")
    (item,) = pickle.loads(pickle.dumps(source.list()))
    rec = item.load()
    assert (rec.subject, rec.run, rec.recording_id) == ("P01", "2", "files_sub-p01_run-2")
    assert [c.name for c in rec.signal.channels] == ["Fz", "Cz", "Pz"]
    assert [c.bad for c in rec.signal.channels] == [False, False, True]
    assert rec.interval_start_s == (0.0, 5.0)
    assert rec.signal.n_samples == (800, 1000)
    assert np.allclose(whole(rec.signal, 1), x[:3, 1000:].T * 1e6)
    assert rec.streams[1].name == "covariate"
    assert np.allclose(whole(rec.streams[1], 0), x[3:4, :800].T * 1e6)
    assert [(e.onset_s, e.label) for e in rec.events] == [(1.0, "left"), (2.5, "right")]
    assert "Miller" not in repr(rec)


def test_files_sets_kinds(tmp_path):
    raw, _ = raw_of()
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    args = {"root": tmp_path, "glob": "*.fif", "modality": "ieeg"}
    (item,) = SOURCES.build("files", kinds={"P*": "emg"}, **args).list()
    rec = item.load()
    assert [c.kind for c in rec.signal.channels] == ["seeg", "seeg"]
    assert [c.kind for c in rec.streams[1].channels] == ["emg", "eog"]


def test_bids_round_trip(tmp_path):
    raw, x = raw_of()
    raw.drop_channels(["STI"])
    raw.info["bads"] = ["Cz"]
    raw.info["line_freq"] = 50
    raw.set_annotations(mne.Annotations([1.0, 3.0], [0.5, 0.5], ["go", "stop"]))
    for subject in ("01", "02"):
        path = mne_bids.BIDSPath(root=tmp_path, subject=subject, session="a", task="t", run="1", datatype="eeg")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mne_bids.write_raw_bids(raw.copy(), path, format="EDF", allow_preload=True, overwrite=True, verbose="error")
    items = SOURCES.build("bids", root=tmp_path, subjects=["02"]).list()
    assert [i.subject for i in items] == ["02"]
    rec = items[0].load()
    assert rec.recording_id == "bids_sub-02_ses-a_task-t_run-1"
    assert [c.bad for c in rec.signal.channels] == [False, True, False]
    assert np.abs(whole(rec.signal) - x[:3].T * 1e6).max() < 0.2
    assert [(e.onset_s, e.label) for e in rec.events] == [(1.0, "go"), (3.0, "stop")]
    assert len(SOURCES.build("bids", root=tmp_path).list()) == 2
    for filters, said in (
        ({"tasks": ["other"]}, "source.tasks: there is no task 'other': valid names are: t"),
        ({"subjects": ["02", "1"]}, "there is no subject '1': did you mean '01'"),
        ({"processings": ["x"]}, "no recording states a processing"),
    ):
        with pytest.raises(ConfigError, match=said):
            SOURCES.build("bids", root=tmp_path, **filters).list()
    with pytest.raises(DataError, match="holds no meg recording, only eeg"):
        SOURCES.build("bids", root=tmp_path, datatypes=["meg"]).list()
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="for other names use dataset=files"):
        SOURCES.build("bids", root=tmp_path / "other").list()


def test_arrays_in_memory():
    x = np.random.default_rng(0).standard_normal((3, 500))
    source = SOURCES.build("arrays", arrays={"p1": x}, rate_hz=100, channels=["a", "b", "c"], layout="channel_time")
    rec = source.list()[0].load()
    assert np.array_equal(whole(rec.signal), x.T)
    assert [c.name for c in rec.signal.channels] == ["a", "b", "c"]
    other = SOURCES.build("arrays", arrays={"p1": x + 1}, rate_hz=100, layout="channel_time")
    assert source.list()[0].fingerprint != other.list()[0].fingerprint


def test_arrays_folder_with_facts_in_yaml_and_npz(tmp_path):
    trials = np.random.default_rng(0).standard_normal((4, 50, 2))
    np.savez(tmp_path / "s1.npz", data=trials, rate_hz=50.0, channels=["x", "y"], labels=["a", "b", "a", "b"])
    np.save(tmp_path / "s2.npy", trials[0])
    (tmp_path / "arrays.yaml").write_text("modality: ieeg\nunit: uV\n")
    first, second = SOURCES.build("arrays", root=tmp_path).list()
    rec = first.load()
    assert rec.modality == "ieeg"
    assert rec.signal.channels[0].kind == "seeg"
    assert rec.signal.unit == "uV"
    assert rec.signal.n_samples == (50,) * 4
    assert [e.label for e in rec.events] == ["a", "b", "a", "b"]
    assert np.array_equal(whole(rec.signal, 2), trials[2])
    with pytest.raises(DataError, match="rate_hz is None"):
        second.load()
    assert SOURCES.build("arrays", root=tmp_path, rate_hz=10).list()[1].load().signal.rate_hz == 10


def test_arrays_refuse_pickles_and_nonsense(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(b"\x93NUMPY garbage")
    np.save(tmp_path / "c.npy", np.zeros((5, 3), complex))
    np.save(tmp_path / "d.npy", np.zeros((5, 3, 2, 2)))
    np.savez(tmp_path / "e.npz", dat=np.zeros((5, 3)))
    messages = ["pickled objects are refused", "not a readable", "complex", "shape", "did you mean 'dat'"]
    for item, message in zip(SOURCES.build("arrays", root=tmp_path, rate_hz=1).list(), messages, strict=True):
        with pytest.raises(DataError, match=message):
            item.load()
    (tmp_path / "arrays.yaml").write_text("rate: 5\n")
    with pytest.raises(DataError, match=r"arrays\.yaml: field 'rate' is unknown"):
        SOURCES.build("arrays", root=tmp_path)


def test_simulated_structure_can_be_recovered():
    source = SOURCES.build("simulated", n_subjects=2, n_channels=12, n_sources=3, duration_s=200, noise=0.1)
    x = whole(source.list()[0].load().signal)
    true = subject_mixing(source.choices, 1)
    _, _, vt = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    cosines = np.linalg.svd(np.linalg.qr(true.T)[0].T @ vt[:3].T)[1]
    assert cosines.min() > 0.98
    population = population_mixing(source.choices)
    near = np.sum(true * population, axis=0)
    assert near.mean() > 0.8
    assert not np.allclose(true, population)


def test_simulated_classes_can_be_told_apart_and_repeat():
    source = SOURCES.build("simulated", n_subjects=1, n_trials=90, n_classes=2, effect=3.0)
    items = {i.key.split("_")[1]: i for i in source.list()}
    recs = {part: items[part].load() for part in ("train", "test")}
    assert [recs[p].part for p in recs] == ["train", "test"]
    assert len(recs["train"].events) == 60

    def features(rec):
        x = np.stack([whole(rec.signal, i)[30:70].mean(axis=0) for i in range(len(rec.events))])
        return x, np.array([e.label for e in rec.events])

    x, y = features(recs["train"])
    means = {k: x[y == k].mean(axis=0) for k in sorted(set(y))}
    x_test, y_test = features(recs["test"])
    guess = [min(means, key=lambda k, v=v: np.linalg.norm(v - means[k])) for v in x_test]
    assert np.mean(np.array(guess) == y_test) > 0.8
    assert np.array_equal(whole(items["test"].load().signal, 3), whole(recs["test"].signal, 3))


def test_unknown_choices_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="'simulated'"):
        SOURCES.get("simulatd")
    with pytest.raises(ConfigError, match="'n_subjects'"):
        SOURCES.build("simulated", n_subject=3)
    with pytest.raises(ConfigError, match="HandMovementDirection"):
        SOURCES.build("aeon", sets=["HandMovement"])


def test_a_condition_of_two_words_is_kept_when_it_recurs():
    notes = [(float(t), 1.0, "left hand") for t in range(3)] + [(9.0, 0.0, "patient tired"), (10.0, 0.0, "cue 3")]
    assert [e.label for e in events_of(notes)] == ["left hand"] * 3 + ["cue 3"]


def test_names_beyond_ascii_stay_apart():
    assert slug("Sub 01.A") == "sub-01-a"
    assert slug("Müller").startswith("muller-")
    assert len({slug(n) for n in ("Müller", "Möller", "Muller", "李", "张")}) == 5
    assert re.fullmatch("[a-z0-9_-]+", slug("李"))
