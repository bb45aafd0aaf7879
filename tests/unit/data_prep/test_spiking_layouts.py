"""Traps of the published layouts of spikes and calcium, each on the smallest file that has it."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import BehavioralTimeSeries

from data_prep.pipeline import prepare
from data_prep.readers.irregular import at_rate
from data_prep.sources.celegans import Celegans
from data_prep.sources.celegans_neurons import NEURONS, canonical_neuron
from data_prep.sources.falcon import Falcon, who_is
from data_prep.sources.falcon_tasks import runs_of_bins
from data_prep.sources.neuroformer import SPIKES, Neuroformer
from data_prep.sources.nlb import HELD_OUT, Nlb, set_of
from data_prep.stages.base import SignalInfo
from data_prep.stages.smooth import Smooth
from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import whole
from neurofm.data.windows import sliding
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel

TRAINS = [np.arange(0.001, 10, 0.013), np.arange(0, 10, 0.1), np.array([2.0])]


def new_file(**rest) -> NWBFile:
    return NWBFile(session_description="d", identifier="x", session_start_time=datetime(2019, 5, 7, tzinfo=UTC), **rest)


def units(nwb: NWBFile, spikes, columns=(), **each) -> None:
    for c in columns:
        nwb.add_unit_column(c, c)
    for i, t in enumerate(spikes):
        nwb.add_unit(spike_times=np.asarray(t, float), **{k: v[i] for k, v in each.items()})


def write(nwb: NWBFile, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)


# Neural Latents Benchmark


def nlb_file(path: Path, which: str) -> None:
    nwb = new_file(session_id="x")
    observed = [[0.5, 9.6]]
    held = [False, True, False]
    kept = [i for i in range(3) if which == "train" or not held[i]]
    units(nwb, [TRAINS[i] for i in kept], ["heldout"], heldout=[held[i] for i in kept],
          obs_intervals=[observed] * len(kept))  # fmt: skip
    columns = ("split", "trial_type", "trial_version") if which == "train" else ("split",)
    for c in (*columns, "move_onset_time"):
        nwb.add_trial_column(c, c)
    splits = ["train", "val", "none", "train"] if which == "train" else ["test", "test"]
    for i, s in enumerate(splits):
        more = {"trial_type": i, "trial_version": 2} if which == "train" else {}
        nwb.add_trial(start_time=2.0 * i, stop_time=2.0 * i + 2.5, split=s, move_onset_time=2.0 * i + 1, **more)
    stamps = np.concatenate([np.arange(0, 2000), np.arange(4000, 8000)]) / 1000
    hand = TimeSeries(name="hand_vel", data=np.stack([stamps, -stamps], 1), timestamps=stamps, unit="mm/s",
                      comments="columns=[x,y]")  # fmt: skip
    nwb.create_processing_module("behavior", "b").add(hand)
    write(nwb, path)


def test_nlb_parts_trials_and_held_out_units(tmp_path):
    folder = tmp_path / "in" / "000140" / "sub-Jenkins"
    nlb_file(folder / "sub-Jenkins_ses-small_desc-train_behavior+ecephys.nwb", "train")
    nlb_file(folder / "sub-Jenkins_ses-small_desc-test_ecephys.nwb", "test")
    items = Nlb(root=tmp_path / "in").list()
    made = {r.part: r for r in (i.load() for i in items)}
    assert set(made) == {"train", "val", "test"}
    train = made["train"]
    assert (train.subject, train.session, train.task) == ("Jenkins", "small", "mc_maze_small")
    # cut at the start of the next trial and at the observed time; the trial of split "none" is in no part
    assert train.valid == ((0.5, 2.0), (6.0, 8.5))
    assert made["val"].valid == ((2.0, 4.0),)
    assert [(c.canonical, c.bad, c.reason) for c in train.first.channels] == [
        ("mc_maze_small/in0", False, ""), ("mc_maze_small/out0", False, HELD_OUT), ("mc_maze_small/in1", False, "")
    ]  # fmt: skip
    assert [c.canonical for c in made["test"].first.channels] == ["mc_maze_small/in0", "mc_maze_small/in1"]
    assert [(e.kind, e.label, e.trial) for e in train.events] == [
        ("trial", "0_2", 0), ("move_onset", "0_2", 0), ("trial", "3_2", 3), ("move_onset", "3_2", 3)
    ]  # fmt: skip
    hand = train.streams[1]
    assert (hand.name, hand.rate_hz, [c.name for c in hand.channels]) == ("hand_vel", 1000.0, ["x", "y"])
    np.testing.assert_allclose(hand.read(0, 0, 1500)[:, 0], 0.5 + np.arange(1500) / 1000, atol=1e-9)
    after = made["val"].streams[1].read(0, 0, 2000)[:, 0]
    assert np.isnan(after[1:1999]).all()  # a gap of the clock
    prepare(source={"name": "nlb", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False,
            segment_s=None)  # fmt: skip
    dataset = Dataset(tmp_path / "d", bin_s=0.005)
    (r,) = dataset.select(part="train")
    t = TRAINS[0]
    np.testing.assert_allclose(dataset.read_events(r, 6.0, 8.5)[0][dataset.read_events(r, 6.0, 8.5)[1] == 0],
                               t[(t >= 6) & (t < 8.5)], atol=1e-12)  # fmt: skip
    assert len(sliding(dataset, whole(dataset, [r]), window_s=0.5)) == 3 + 5
    with pytest.raises(ConfigError, match="no set 'mc_mace': did you mean 'mc_maze'"):
        Nlb(root=tmp_path, sets=["mc_mace"])


def test_nlb_sets_by_path_or_name():
    assert set_of("000129/sub-Indy/x.nwb", "Indy", "") == "mc_rtt"
    assert set_of("x/y.nwb", "Jenkins", "large") == "mc_maze_large"
    assert set_of("x/y.nwb", "Jenkins", "full") == "mc_maze"
    assert set_of("x/y.nwb", "Somebody", "") == ""


# FALCON


def test_falcon_names_without_dates(tmp_path):
    files = {
        "000941/sub-MonkeyL-held-in-calib/sub-MonkeyL-held-in-calib_ses-20120924_behavior+ecephys.nwb":
            ("MonkeyL", "day000", "m1", "held_in_calib"),
        "000941/sub-MonkeyL-held-out-calib/sub-MonkeyL-held-out-calib_ses-20121004_behavior+ecephys.nwb":
            ("MonkeyL", "day010", "m1", "held_out_calib"),
        "000953/sub-MonkeyN-held-in-calib/sub-MonkeyN-held-in-calib_ses-2020-10-19-Run1_behavior+ecephys.nwb":
            ("MonkeyN", "day000-Run1", "m2", "held_in_calib"),
        "000954/sub-HumanPitt-held-in-minival/sub-HumanPitt-held-in-minival_ses-19250101T111740.nwb":
            ("HumanPitt", "day000-1", "h1", "held_in_minival"),
        "001046/sub-Finch-z-r12r13-21-held-in-calib/sub-Finch-z-r12r13-21-held-in-calib_ses-20210627.nwb":
            ("Finch-z-r12r13-21", "day000", "b1", "held_in_calib"),
        "000950/held_in_calib/T5_20220518_held_in_calib.nwb": ("T5", "day000", "h2", "held_in_calib"),
    }  # fmt: skip
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    items = Falcon(root=tmp_path).list()
    found = [tuple(who_is(i.source_file)[k] for k in ("subject", "session", "task", "part")) for i in items]
    assert sorted(found) == sorted(files.values())
    assert not any("2012" in i.key or "1925" in i.key or "2022" in i.source_file for i in items)


def falcon_file(path: Path, build) -> None:
    nwb = new_file(session_id="x")
    build(nwb)
    write(nwb, path)


def loaded(root: Path):
    (item,) = Falcon(root=root).list()
    return item.load()


def test_falcon_m1_stamps_are_ends_of_bins(tmp_path):
    ends = np.concatenate([0.02 * np.arange(1, 101), 3.0 + 0.02 * np.arange(1, 51)])

    def build(nwb):
        units(nwb, [[0.0, 0.02, 1.999, 2.5, 3.0, 3.01]])
        emg = BehavioralTimeSeries(name="preprocessed_emg")
        for k, muscle in enumerate(["FCR", "EDC"]):
            emg.add_timeseries(TimeSeries(name=muscle, data=np.arange(150.0) + 1000 * k, timestamps=ends, unit="au"))
        nwb.add_acquisition(emg)
        nwb.add_acquisition(TimeSeries(name="eval_mask", data=np.arange(150) % 2 == 0, timestamps=ends, unit="bool"))
        nwb.add_trial_column("condition_id", "c")
        nwb.add_trial(start_time=0.5, stop_time=1.0, condition_id=7)

    name = "000941/sub-MonkeyL-held-in-calib/sub-MonkeyL-held-in-calib_ses-20120924_behavior+ecephys.nwb"
    falcon_file(tmp_path / "in" / name, build)
    r = loaded(tmp_path / "in")
    assert r.interval_start_s == pytest.approx((0.0, 3.0))
    assert r.first.duration_s == pytest.approx((2.0, 1.0))
    emg, mask = r.streams[1:]
    assert [c.name for c in emg.channels] == ["EDC", "FCR"]  # HDF5 sorts names
    np.testing.assert_array_equal(emg.read(1, 0, 3), [[1100, 100], [1101, 101], [1102, 102]])
    np.testing.assert_array_equal(mask.read(0, 0, 3)[:, 0], [1, 0, 1])
    assert [(e.onset_s, e.label) for e in r.events] == [(0.5, "7")]
    prepare(source={"name": "falcon", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False)
    dataset = Dataset(tmp_path / "d", bin_s=0.02)
    rid = "falcon_sub-monkeyl_ses-day000_task-m1_run-calib"
    counts = np.concatenate([dataset.read_interval(rid, i) for i in range(2)])[:, 0]
    edges = np.concatenate([[0.0], ends[:100]]), np.concatenate([[3.0], ends[100:]])
    expected = np.concatenate([np.histogram([0.0, 0.02, 1.999, 3.0, 3.01], e)[0] for e in edges])
    np.testing.assert_array_equal(counts, expected)
    assert dataset.recordings[rid]["part"] == "held_in_calib"
    values, time_s = dataset.read_stream(rid, 3.02, 3.06, stream="emg")
    np.testing.assert_allclose(values[:, 1], [101, 102])
    np.testing.assert_allclose(time_s, [3.02, 3.04])


def test_falcon_h1_rate_holds_seconds_per_bin(tmp_path):
    def build(nwb):
        units(nwb, [[0.005, 0.5], [0.7]])
        clock = {"rate": 0.02, "starting_time": 0.0, "unit": "au", "offset": 0.02}
        nwb.add_acquisition(TimeSeries(name="OpenLoopKinematics", data=np.zeros((50, 7)), **clock))
        nwb.add_acquisition(
            TimeSeries(name="OpenLoopKinematicsVelocity", data=np.arange(350.0).reshape(50, 7), **clock)
        )
        nwb.add_acquisition(TimeSeries(name="TrialNum", data=np.repeat([1, 2], 25), **clock))
        nwb.add_acquisition(TimeSeries(name="Blacklist", data=np.arange(50) < 5, rate=0.02, unit="au"))

    name = "000954/sub-HumanPitt-held-in-calib/sub-HumanPitt-held-in-calib_ses-19250101T111740.nwb"
    falcon_file(tmp_path / name, build)
    r = loaded(tmp_path)
    assert r.interval_start_s == (0.0,)
    assert r.first.duration_s == pytest.approx((1.0,))
    assert [c.canonical for c in r.first.channels] == ["h1/0", "h1/1"]
    kinematics, mask = r.streams[1:]
    assert kinematics.rate_hz == 50
    np.testing.assert_array_equal(kinematics.read(0, 0, 50), np.arange(350.0).reshape(50, 7))
    np.testing.assert_array_equal(mask.read(0, 0, 50)[:, 0], np.arange(50) >= 5)
    assert [(e.onset_s, e.trial) for e in r.events] == [(0.0, 0), (0.5, 1)]


def test_falcon_h2_counts_and_sentences(tmp_path):
    stamps = np.concatenate([0.02 * np.arange(100), 12.0 + 0.02 * np.arange(60)])
    counts = np.random.default_rng(0).integers(0, 5, (160, 4)).astype(np.uint8)

    def build(nwb):
        nwb.add_acquisition(TimeSeries(name="binned_spikes", data=counts, timestamps=stamps, unit="int"))
        nwb.add_acquisition(TimeSeries(name="eval_mask", data=np.ones(160, bool), timestamps=stamps, unit="bool"))
        nwb.add_trial_column("cue", "c")
        nwb.add_trial(start_time=0.0, stop_time=1.98, cue="what's>this?")

    falcon_file(tmp_path / "in/000950/sub-T5-held-in-calib/sub-T5-held-in-calib_ses-20220518.nwb", build)
    r = loaded(tmp_path / "in")
    assert (r.subject, r.valid) == ("T5", ((0.0, 2.0), (12.0, 13.2)))
    np.testing.assert_array_equal(r.signal.read(1, 0, 60), counts[100:])
    assert [e.label for e in r.events] == ["what's this?"]
    prepare(source={"name": "falcon", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False,
            storage_dtype="float16")  # fmt: skip
    dataset = Dataset(tmp_path / "d")
    np.testing.assert_array_equal(dataset.read_interval(next(iter(dataset.recordings)), 0), counts[:100])


def test_falcon_m2_stamps_are_beginnings_and_wrong_files(tmp_path):
    stamps = 0.02 * np.arange(50)

    def build(nwb, values=50):
        units(nwb, [[0.5]])
        velocity = BehavioralTimeSeries(name="finger_vel")
        velocity.add_timeseries(TimeSeries(name="index", data=stamps, timestamps=stamps, unit="au"))
        nwb.add_acquisition(velocity)
        nwb.add_acquisition(TimeSeries(name="eval_mask", data=np.ones(values, bool), rate=50.0, unit="bool"))

    folder = "000953/sub-MonkeyN-held-in-calib/sub-MonkeyN-held-in-calib_ses-2020-10-19-Run1_behavior+ecephys.nwb"
    falcon_file(tmp_path / "a" / folder, build)
    r = loaded(tmp_path / "a")
    assert r.valid == ((0.0, 1.0),)
    falcon_file(tmp_path / "b" / folder, lambda nwb: build(nwb, 49))
    with pytest.raises(DataError, match="series 'eval_mask' has 49 values for 50 bins"):
        loaded(tmp_path / "b")
    falcon_file(tmp_path / "c" / folder, lambda nwb: units(nwb, [[0.5]]))
    with pytest.raises(DataError, match="has no acquisition 'finger_vel'"):
        loaded(tmp_path / "c")
    falcon_file(tmp_path / "d" / "x" / "sub-Nobody_ses-1.nwb", build)
    with pytest.raises(DataError, match="of no known task"):
        loaded(tmp_path / "d")


def test_falcon_b1_raster_as_events(tmp_path):
    raster = np.zeros((3000, 3), np.uint8)
    raster[[5, 5, 2999, 300], [0, 2, 1, 1]] = 1

    def build(nwb):
        nwb.add_acquisition(TimeSeries(name="tx", data=raster, rate=30000.0, unit="au"))
        nwb.add_acquisition(TimeSeries(name="vocalizations", data=np.arange(2500.0), rate=25000.0, unit="au"))

    falcon_file(tmp_path / "001046/sub-Finch-z-r12r13-21-held-in-calib_ses-20210627.nwb", build)
    r = loaded(tmp_path)
    t, u = r.first.read(0, 0.0, 0.1)
    np.testing.assert_allclose(t * 30000, [5, 5, 300, 2999])
    assert u.tolist() == [0, 2, 1, 1]
    assert r.streams[1].rate_hz == 25000


def test_runs_of_bins():
    runs = runs_of_bins(np.array([-0.02, 0.0, 0.02, 0.5, 0.52, 0.5409, 1.0]))
    assert runs.first.tolist() == [1, 3, 6]
    assert runs.length.tolist() == [2, 3, 1]
    assert runs.start_s.tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(DataError, match="overlap"):
        runs_of_bins(np.array([0.0, 0.02, 0.03]))


# Neuroformer


def track(root: Path, counts: np.ndarray) -> Path:
    folder = root / "data" / "VisNav_VR_Expt" / "MedialVRDataset" / "NF_1.5"
    folder.mkdir(parents=True)
    np.save(folder / SPIKES, counts)
    n = counts.shape[1] // 5
    np.save(folder / "behavior_speed_dt_0.05.npy", np.arange(n, dtype=float))
    np.save(folder / "phi_dt_0.05.npy", np.arange(n, dtype=float)[None])
    np.save(folder / "stimulus.npy", np.arange(n * 8, dtype=np.float32).reshape(n, 1, 2, 4))
    (folder.parent / "good.csv").write_text("1\n3\n")
    return folder


def test_neuroformer_counts_are_bins_of_10_ms(tmp_path):
    counts = np.random.default_rng(0).poisson(0.3, (4, 1000)).astype(float)
    track(tmp_path / "in", counts)
    prepare(source={"name": "neuroformer", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False,
            segment_s=0.7)  # fmt: skip
    dataset = Dataset(tmp_path / "d", bin_s=0.01)
    rid = "neuroformer_sub-medial_task-visnav"
    np.testing.assert_array_equal(dataset.read_interval(rid, 0), counts.T)
    np.testing.assert_array_equal(dataset.read_binned(rid, 0.0, 200, 0.05),
                                  counts.T.reshape(200, 5, 4).sum(axis=1))  # fmt: skip
    values, time_s = dataset.read_stream(rid, 1.0, 1.2, stream="speed")
    assert values[:, 0].tolist() == [20, 21, 22, 23]
    np.testing.assert_allclose(time_s, [1.0, 1.05, 1.1, 1.15])
    assert dataset.read_stream(rid, 0, 1, stream="phi")[0].shape == (20, 1)


def test_neuroformer_selection_frames_rates_and_pickle(tmp_path):
    counts = np.full((4, 100), 0.5)
    folder = track(tmp_path, counts)
    (item,) = Neuroformer(root=tmp_path, signal="rates", selection="good", frames=True).list()
    r = item.load()
    assert [c.bad for c in r.signal.channels] == [False, True, False, True]  # counted from 1
    assert (r.signal.rate_hz, r.signal.n_samples) == (100.0, (100,))
    frames = r.streams[-1]
    assert (frames.name, frames.role, len(frames.channels)) == ("frames", "stimulus", 8)
    with pytest.raises(DataError, match=r"no counts; read them with source\.signal=rates"):
        Neuroformer(root=tmp_path).list()[0].load()
    with pytest.raises(DataError, match="no selection 'god': did you mean 'good'"):
        Neuroformer(root=tmp_path, selection="god").list()[0].load()
    (folder.parent / "good.csv").write_text("0\n3\n")
    with pytest.raises(DataError, match="cells 0 to 3, expected 1 to 4"):
        Neuroformer(root=tmp_path, selection="good").list()[0].load()
    (tmp_path / "Combo3_V1AL.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (refused,) = [i for i in Neuroformer(root=tmp_path).list() if i.key.endswith(".pkl")]
    with pytest.raises(DataError, match=r"asks for 'os\.system'.*nothing was run"):
        refused.load()
    wrong = {
        "holds no trials": [counts],
        "trial 'x' is no number": {"x": counts},
        "trial '61' is twice there, or none of the 60": {61: counts},
        "trial '1' is twice there": {1: counts, "1": counts},
        r"trial 2 is \(100,\) of float64": {2: counts[0]},
        "trial 2 has 3 cells, others 4": {1: counts, 2: counts[:3]},
        r"trial 1 of 'Combo3_V1AL\.pkl' holds values that are no counts": {1: counts},
    }
    for sentence, content in wrong.items():
        (tmp_path / "Combo3_V1AL.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(DataError, match=sentence):
            refused.load()
    (read,) = [i for i in Neuroformer(root=tmp_path, signal="rates").list() if i.key.endswith(".pkl")]
    np.testing.assert_array_equal(read.load().signal.read(0, 10, 20), counts.T[10:20])
    np.save(folder / SPIKES, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects are refused"):
        Neuroformer(root=tmp_path).list()[0].load()


# C. elegans


def worm_rows(study: str, worm: str, neurons: dict[str, np.ndarray], t: np.ndarray) -> list[dict]:
    return [
        {"source_dataset": study, "worm": worm, "neuron": n, "slot": 0, "original_calcium_data": x.astype("f4"),
         "original_time_in_seconds": t.astype("f4"), "calcium_data": (x - x.mean()).astype("f4"),
         "time_in_seconds": t.astype("f4")}
        for n, x in neurons.items()
    ]  # fmt: skip


def test_celegans_one_order_for_every_worm(tmp_path):
    rng = np.random.default_rng(0)
    regular, uneven = 0.333 * np.arange(200), np.cumsum(rng.uniform(0.3, 0.7, 150))
    slow = np.sin(uneven / 20)
    a = {n: rng.standard_normal(200) for n in ("DB02", "AVAL", "17")}
    rows = worm_rows("Kato2015", "worm0", a, regular) + worm_rows(
        "Uzel2022", "worm0", {"VD13": slow, "AVAL": 2 * slow}, uneven
    )
    (tmp_path / "in").mkdir()
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "in" / "worm_data_short.parquet", row_group_size=2)
    prepare(source={"name": "celegans", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False,
            stages=[{"name": "quality"}], segment_s=None, storage_dtype="float32")  # fmt: skip
    dataset = Dataset(tmp_path / "d")
    assert dataset.subjects == ["Kato2015-worm0", "Uzel2022-worm0"]  # worm0 is two animals
    for r in dataset.recordings:
        assert tuple(c["name"] for c in dataset.channels(r, include_bad=True)) == NEURONS
    kato, uzel = dataset.recordings
    assert [c["name"] for c in dataset.channels(kato)] == ["AVAL", "DB2"]
    assert [c["name"] for c in dataset.channels(uzel)] == ["AVAL", "VD13"]
    absent = [c for c in dataset.channels(uzel, include_bad=True) if c["bad"]]
    assert len(absent) == 298
    assert all(c["reason"].startswith("not recorded in this animal") for c in absent)
    # on the common clock already: unchanged
    np.testing.assert_array_equal(dataset.read_interval(kato, 0), np.stack([a["AVAL"], a["DB02"]], 1).astype("f4"))
    x = dataset.read_interval(uzel, 0)
    clock = uneven[0] + np.arange(len(x)) * 0.333
    assert clock[-1] <= uneven[-1] < clock[-1] + 0.333
    np.testing.assert_allclose(x[:, 1], np.sin(clock / 20), atol=2e-3)
    assert dataset.rate_hz(uzel) == pytest.approx(1 / 0.333)


def test_celegans_choices_and_bad_files(tmp_path):
    t = 0.333 * np.arange(50)
    rows = worm_rows("Kato2015", "worm1", {"AVAL": t + 5, "9": t, "10": 2 * t}, t)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (item,) = Celegans(root=tmp_path, unlabelled=True, trace="prepared").list()
    r = item.load()
    assert [c.name for c in r.signal.channels[300:]] == ["9", "10"]
    assert r.signal.read(0, 0, 50)[:, NEURONS.index("AVAL")].mean() == pytest.approx(0, abs=1e-5)
    with pytest.raises(ConfigError, match="no study 'Kato': did you mean 'Kato2015'"):
        Celegans(root=tmp_path, studies=["Kato"]).list()
    other = worm_rows("Lin2023", "worm1", {"AVAL": t}, t) + worm_rows("Lin2023", "worm1", {"AVAR": t[:-1]}, t[:-1])
    pq.write_table(pa.Table.from_pylist(other + worm_rows("Lin2023", "worm2", {"7": t}, t)), tmp_path / "a.parquet")
    first, second = Celegans(root=tmp_path).list()
    with pytest.raises(DataError, match="'AVAR' of Lin2023 worm1 has another clock"):
        first.load()
    with pytest.raises(DataError, match="no neuron with a canonical name"):
        second.load()
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(DataError, match=r"a\.parquet: is not a readable parquet table"):
        Celegans(root=tmp_path).list()


def test_canonical_neurons():
    assert len(NEURONS) == len(set(NEURONS)) == 300
    assert list(NEURONS) == sorted(NEURONS)
    assert not {"CANL", "CANR"} & set(NEURONS)
    assert [canonical_neuron(n) for n in ("DB02", "VA12", "IL1DL", "avaL", "12", "CANL", "I1L", "AS10")] == [
        "DB2", "VA12", "IL1DL", "AVAL", "", "", "I1L", "AS10"
    ]  # fmt: skip


# stages of calcium


def test_at_rate_goes_both_ways_without_shift():
    t = np.cumsum(np.random.default_rng(0).uniform(0.05, 0.15, 2000))
    x = np.stack([np.sin(t / 5), t], 1)
    for rate in (3.0, 25.0):
        y = at_rate(t, x, rate_hz=rate)
        clock = t[0] + np.arange(len(y)) / rate
        inner = slice(2, -2)
        np.testing.assert_allclose(y[inner, 1], clock[inner], atol=1e-9)
        np.testing.assert_allclose(y[inner, 0], np.sin(clock[inner] / 5), atol=2e-3)
    noise = np.random.default_rng(1).standard_normal((2000, 1))
    assert at_rate(t, noise, rate_hz=1.0).std() < 0.5 < at_rate(t, noise, rate_hz=25.0).std()
    with pytest.raises(DataError, match="increasing"):
        at_rate(t[::-1], x, rate_hz=3.0)


@pytest.mark.parametrize("choice", [{"method": "moving", "samples": 8}, {"method": "gaussian", "sigma": 2.0},
                                    {"method": "exponential", "alpha": 0.3}, {"samples": 1}])  # fmt: skip
@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), cuts=st.lists(st.integers(0, 60), max_size=5), seed=st.integers(0, 9))
def test_smooth_is_causal_and_the_same_in_blocks(choice, n, cuts, seed):
    x = np.random.default_rng(seed).standard_normal((n, 2))
    expected = np.empty_like(x)
    for i in range(n):
        past = x[: i + 1][::-1]
        if choice.get("method") == "exponential":
            expected[i] = x[0] if i == 0 else 0.3 * x[i] + 0.7 * expected[i - 1]
            continue
        k = np.arange(len(past))
        w = (k < choice["samples"]).astype(float) if "samples" in choice else np.exp(-(k**2) / 8.0) * (k <= 8)
        expected[i] = (w[:, None] * past).sum(axis=0) / w.sum()
    stage = Smooth(**choice)
    for _ in range(2):  # a second interval forgets the first
        stage.start(SignalInfo(rate_hz=3.0, channels=(Channel(name="a"), Channel(name="b"))))
        got = [stage.push(b) for b in np.split(x, sorted(c for c in cuts if c <= n))]
        np.testing.assert_allclose(np.concatenate(got), expected, atol=1e-10)
    assert stage.causal


def test_smooth_choices():
    with pytest.raises(ConfigError, match="method 'movin' is unknown: did you mean 'moving'"):
        Smooth(method="movin")
    with pytest.raises(ConfigError, match="alpha 0"):
        Smooth(method="exponential", alpha=0)


def test_celegans_homogenised_from_raw_like_traces(tmp_path):
    """The stages of the preset, in order, against the collection's steps written out plainly."""
    from omegaconf import OmegaConf

    rng = np.random.default_rng(0)
    t = np.cumsum(rng.uniform(0.15, 0.25, 2000))
    raw = {n: np.cumsum(rng.standard_normal(2000)) for n in ("AVAL", "AVAR", "DB02")}
    # filled in between two measurements long before it was published
    raw["AVAR"][500:900] = np.interp(t[500:900], t[[499, 900]], raw["AVAR"][[499, 900]])
    (tmp_path / "in").mkdir()
    rows = worm_rows("Kato2015", "worm0", raw, t) + worm_rows("Kato2015", "worm1", {"AVAL": t[:500]}, t[:500])
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "in/a.parquet")
    preset = Path(__file__).parents[3] / "conf/prep/celegans.yaml"
    prepare(source={"name": "celegans", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False,
            stages=OmegaConf.to_container(OmegaConf.load(preset))["stages"], segment_s=None,
            storage_dtype="float32")  # fmt: skip
    dataset = Dataset(tmp_path / "d")
    (rejected,) = dataset.rejected
    assert "fewer than min_samples, 600" in rejected["reason"]
    (r,) = dataset.recordings
    assert [c["name"] for c in dataset.channels(r)] == ["AVAL", "DB2"]
    (avar,) = [c for c in dataset.channels(r, include_bad=True) if c["name"] == "AVAR"]
    assert "straight lines" in avar["reason"]
    x = dataset.read_interval(r, 0)
    t32, clock = (t.astype("f4").astype(float), np.arange(len(x)) * 0.333)
    t32 = t32 - t32[0]
    fine = (clock[:, None] + (np.arange(6) - 2.5) / 6 * 0.333).ravel()
    for column, name in enumerate(("AVAL", "DB02")):
        slow = np.interp(fine, t32, raw[name].astype("f4")).reshape(-1, 6).mean(1)
        smooth = [slow[max(0, k - 7) : k + 1].mean() for k in range(len(slow))]
        np.testing.assert_allclose(x[:, column], smooth, rtol=1e-4, atol=1e-4)
