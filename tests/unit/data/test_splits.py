"""Parts do not overlap, gaps are kept, hashes are stable."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.data.dataset import Dataset
from neurofm.data.splits.files import check_rule
from neurofm.data.splits.parts import by_time, kfold_trials, new_subject, official_parts, whole
from neurofm.data.splits.people import within_subject
from neurofm.data.splits.rules import make_split
from neurofm.data.splits.spans import Span, Split, overlap, require_inside
from neurofm.schema.errors import ConfigError, DataError


def test_new_subject(ramps):
    d = Dataset(ramps)
    s = new_subject(d, subject="2", budgets_s=[5, 12.5], test_s=20, gap_s=2)
    assert s["calibration-5s"] == [Span("sim_sub-2", 0.0, 5.0)]
    assert s["calibration-12.5s"] == [Span("sim_sub-2", 0.0, 12.5)]
    assert s["test"] == [Span("sim_sub-2", 20.0, 40.0)]
    people = {r: d.subject(r) for r in d.recordings}
    found = overlap(s["pretrain"], s["validation"], gap_s=2, subject_of=people)
    assert not found.spans
    assert found.subjects == {"1", "3"}
    assert overlap(s["pretrain"], s["test"], subject_of=people).subjects == set()
    # the last tenth of 35 valid seconds of person 1 lies in the second interval
    assert [x for x in s["validation"] if x.recording_id == "sim_sub-1"] == [Span("sim_sub-1", 41.5, 45.0)]
    with pytest.raises(ConfigError, match=r"subject '2' has 40 s, less than budget 30 \+ gap 2 \+ test 20 s"):
        new_subject(d, subject="2", budgets_s={"all": 30}, test_s=20, gap_s=2)
    with pytest.raises(ConfigError, match="no subject '9'"):
        new_subject(d, subject="9", budgets_s=[1], test_s=1, gap_s=0)


def test_within_subject_pretrains_on_nobodys_end(ramps):
    d = Dataset(ramps)
    s = within_subject(d, subject="2", budgets_s={"5s": 5, "12s": 12}, test_s=10, gap_s=2)
    assert s["calibration-5s"] == [Span("sim_sub-2", 0.0, 5.0)]
    assert s["test"] == [Span("sim_sub-2", 30.0, 40.0)]
    assert [x for x in s["pretrain"] if x.recording_id == "sim_sub-2"] == [Span("sim_sub-2", 0.0, 28.0)]
    assert within_subject(d, subject="2", budgets_s=[5, 12], test_s=10, gap_s=2) == s
    everybody = within_subject(d, test_s=10, gap_s=2)
    assert everybody["pretrain"] == s["pretrain"]
    assert list(everybody.parts) == ["pretrain", "test"]
    assert not overlap(everybody["pretrain"], everybody["test"], gap_s=2).spans
    assert {d.subject(x.recording_id) for x in everybody["test"]} == set(d.subjects)
    with pytest.raises(ConfigError, match=r"subject '2' has 40 s, less than gap 2 \+ test 10 s"):
        within_subject(d, subject="2", budgets_s={"29s": 29}, test_s=10, gap_s=2)
    with pytest.raises(ConfigError, match="no subject '9'"):
        within_subject(d, subject="9", budgets_s={"5s": 5}, test_s=10, gap_s=2)
    with pytest.raises(ConfigError, match="budgets_s is empty"):
        within_subject(d, subject="2", test_s=10, gap_s=2)


WITHIN = dict(rule="within_subject", subject="2", budgets_s={"5s": 5}, test_s=10, gap_s=2)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({**WITHIN, "gap_s": -5}, "gap_s=-5 must be 0 s or more"),
        ({**WITHIN, "test_s": 0}, "test_s=0 must be above 0 s"),
        ({**WITHIN, "budgets_s": {"none": 0, "5s": 5}}, "'none' is 0 s; a calibration must be above 0 s"),
        ({**WITHIN, "rule": "new_subject", "gap_s": -5}, "gap_s=-5 must be 0 s or more"),
        ({**WITHIN, "rule": "new_subject", "test_s": 0}, "test_s=0 must be above 0 s"),
        ({**WITHIN, "rule": "new_subject", "budgets_s": [0]}, "'0s' is 0 s; a calibration must be above 0 s"),
        ({**WITHIN, "rule": "by_subject", "test": ["2"], "gap_s": -5}, "gap_s=-5 must be 0 s or more"),
        ({**WITHIN, "rule": "by_subject", "test": ["2"], "budgets_s": {"none": 0}}, "'none' is 0 s"),
        (dict(rule="by_time", fractions={"a": 0.5, "b": 0.5}, gap_s=-5, gap_reason="r"), "gap_s=-5 must be"),
        (dict(rule="folds_in_time", n_folds=3, fold=0, gap_s=-5), "gap_s=-5 must be 0 s or more"),
        (dict(rule="new_subject_trials", subject="2", budgets=[1], gap_s=-5), "gap_s=-5 must be 0 s or more"),
    ],
)
def test_gaps_below_zero_and_parts_of_nothing_are_a_sentence(ramps, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_split(Dataset(ramps), **choices)


def test_no_file_of_splits_promises_a_gap_below_zero():
    with pytest.raises(ConfigError, match="gap_s=-5 must be 0 s or more"):
        check_rule({"parts": {}, "promises": {"gap_s": -5}}, "x.json")


@pytest.mark.parametrize("rule", ["within_subject", "new_subject"])
def test_without_a_gap_it_is_the_window_and_the_longest_filter(ramps, rule, monkeypatch):
    monkeypatch.setattr("neurofm.data.splits.rules.filter_length_s", lambda dataset: 1.5)
    s = make_split(Dataset(ramps), **{**WITHIN, "rule": rule, "gap_s": None}, window_s=2.0)
    assert s.gap_s == 3.5
    own = [x for x in s["pretrain"] if x.recording_id == "sim_sub-2"]
    assert own == ([Span("sim_sub-2", 0.0, 26.5)] if rule == "within_subject" else [])


def test_volumes_survive_an_odd_rate(tmp_path, shard_maker):
    made = [shard_maker.Made(f"f_sub-{i}", [np.zeros((1200, 2))], rate_hz=1 / 0.72, subject=str(i)) for i in (1, 2)]
    d = Dataset(shard_maker.make(tmp_path, made, segment_s=1e9))
    s = new_subject(d, subject="1", budgets_s=[n * 0.72 for n in (50, 100, 400)], test_s=600 * 0.72, gap_s=0)
    assert [round((x.stop_s - x.start_s) / 0.72, 6) for n in ("36", "72", "288") for x in s[f"calibration-{n}s"]] == [
        50, 100, 400,
    ]  # fmt: skip
    assert round(s["test"][0].start_s / 0.72, 6) == 600


def test_by_time_keeps_the_gap(ramps):
    d = Dataset(ramps)
    s = by_time(d, fractions={"train": 0.6, "validation": 0.2, "test": 0.2}, gap_s=1.5)
    names = list(s.parts)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert not overlap(s[a], s[b], gap_s=1.5).spans
    require_inside(s["test"], whole(d, d.recordings), "test")


def test_official_parts_and_stimuli(trials):
    d = Dataset(trials)
    s = official_parts(d)
    assert (len(s["train"]), len(s["test"])) == (24, 12)
    assert s["train"][7].stimulus_id == "s1"
    assert overlap(s["train"], s["test"]).stimuli == {f"s{i}" for i in range(6)}
    assert not overlap(s["train"], s["test"]).spans
    with pytest.raises(ConfigError, match="official part 'trainn': did you mean 'train'"):
        official_parts(d, parts={"a": "trainn"})
    with pytest.raises(ConfigError, match="official test part"):
        official_parts(d, pretrain=["t_sub-1_run-test"])


def test_kfold_is_stratified_and_complete(trials):
    spans = official_parts(Dataset(trials))["train"]
    labels = [i % 3 for i in range(24)]
    folds = kfold_trials(spans, n_folds=4, seed=3, labels=labels)
    held = [x for f in folds for x in f["validation"]]
    assert sorted(held) == sorted(spans)
    for f in folds:
        assert not overlap(f["train"], f["validation"]).spans
        assert np.bincount([labels[spans.index(x)] for x in f["validation"]]).tolist() == [2, 2, 2]
    again = kfold_trials(spans[::-1], n_folds=4, seed=3, labels=labels[::-1])
    assert [f.hash for f in again] == [f.hash for f in folds]
    assert kfold_trials(spans, n_folds=4, seed=4, labels=labels)[0].hash != folds[0].hash
    with pytest.raises(ConfigError, match="n_folds is 9"):
        kfold_trials(spans, n_folds=9, seed=0, labels=labels)


def test_round_trip_and_hash(tmp_path):
    s = Split(parts={"train": [Span("a", 0.0, 1.5)], "test": [Span("a", 2.0, 3.0, "x")]}, gap_s=0.5, rule="r", seed=1)
    s.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == s
    assert s.hash == "00d3fafd9bb4c169"  # files on disk carry it: changing it is a break of the format
    raw = json.loads((tmp_path / "split.json").read_text())
    raw["parts"]["test"][0][1] = 1.0
    (tmp_path / "split.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match="field 'hash' is"):
        Split.read(tmp_path / "split.json")
    (tmp_path / "split.json").write_text("{}")
    with pytest.raises(DataError, match="is not a split"):
        Split.read(tmp_path / "split.json")
    with pytest.raises(ConfigError, match="no part 'trainn': did you mean 'train'"):
        s["trainn"]


spans = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 9)).map(
        lambda x: Span(x[0], x[1], x[1] + x[2])
    ),
    max_size=8,
)


@settings(deadline=None)
@given(a=spans, b=spans, gap=st.integers(0, 4))
def test_overlap_equals_the_double_loop(a, b, gap):
    expected = [
        (x, y)
        for x in a
        for y in b
        if x.recording_id == y.recording_id and x.start_s < y.stop_s + gap and y.start_s < x.stop_s + gap
    ]
    assert sorted(overlap(a, b, gap_s=gap).spans) == sorted(expected)
