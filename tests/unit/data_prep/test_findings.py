"""What `prep` notices in populations is said in one clause each, and nothing of it keeps a recording out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from data_prep.pipeline import PrepReport, prepare
from data_prep.sources.base import Item, Source
from neurofm.data.dataset import Dataset
from neurofm.schema.recording import Channel, EventStream, Recording, Stream

DURATION_S = 60.0


class Population(Source):
    """Recordings of spikes: units that fire ten times a second, but for what a test changes."""

    name = id = "toy"
    licence = "CC0"
    modalities = ("spikes",)

    def __init__(self, **recordings) -> None:
        self.recordings = recordings

    def list(self):
        return [
            Item(key=k, fingerprint="1", open=partial(self.load, k, v), subject=k) for k, v in self.recordings.items()
        ]

    def load(self, who, given):
        times = given.get("spikes", regular(2))
        channels = tuple(Channel(name=f"u{i}", kind="unit") for i in range(len(times)))
        # recordings of equal values are one recording twice
        time_s = np.concatenate(times) + 1e-4 * ord(who)
        unit = np.concatenate([np.full(len(t), i) for i, t in enumerate(times)])
        order = np.argsort(time_s, kind="stable")
        spikes = EventStream.from_arrays(
            [(time_s[order], unit[order])], duration_s=[given.get("duration_s", DURATION_S)], channels=channels
        )
        return Recording(dataset="toy", subject=who, modality="spikes", streams=(spikes, *given.get("beside", ())))


def regular(n: int) -> list[np.ndarray]:
    """Trains that tick ten times a second."""
    return [np.arange(0.05, DURATION_S, 0.1) + 0.001 * i for i in range(n)]


@pytest.fixture
def prep(tmp_path):
    def run(**recordings) -> PrepReport:
        return prepare(source=Population(**recordings), out=tmp_path / "d", dask="none", progress=False, strict=True,
                       segment_s=7.0, overwrite=True)  # fmt: skip

    return run


def velocity(**changes) -> Stream:
    """Behaviour at 50 Hz throughout, with other values at some samples (start, stop)."""
    x = np.ones((round(DURATION_S * 50), 2))
    for (a, b), value in changes.get("spoiled", {}).items():
        x[a:b, 1] = value
    channels = tuple(Channel(name=n) for n in "xy")
    return Stream.from_arrays([x[: changes.get("stop")]], rate_hz=50.0, channels=channels, name="velocity",
                              role=changes.get("role", "covariate"))  # fmt: skip


def said(report: PrepReport) -> list[str]:
    return [f.removesuffix(" (see neurofm inspect)") for f in report.findings]


def test_a_sound_population_is_no_news(prep):
    assert prep(a={}, b={"spikes": regular(3)}).findings == []


def test_units_that_never_fire_are_told_and_kept(prep, tmp_path: Path):
    trains = [*regular(7), np.empty(0), np.empty(0)]
    report = prep(a={}, b={"spikes": trains})
    assert said(report) == ["2 units never fire, first 'u7' in toy_sub-b"]
    assert report.sentence().endswith("; 2 units never fire, first 'u7' in toy_sub-b (see neurofm inspect)")
    rows = Dataset(tmp_path / "d", bin_s=0.02).channels("toy_sub-b")
    assert [(c["bad"], c["reason"]) for c in rows] == [(False, "")] * 7 + [(False, "never fires")] * 2


def test_holes_in_behaviour_are_told(prep):
    holed = velocity(spoiled={(500, 1000): np.nan, (1500, 1600): np.nan})
    report = prep(a={"beside": [velocity()]}, b={"beside": [holed]}, c={"beside": [holed]})
    assert said(report) == ["stream 'velocity' is missing for 12 s of 60 s in toy_sub-b, and 1 more like it"]


def test_behaviour_that_is_never_there_is_told(prep):
    report = prep(a={"beside": [velocity(spoiled={(0, 3000): np.nan})]})
    assert said(report) == ["stream 'velocity' is missing for 60 s of 60 s in toy_sub-a"]


@pytest.mark.parametrize(
    "changes", [{"spoiled": {(500, 540): np.nan}}, {"role": "stimulus", "spoiled": {(500, 1000): np.nan}}]
)
def test_jitter_and_pauses_of_a_stimulus_are_no_news(prep, changes):
    assert prep(a={"beside": [velocity(**changes)]}).findings == []


def test_holes_beside_a_regular_signal_are_told(tmp_path):
    class Regular(Population):
        def load(self, who, given):
            channels = (Channel(name="Cz", kind="eeg", unit="uV"),)
            x = np.random.default_rng(0).standard_normal((6000, 1))
            signal = Stream.from_arrays([x], rate_hz=100.0, channels=channels)
            return Recording(dataset="toy", subject=who, modality="eeg", streams=(signal, *given["beside"]))

    source = Regular(a={"beside": [velocity(spoiled={(500, 1000): np.nan})]})
    report = prepare(source=source, out=tmp_path / "d", dask="none", progress=False, strict=True, segment_s=7.0)
    assert said(report) == ["stream 'velocity' is missing for 10 s of 60 s in toy_sub-a"]


def test_behaviour_that_ends_early_is_told(prep):
    report = prep(a={"beside": [velocity(stop=2400)]}, b={"beside": [velocity(stop=2880)]})
    assert said(report) == ["stream 'velocity' covers 80 % of the signal and begins with it in toy_sub-a"]
    report = prep(a={"beside": [velocity(spoiled={(0, 1000): np.nan, (2000, 2100): np.nan})]})
    assert said(report) == [
        "stream 'velocity' is missing for 2 s of 60 s in toy_sub-a",
        "stream 'velocity' covers 67 % of the signal and begins 20.000 s after it in toy_sub-a",
    ]


def test_one_stray_spike_is_told(prep):
    stray = [*regular(2), np.array([1000.0])]
    report = prep(a={}, b={"spikes": stray, "duration_s": 1000.5})
    last_s, stray_s = 59.951 + 1e-4 * ord("b"), 1000.0 + 1e-4 * ord("b")
    assert said(report) == [
        f"no unit fires between {last_s:.3f} and {stray_s:.3f} s in toy_sub-b, longer than all the rest of it "
        "(a stray spike, or another clock?)"
    ]


@pytest.mark.parametrize(
    ("start_s", "duration_s", "told"),
    [(50.0, 110.0, False), (70.0, 130.0, True), (0.0, 119.0, False), (0.0, 121.0, True)],
)
def test_silence_before_and_behind_all_spikes_counts_likewise(prep, start_s, duration_s, told):
    trains = [t + start_s for t in regular(2)]
    assert bool(prep(a={"spikes": trains, "duration_s": duration_s}).findings) == told


def test_a_short_recording_of_few_spikes_is_no_news(prep):
    assert prep(a={"spikes": [np.array([0.5]), np.array([5.0])], "duration_s": 6.0}).findings == []
