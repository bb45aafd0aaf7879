"""Trials and their averages against mne.Epochs and Evoked; every sample of a trial comes from where it should."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.flow import Forward, block_samples, build_stages, run_stages
from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from data_prep.stages import STAGES
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Event, Recording, Stream

RATE = 250.0


def recording(x: np.ndarray, onsets_s, labels=None, rate_hz: float = RATE) -> Recording:
    chans = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(x.shape[1]))
    labels = labels or ["go"] * len(onsets_s)
    events = tuple(Event(onset_s=float(t), label=n, stimulus_id=n) for t, n in zip(onsets_s, labels, strict=True))
    stream = Stream.from_arrays([x], rate_hz=rate_hz, channels=chans)
    return Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), events=events)


def staged(rec: Recording, *stages: dict):
    flow = run_stages(rec, build_stages(stages))
    return [np.concatenate([*flow.blocks(i, 0, None)]) for i in range(len(flow.intervals))], flow


def noise(n: int, seed: int = 0) -> np.ndarray:
    return 4000 + 10 * np.random.default_rng(seed).standard_normal((n, 3))


def by_mne(rec: Recording, tmin: float, tmax: float, baseline) -> mne.Epochs:
    s = rec.signal
    x = s.read(0, 0, s.n_samples[0])
    info = mne.create_info([c.name for c in s.channels], s.rate_hz, "eeg")
    raw = mne.io.RawArray(x.T, info, verbose="error")
    events = np.array([[round(e.onset_s * s.rate_hz), 0, 1] for e in rec.events])
    last = tmax - 1 / s.rate_hz
    return mne.Epochs(raw, events, tmin=tmin, tmax=last, baseline=baseline, preload=True, verbose="error")


@pytest.mark.parametrize("baseline", [None, (-0.2, 0.0), (None, 0.0)])
def test_trials_are_mnes(baseline):
    rec = recording(noise(20_000), [0.1, 3.0, 5.501, 7.2, 33.333, 79.5])
    out, flow = staged(rec, {"name": "epoch", "tmin_s": -0.2, "tmax_s": 0.8, "baseline_s": baseline})
    # mne's baseline includes its last sample
    theirs = None if baseline is None else (baseline[0], baseline[1] - 1 / RATE)
    oracle = by_mne(rec, -0.2, 0.8, theirs).get_data()
    assert len(out) == len(oracle) == 4
    assert np.abs(np.stack(out).transpose(0, 2, 1) - oracle).max() < 1e-9
    assert flow.figures["events_left_out"] == 2
    assert flow.figures["trials_laid_out"] == 0
    assert [i.start_s for i in flow.intervals] == pytest.approx([2.8, 5.3, 7.0, 33.132])
    assert [(e.trial, e.onset_s) for e in flow.events] == [(0, 3.0), (1, 5.501), (2, 7.2), (3, 33.333)]


def test_trials_after_a_filter_are_cut_from_the_filtered_whole():
    x = noise(40_000)
    onsets = np.arange(1, 150, 0.7)
    out, _flow = staged(
        recording(x, onsets),
        {"name": "filter", "low_hz": 1.0},
        {"name": "resample", "rate_hz": 100},
        {"name": "epoch", "tmin_s": -0.1, "tmax_s": 0.5},
    )
    (whole,), _ = staged(recording(x, onsets), {"name": "filter", "low_hz": 1.0}, {"name": "resample", "rate_hz": 100})
    assert len(out) == len(onsets)
    for t, trial in zip(onsets, out, strict=True):
        a = round(t * 100) - 10
        assert np.array_equal(trial, whole[a : a + 60])


def test_trials_that_overlap_are_laid_one_after_another():
    rec = recording(noise(5000), [1.0, 1.2, 1.4, 9.0])
    out, flow = staged(rec, {"name": "epoch", "tmin_s": -0.1, "tmax_s": 0.6})
    oracle = by_mne(rec, -0.1, 0.6, None).get_data()
    assert np.abs(np.stack(out).transpose(0, 2, 1) - oracle).max() < 1e-9
    assert [i.start_s for i in flow.intervals] == [0, 2, 4, 6]
    assert [e.onset_s for e in flow.events] == pytest.approx([0.1, 2.1, 4.1, 6.1])
    assert flow.figures["trials_laid_out"] == 1


def test_trials_that_touch_stay_where_they_are():
    _, flow = staged(recording(noise(5000), [1.0, 1.5, 2.0]), {"name": "epoch", "tmin_s": 0, "tmax_s": 0.5})
    assert [i.start_s for i in flow.intervals] == [1.0, 1.5, 2.0]


def test_no_trial_crosses_a_gap():
    x = noise(5000)
    x[600:610] = np.nan
    out, flow = staged(
        recording(x, [1.0, 2.3, 3.0]), {"name": "quality"}, {"name": "epoch", "tmin_s": -0.2, "tmax_s": 0.2}
    )
    assert [e.onset_s for e in flow.events] == [1.0, 3.0]
    assert np.array_equal(out[1], x[700:800])
    assert [i.source for i in flow.intervals] == [0, 0]
    assert flow.intervals[1].offset_s == pytest.approx(2.8)


def test_events_are_chosen_by_label_and_kind():
    rec = recording(noise(5000), [1, 2, 3, 4], ["word/a", "word/b", "pause", "word/a"])
    rec = replace(rec, events=(*rec.events[:3], replace(rec.events[3], kind="response")))
    _, flow = staged(rec, {"name": "epoch", "tmin_s": 0, "tmax_s": 0.5, "labels": ["word*"], "kinds": ["event"]})
    assert [e.label for e in flow.events] == ["word/a", "word/b"]
    with pytest.raises(DataError, match="labels there are: pause, word/a, word/b"):
        staged(rec, {"name": "epoch", "tmin_s": 0, "tmax_s": 0.5, "labels": ["face"]})
    with pytest.raises(DataError, match="none of 4 events has"):
        staged(rec, {"name": "epoch", "tmin_s": -50, "tmax_s": 50})


def test_means_are_mnes_evoked():
    names = ["a", "b", "a", "b", "b", "a"]
    rec = recording(noise(5000), [1, 3, 5, 7, 9, 11], names)
    out, flow = staged(rec, {"name": "epoch", "tmin_s": -0.1, "tmax_s": 0.4}, {"name": "average"})
    epochs = by_mne(rec, -0.1, 0.4, None)
    for i, name in enumerate("ab"):
        oracle = epochs[[k for k, n in enumerate(names) if n == name]].average(picks="all").data.T
        assert np.abs(out[i] - oracle).max() < 1e-9
    assert [(e.kind, e.label, e.value, e.trial, e.onset_s) for e in flow.events] == [
        ("average", "a", 3.0, 0, 1.0),
        ("average", "b", 3.0, 1, 3.0),
    ]
    assert flow.figures["trials_averaged"] == 6


def test_means_of_so_many_trials_in_their_order():
    rec = recording(noise(5000), range(1, 8), list("aabaaba"))
    out, flow = staged(
        rec, {"name": "epoch", "tmin_s": 0, "tmax_s": 0.5}, {"name": "average", "by": "label", "n_trials": 2}
    )
    x = rec.signal.read(0, 0, 5000)
    trial = [x[250 * t : 250 * t + 125] for t in range(1, 8)]
    expected = [(trial[0] + trial[1]) / 2, (trial[2] + trial[5]) / 2, (trial[3] + trial[4]) / 2, trial[6]]
    assert all(np.allclose(a, b) for a, b in zip(out, expected, strict=True))
    assert [e.value for e in flow.events] == [2, 2, 2, 1]


def test_trials_of_a_source_are_averaged_by_the_event_in_each():
    arrays = [noise(100, i) for i in range(3)]
    rec = recording(arrays[0], [0.1, 100.1, 200.1], list("aba"))
    rec = replace(
        rec.with_signal(Stream.from_arrays(arrays, rate_hz=RATE, channels=rec.signal.channels)),
        interval_start_s=(0.0, 100.0, 200.0),
    )
    out, _ = staged(rec, {"name": "average"})
    assert np.allclose(out[0], (arrays[0] + arrays[2]) / 2)
    assert np.allclose(out[1], arrays[1])
    with pytest.raises(DataError, match="no event lies in the valid interval at 100 s"):
        staged(replace(rec, events=(rec.events[0], rec.events[2])), {"name": "average"})
    with pytest.raises(DataError, match="has no stimulus_id"):
        staged(replace(rec, events=(replace(rec.events[0], stimulus_id=""), *rec.events[1:])), {"name": "average"})
    longer = rec.with_signal(replace(rec.signal, n_samples=(100, 100, 90)))
    with pytest.raises(DataError, match="'a' differ in length"):
        staged(longer, {"name": "average"})


class OneRecording(Source):
    name = id = "one"
    modalities = ("eeg",)

    def list(self) -> list[Item]:
        rec = recording(noise(30_000), np.arange(1, 100, 0.5), list("abcd" * 50)[:198])
        return [Item(key="one", fingerprint="1", open=lambda: rec)]


def test_trials_reach_the_dataset_and_its_tables(tmp_path):
    stages = [
        {"name": "epoch", "tmin_s": -0.2, "tmax_s": 0.8, "baseline_s": [None, 0]},
        {"name": "average", "n_trials": 10},
    ]
    prepare(source=OneRecording(), out=tmp_path / "out", stages=stages, segment_s=None, dask="none", progress=False)
    out, flow = staged(OneRecording().list()[0].load(), *stages)
    with_trials = Dataset(tmp_path / "out")
    (rid,) = with_trials.recordings
    assert len(with_trials.valid(rid)) == len(out) == len(flow.events)
    for i, x in enumerate(out):
        assert np.abs(with_trials.read_interval(rid, i) - x).max() < np.ptp(x) * 2**-14
    events = with_trials.events(rid)
    assert [(e["kind"], e["value"], e["label"]) for e in events] == [("average", e.value, e.label) for e in flow.events]
    for e, (a, b) in zip(events, with_trials.valid(rid), strict=True):
        assert a <= e["onset_s"] < b


def test_many_trials_do_not_begin_the_stages_anew():
    began = []

    def begin(interval: int):
        began.append(interval)
        return iter(np.split(np.arange(10_000)[:, None], 100))

    blocks = Forward(begin)
    for a in range(0, 9000, 30):
        assert np.array_equal(np.concatenate([*blocks(0, a, a + 250)])[:, 0], np.arange(a, a + 250))
    assert began == [0]


@settings(max_examples=50, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 120), st.integers(0, 60), st.booleans()), max_size=12),
    cuts=st.lists(st.integers(0, 100), max_size=6),
    behind=st.sampled_from([8, 200, 1 << 20]),
)
def test_spans_are_right_in_any_order(asked, cuts, behind):
    import data_prep.flow

    before, data_prep.flow.BEHIND_BYTES = data_prep.flow.BEHIND_BYTES, behind
    try:
        blocks = Forward(lambda i: iter(np.split(1000 * i + np.arange(100)[:, None], sorted(cuts))))
        for interval, start, length, whole in asked:
            stop = None if whole else start + length
            got = [b[:, 0] for b in blocks(interval, start, stop)]
            whole_interval = 1000 * interval + np.arange(100)
            assert np.array_equal(np.concatenate([np.zeros(0, int), *got]), whole_interval[start:stop])
    finally:
        data_prep.flow.BEHIND_BYTES = before


def test_choices_are_checked():
    for choices in (
        {"tmin_s": 1, "tmax_s": 0},
        {"tmin_s": 0, "tmax_s": 1, "baseline_s": [0.5]},
        {"tmin_s": 0, "tmax_s": 1, "baseline_s": [-0.5, 0]},
    ):
        with pytest.raises(ConfigError, match="epoch"):
            STAGES.build("epoch", **choices)
    for choices in ({"by": "trial"}, {"n_trials": 0}):
        with pytest.raises(ConfigError, match="average"):
            STAGES.build("average", **choices)


def test_blocks_are_shorter_than_these_recordings():
    assert block_samples(RATE) < 20_000
