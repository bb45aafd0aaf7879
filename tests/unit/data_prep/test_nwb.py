"""NWB files written by pynwb, read back: spikes, potentials, calcium, behaviour, and what is wrong with some."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.file import Subject
from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

from data_prep.pipeline import prepare
from data_prep.privacy import undated, without_date
from data_prep.readers.nwb_units import covered
from data_prep.readers.timeline import on_grid, survey
from data_prep.sources.nwb import Nwb
from neurofm.cli.inspect_dataset import inspect_dataset
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import EventStream

SECRET = "Jane Doe"


def new_file(**rest) -> NWBFile:
    nwb = NWBFile(session_description=f"{SECRET} was tired", identifier="x", notes=SECRET, experimenter=[SECRET],
                  session_start_time=datetime(2019, 5, 7, tzinfo=UTC), **{"session_id": "2019-05-07_probeA", **rest})  # fmt: skip
    nwb.subject = Subject(subject_id="m1", description=SECRET, date_of_birth=datetime(2018, 1, 2, tzinfo=UTC))
    return nwb


def electrodes(nwb: NWBFile, n: int, places: bool = True) -> None:
    group = nwb.create_electrode_group("g", description="d", location="l", device=nwb.create_device("dev"))
    for i in range(n):
        place = {"x": 1000.0 * i, "y": 2.0, "z": 3.0} if places else {}
        nwb.add_electrode(location=f"CA{i}", group=group, **place)


def units(nwb: NWBFile, spikes, columns=(), **each) -> None:
    for c in columns:
        nwb.add_unit_column(c, c)
    for i, t in enumerate(spikes):
        nwb.add_unit(spike_times=np.asarray(t, float), **{k: v[i] for k, v in each.items()})


def write(nwb: NWBFile, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(nwb)
    return path


def load(root: Path, **choices):
    items = Nwb(root=root, **choices).list()
    assert len(items) == 1
    return items[0].load()


def spikes(stream: EventStream, interval: int = 0, a: float = 0.0, b: float | None = None) -> dict[int, list[float]]:
    t, u = stream.read(interval, a, stream.duration_s[interval] if b is None else b)
    assert (np.diff(t) >= 0).all()
    return {i: t[u == i].round(9).tolist() for i in range(len(stream.channels))}


def test_units_regions_quality_trials_and_behaviour(tmp_path):
    nwb = new_file()
    electrodes(nwb, 3)
    trains = [np.arange(0, 130, 0.5), [], [3.0, 61.0, 61.0, 125.25]]
    units(nwb, trains, ["quality"], electrodes=[[1], [2], [0]], quality=["good", "noise", "mua"])
    nwb.add_trial_column("cue", "the cue")
    nwb.add_trial_column("go_time", "go")
    nwb.add_trial_column("note", "free text")
    nwb.add_trial(start_time=1.0, stop_time=2.0, cue="left", go_time=1.5, note=f"{SECRET} moved, repeat it")
    nwb.add_trial(start_time=4.0, stop_time=6.5, cue="right", go_time=np.nan, note="x")
    stamps = np.concatenate([np.arange(0, 10, 0.01), np.arange(20, 30, 0.01)])
    hand = SpatialSeries(name="Hand pos", data=np.stack([stamps, -stamps], 1), timestamps=stamps, reference_frame="r",
                         conversion=0.5, unit="m")  # fmt: skip
    nwb.create_processing_module("behavior", "b").add(Position(spatial_series=hand))
    nwb.add_acquisition(TimeSeries(name="lick", data=np.array([0, 1, 1, 0], np.int8), rate=2.0, starting_time=1.0,
                                   unit="n.a.", comments="columns=[beam]"))  # fmt: skip
    write(nwb, tmp_path / "a.nwb")
    r = load(tmp_path, label="cue")
    assert (r.subject, r.session, r.modality) == ("m1", "probeA", "spikes")
    assert [(c.name, c.region, c.bad, c.reason) for c in r.first.channels] == [
        ("0", "CA1", False, ""), ("1", "CA2", True, "quality 'noise'"), ("2", "CA0", False, "")
    ]  # fmt: skip
    assert r.first.channels[0].x == pytest.approx(1e-3)  # microns in the file
    assert [c.canonical for c in r.first.channels] == ["m1/probea/0", "m1/probea/1", "m1/probea/2"]
    assert r.first.duration_s == pytest.approx((129.501,))
    got = spikes(r.first)
    assert got == {0: list(trains[0]), 1: [], 2: [3.0, 61.0, 61.0, 125.25]}
    assert spikes(r.first, 0, 60.0, 61.0) == {0: [60.0, 60.5], 1: [], 2: []}
    assert [(e.onset_s, e.kind, e.label, e.trial) for e in r.events] == [
        (1.0, "trial", "left", 0), (1.5, "go", "left", 0), (4.0, "trial", "right", 1)
    ]  # fmt: skip
    by_name = {s.name: s for s in r.streams[1:]}
    assert set(by_name) == {"hand-pos", "lick"}
    hand = by_name["hand-pos"]
    assert (hand.rate_hz, [c.name for c in hand.channels]) == (100.0, ["x", "y"])
    x = hand.read(0, 0, 3500)[:, 0]
    there = np.concatenate([np.arange(1000), np.arange(2000, 3000)])
    np.testing.assert_allclose(x[there], 0.005 * there, atol=1e-9)
    assert np.isnan(np.delete(x, there)).all()
    lick = by_name["lick"].read(0, 0, 8)[:, 0]
    np.testing.assert_array_equal(lick, [np.nan, np.nan, 0, 1, 1, 0, np.nan, np.nan])
    assert [c.name for c in by_name["lick"].channels] == ["beam"]


def test_depth_and_quality_of_units_reach_whoever_reads(tmp_path, capsys):
    """A unit's own columns go before its electrode's; a description says of a depth that it is in millimetres."""
    nwb = new_file()
    electrodes(nwb, 3)
    nwb.add_electrode_column("depth", "from the surface, in mm", data=[0.1, 0.25, np.nan])
    nwb.add_unit_column("KSLabel", "of the sorter")
    for i, label in ((1, "good"), (2, "mua"), (0, "noise")):
        nwb.add_unit(spike_times=np.arange(1.0, 9.0), electrodes=[i], KSLabel=label)
    write(nwb, tmp_path / "in" / "a.nwb")
    found = load(tmp_path / "in").first.channels
    assert [(c.quality, c.bad) for c in found] == [("good", False), ("mua", False), ("noise", True)]
    np.testing.assert_allclose([c.depth_um for c in found], [250.0, np.nan, 100.0])
    prepare(source={"name": "nwb", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False)
    dataset = Dataset(tmp_path / "d", bin_s=0.02)
    (rid,) = dataset.recordings
    rows = dataset.channels(rid, include_bad=True)
    assert [(c["region"], c["quality"]) for c in rows] == [("CA1", "good"), ("CA2", "mua"), ("CA0", "noise")]
    np.testing.assert_allclose([c["depth_um"] for c in rows], [250.0, np.nan, 100.0])
    assert inspect_dataset(str(tmp_path / "d")) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "unit CA0 1 1 100 to 100 1 noise unit CA1 1 0 250 to 250 1 good unit CA2 1 0 1 mua" in shown


@pytest.mark.parametrize(
    ("name", "said", "cells", "expected"),
    [
        ("depth", "depth of the unit", [120, 80], [120.0, 80.0]),
        ("depths", "in metres", [0.00012, np.nan], [120.0, np.nan]),
        ("depth_um", "in mm?", [120.0, 80.0], [120.0, 80.0]),
        ("depth", "layer", ["deep", "superficial"], [np.nan, np.nan]),
        ("rel_y", "place on the array", [1.0, 2.0], [np.nan, np.nan]),
    ],
)
def test_depth_in_microns_whatever_its_column_is_called(tmp_path, name, said, cells, expected):
    nwb = new_file()
    nwb.add_unit_column(name, said)
    for cell in cells:
        nwb.add_unit(spike_times=np.array([1.0, 2.0]), **{name: cell})
    write(nwb, tmp_path / "a.nwb")
    np.testing.assert_allclose([c.depth_um for c in load(tmp_path).first.channels], expected, rtol=1e-12)


def test_a_dataset_prepared_before_depth_and_quality_opens(tmp_path, capsys):
    nwb = new_file()
    units(nwb, [[1.0, 2.0], [1.5]])
    write(nwb, tmp_path / "in" / "a.nwb")
    prepare(source={"name": "nwb", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False)
    table = pq.read_table(tmp_path / "d" / "channels.parquet")
    pq.write_table(table.drop_columns(["depth_um", "quality"]), tmp_path / "d" / "channels.parquet")
    dataset = Dataset(tmp_path / "d", bin_s=0.02)
    rows = dataset.channels(next(iter(dataset.recordings)))
    assert [(c["name"], c["quality"], np.isnan(c["depth_um"])) for c in rows] == [("0", "", True), ("1", "", True)]
    assert inspect_dataset(str(tmp_path / "d")) == 0
    assert "depth" not in capsys.readouterr().out


def test_nothing_personal_reaches_the_dataset(tmp_path):
    nwb = new_file(session_id="20190507")
    units(nwb, [[1.0, 2.0]])
    nwb.add_trial_column("note", "free text")
    nwb.add_trial(start_time=0.0, stop_time=1.0, note=f"{SECRET} moved, repeat it")
    write(nwb, tmp_path / "in" / "sub-m1_ses-20190507.nwb")
    write(new_file(), tmp_path / "in" / "sub-m1_ses-20190510.nwb")
    prepare(source={"name": "nwb", "root": tmp_path / "in", "label": "note"}, out=tmp_path / "d", dask="none",
            progress=False)  # fmt: skip
    found = b"".join(p.read_bytes() for p in sorted((tmp_path / "d").rglob("*")) if p.is_file())
    dataset = Dataset(tmp_path / "d")
    shown = repr([dataset.recordings, dataset.rejected, dataset.events("nwb_sub-m1_ses-day000")])
    for text in (SECRET, "2019", "2018", "0507", str(tmp_path)):
        assert text not in shown
        assert text.encode() not in found
    assert dataset.recordings["nwb_sub-m1_ses-day000"]["source_file"] == "sub-m1_ses-day000.nwb"
    assert [(r["source_file"], r["reason"]) for r in dataset.rejected] == [
        ("sub-m1_ses-day003.nwb", "it has no units, no ElectricalSeries and no RoiResponseSeries")
    ]


def test_units_observed_in_pieces(tmp_path):
    nwb = new_file()
    t = np.arange(0, 100, 0.25)
    pieces = [[0.1, 10.0], [50.0, 60.5]]
    units(nwb, [t, t, t], obs_intervals=[pieces, pieces, pieces[:1]])
    nwb.add_invalid_time_interval(start_time=52.0, stop_time=53.0)
    write(nwb, tmp_path / "a.nwb")
    r = load(tmp_path)
    assert r.valid == ((0.1, 10.0), (50.0, 52.0), (53.0, 60.5))
    assert [c.reason for c in r.first.channels] == ["", "", "observed in 51 % of the valid time"]
    assert spikes(r.first, 0)[0] == (t[(t >= 0.1) & (t < 10)] - 0.1).round(9).tolist()
    assert spikes(r.first, 2)[1] == (t[(t >= 53) & (t < 60.5)] - 53).round(9).tolist()


def test_many_units_and_small_index_types(tmp_path):
    """The index column is uint8 here: differences of it wrap around."""
    nwb = new_file()
    rng = np.random.default_rng(0)
    trains = [np.sort(rng.uniform(0, 200, n)) for n in (7, 0, 20, 1, 30)]
    units(nwb, trains)
    write(nwb, tmp_path / "a.nwb")
    r = load(tmp_path)
    for a, b in [(0.0, 200.0), (59.9, 60.1), (120.0, 180.0), (0.0, 1e-3)]:
        got = spikes(r.first, 0, a, b)
        assert got == {i: t[(t >= a) & (t < b)].round(9).tolist() for i, t in enumerate(trains)}


def test_electrical_series_in_microvolt(tmp_path):
    nwb = new_file()
    electrodes(nwb, 4, places=False)
    rng = np.random.default_rng(0)
    raw = rng.integers(-1000, 1000, (500, 3)).astype(np.int16)
    region = nwb.create_electrode_table_region([3, 0, 2], "r")
    kwargs = {"electrodes": region, "rate": 250.0, "starting_time": 2.0}
    lfp = ElectricalSeries(
        name="lfp", data=raw, conversion=2e-7, channel_conversion=[1.0, 2.0, 0.5], offset=1e-5, **kwargs
    )
    nwb.create_processing_module("ecephys", "e").add(LFP(electrical_series=lfp))
    nwb.add_acquisition(ElectricalSeries(name="raw", data=raw, **kwargs))
    write(nwb, tmp_path / "a.nwb")
    r = load(tmp_path, covariates=[])
    assert (r.modality, r.signal.rate_hz, r.valid) == ("ieeg", 250.0, ((2.0, 4.0),))
    assert [(c.name, c.region, c.unit, c.kind) for c in r.signal.channels] == [
        ("3", "CA3", "uV", "lfp"), ("0", "CA0", "uV", "lfp"), ("2", "CA2", "uV", "lfp")
    ]  # fmt: skip
    expected = raw * np.array([0.2, 0.4, 0.1]) + 10.0
    np.testing.assert_allclose(r.signal.read(0, 0, 500), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(r.signal.read(0, 100, 130), expected[100:130], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(load(tmp_path, series="raw").signal.read(0, 0, 2), raw[:2] * 1e6)
    with pytest.raises(DataError, match="no ElectricalSeries 'rau': did you mean 'raw'"):
        load(tmp_path, series="rau")
    with pytest.raises(DataError, match="its unit table is empty"):
        load(tmp_path, signal="units")
    with pytest.raises(DataError, match="it has no RoiResponseSeries"):
        load(tmp_path, signal="roi")
    with pytest.raises(DataError, match="no behaviour series 'wheel'"):
        load(tmp_path, covariates=["wheel"])


def test_calcium_with_uneven_stamps(tmp_path):
    nwb = new_file()
    plane = nwb.create_imaging_plane(
        name="p", optical_channel=OpticalChannel(name="o", description="d", emission_lambda=500.0), description="d",
        device=nwb.create_device("m"), excitation_lambda=600.0, indicator="G", location="V1",
    )  # fmt: skip
    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation(name="s", description="d", imaging_plane=plane)
    for i in range(4):
        table.add_roi(pixel_mask=[(i, i, 1.0)])
    stamps = np.cumsum(np.full(60, 0.1))
    stamps[30:] += 5.0  # a pause
    stamps += np.where(np.arange(60) % 2, 0.02, 0.0)  # two volumes, unevenly
    data = np.stack([stamps, 2 * stamps], 1)
    series = RoiResponseSeries(name="traces", data=data, rois=table.create_roi_table_region("r", region=[2, 1]),
                               unit="n.a.", timestamps=stamps)  # fmt: skip
    module = nwb.create_processing_module("ophys", "o")
    module.add(segmentation)
    module.add(DfOverF(roi_response_series=series))
    write(nwb, tmp_path / "a.nwb")
    r = load(tmp_path)
    assert (r.modality, [c.name for c in r.signal.channels]) == ("calcium", ["2", "1"])
    x = r.signal.read(0, 0, r.signal.n_samples[0])
    clock = r.interval_start_s[0] + np.arange(len(x)) / r.signal.rate_hz
    there = np.isfinite(x[:, 0])
    np.testing.assert_allclose(x[there], np.stack([clock, 2 * clock], 1)[there], atol=1e-9)
    pause = (clock > stamps[29] + 1e-3) & (clock < stamps[30] - 1e-3)
    assert (there == ~pause)[1:-1].all()


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ([2.0, 1.0], "spike times of unit 1 are not sorted"),
        ([-0.5, 1.0], "spike times of unit 1 are negative"),
        ([1.0, np.nan], "spike times of unit 1 hold a value that is not a finite number"),
    ],
)
def test_wrong_spikes(tmp_path, train, sentence):
    nwb = new_file()
    units(nwb, [[1.0, 2.0], train])
    write(nwb, tmp_path / "a.nwb")
    with pytest.raises(DataError, match=sentence):
        load(tmp_path)


def with_wheel(path: Path, *, begins_s: float) -> Path:
    nwb = new_file()
    units(nwb, [np.arange(0.5, 60.0, 0.25), [59.9995]])
    nwb.create_processing_module("behavior", "b").add(
        TimeSeries(name="wheel", data=np.zeros(6000), unit="rad", rate=100.0, starting_time=begins_s)
    )
    return write(nwb, path)


@pytest.mark.parametrize(
    ("begins_s", "sentence"),
    [
        (1000.0, "runs from 1000.000 to 1060.000 s, the signal from 0.000 to 60.000 s: another clock, ahead by 1000.000 s"),
        (-90.5, "runs from -90.500 to -30.500 s, .* behind by 90.500 s"),
    ],
)  # fmt: skip
def test_behaviour_on_another_clock_says_by_how_much(tmp_path, begins_s, sentence):
    with_wheel(tmp_path / "a.nwb", begins_s=begins_s)
    with pytest.raises(DataError, match=f"series 'wheel' {sentence} if both began together"):
        load(tmp_path)
    assert load(tmp_path, covariates=[]).streams[0].channels[1].name == "1"


def test_a_clock_that_tells_the_date_is_told_without_it(tmp_path):
    with_wheel(tmp_path / "a.nwb", begins_s=1.6e9)
    with pytest.raises(DataError, match=r"series 'wheel' lasts 60.000 s on a clock that counts from a date") as error:
        load(tmp_path)
    assert "16000" not in str(error.value)


@pytest.mark.parametrize(
    ("begins_s", "findings"),
    [
        (20.0, ["stream 'wheel' covers 67 % of the signal and begins 20.000 s after it in nwb_sub-m1_ses-probea"]),
        (-20.0, ["stream 'wheel' covers 67 % of the signal and begins 20.000 s before it in nwb_sub-m1_ses-probea"]),
        (-1.5, []),
        (0.0, []),
    ],
)
def test_shifted_behaviour_is_told_and_kept(tmp_path, begins_s, findings):
    with_wheel(tmp_path / "in" / "a.nwb", begins_s=begins_s)
    report = prepare(source={"name": "nwb", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False)
    assert [f.removesuffix(" (see neurofm inspect)") for f in report.findings] == findings
    dataset = Dataset(tmp_path / "d", bin_s=0.02)
    x, time_s = dataset.read_stream("nwb_sub-m1_ses-probea", 0.0, 60.0, stream="wheel")
    inside = (time_s >= begins_s) & (time_s < begins_s + 60)
    np.testing.assert_array_equal(np.isfinite(x[:, 0]), inside)


def test_trials_that_overlap_are_refused_and_those_that_touch_are_not(tmp_path):
    for name, stop in (("a", 2.5), ("b", 2.0 + 1e-9)):
        nwb = new_file()
        units(nwb, [[1.0, 5.0]])
        nwb.add_trial(start_time=2.0, stop_time=4.0)
        nwb.add_trial(start_time=1.0, stop_time=stop)
        write(nwb, tmp_path / name / "a.nwb")
    with pytest.raises(DataError, match=r"trials 1 and 0 overlap \(1 to 2.5 s and 2 to 4 s; 1 such pairs\)"):
        load(tmp_path / "a")
    assert [e.trial for e in load(tmp_path / "b").events if e.kind == "trial"] == [1, 0]


def test_silence_and_wrong_choices(tmp_path):
    nwb = new_file()
    units(nwb, [[], []])
    nwb.add_trial(start_time=0.0, stop_time=1.0)
    write(nwb, tmp_path / "a.nwb")
    with pytest.raises(DataError, match="its 2 units have no spike"):
        load(tmp_path)
    with pytest.raises(DataError, match="no column 'strat_time': did you mean 'start_time'"):
        load(tmp_path, label="strat_time")
    with pytest.raises(ConfigError, match="signal 'unit' is unknown: did you mean 'units'"):
        Nwb(root=tmp_path, signal="unit")
    with pytest.raises(DataError, match="no such folder"):
        Nwb(root=tmp_path / "b").list()


def test_a_file_that_is_none(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nwb").write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"a.nwb: is missing, cut short or no readable HDF5 file"):
        prepare(source={"name": "nwb", "root": tmp_path / "in"}, out=tmp_path / "d", dask="none", progress=False)


def test_dates_become_days():
    names = ["sub-A_ses-20120924_x.nwb", "sub-A_ses-20120927T101500.nwb", "sub-A_ses-20120927T111500.nwb",
             "sub-B_ses-2020-10-19-Run1.nwb", "sub-B_ses-2020-11-18-Run2.nwb", "sub-C_ses-99999999.nwb"]  # fmt: skip
    assert undated(names, [n[4] for n in names]) == [
        "sub-A_ses-day000_x.nwb", "sub-A_ses-day003-1.nwb", "sub-A_ses-day003-2.nwb",
        "sub-B_ses-day000-Run1.nwb", "sub-B_ses-day030-Run2.nwb", "sub-C_ses-99999999.nwb"
    ]  # fmt: skip
    assert without_date("2019-05-07_probeA") == "probeA"
    assert without_date("20190507") == ""


def test_covered_against_a_fine_grid():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = (tuple(map(tuple, np.sort(rng.uniform(0, 10, 6)).reshape(3, 2))) for _ in range(2))
        t = np.linspace(0, 10, 200_001)
        in_a, in_b = (sum((t >= x) & (t < y) for x, y in s) > 0 for s in (a, b))
        assert covered(a, b) == pytest.approx((in_a & in_b).sum() / in_a.sum(), abs=1e-3)


def test_stamps_of_a_regular_clock_are_a_regular_clock(monkeypatch):
    monkeypatch.setattr("data_prep.readers.timeline.CHUNK", 64)
    t = 5.0 + np.arange(1000) / 30.0 + np.random.default_rng(0).uniform(-1e-3, 1e-3, 1000)
    line = survey(lambda a, b: t[a:b], 1000, "s")
    assert line.is_regular
    assert line.rate_hz == pytest.approx(30, rel=1e-4)
    gap = t + np.where(np.arange(1000) > 500, 3.0, 0)
    line = survey(lambda a, b: gap[a:b], 1000, "s")
    assert not line.is_regular
    for span in [(5.0, 6.0), (20.0, 30.0), (37.0, 38.0), (0.0, 1.0), (90.0, 91.0)]:
        first, near = line.around(*span)
        np.testing.assert_array_equal(near, gap[first : first + len(near)])
        wanted = np.linspace(*span, 50)
        whole = on_grid(wanted, gap, gap[:, None], rate_hz=line.rate_hz)
        np.testing.assert_array_equal(on_grid(wanted, near, near[:, None], rate_hz=line.rate_hz), whole)
    with pytest.raises(DataError, match="do not increase"):
        survey(lambda a, b: t[::-1][a:b], 1000, "s")
