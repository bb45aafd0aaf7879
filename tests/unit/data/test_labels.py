"""Windows labelled by events that last, and splits by person."""

import numpy as np
import pytest

from neurofm.data.dataset import Dataset
from neurofm.data.labels import classes_in, labelled_windows
from neurofm.data.splits.people import by_subject
from neurofm.data.splits.spans import Span, overlap
from neurofm.schema.errors import ConfigError, DataError

CLASSES = ("background", "seizure")


def event(onset_s, duration_s, label="seizure", kind="seizure"):
    return {"onset_s": onset_s, "duration_s": duration_s, "kind": kind, "label": label}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, shard_maker):
    """Five people of 100 s at 10 Hz; the first has seizures at 20–30 s and 58–62 s, and a gap from 40 to 50 s."""
    made = [
        shard_maker.Made(
            "r1", [np.zeros((400, 2)), np.zeros((500, 2))], starts_s=[0.0, 50.0], subject="1",
            events=[event(20, 10), event(58, 4), event(0, 60, "sleep", "state"), event(60, 40, "wake", "state")],
        )
    ]  # fmt: skip
    made += [shard_maker.Made(f"r{k}", [np.zeros((1000, 2))], subject=str(k)) for k in range(2, 6)]
    folder = tmp_path_factory.mktemp("labels") / "set"
    shard_maker.make(folder, made)
    return Dataset(folder)


WHOLE = (Span("r1", 0.0, 100.0),)


def cut(dataset, spans=WHOLE, **choices):
    defaults = dict(window_s=4.0, stride_s=4.0, kind="seizure", classes=CLASSES, background="background")
    return labelled_windows(dataset, spans, **{**defaults, **choices})


def ictal(windows):
    return [w.start_s for w in windows if w.target == 1]


def test_more_than_half_of_the_window(dataset):
    # 28 to 32 is ictal for 2 s of 4, which is not more than half; so is 58 to 62 in windows from 50: 58 to 62 itself
    assert ictal(cut(dataset)) == [20.0, 24.0, 58.0]
    assert ictal(cut(dataset, fraction=0.49)) == [20.0, 24.0, 28.0, 58.0]


def test_any_overlap_of_the_last_seconds_as_published(dataset):
    windows = cut(dataset, window_s=12.0, label_s=4.0, fraction=0.0)
    # the last 4 s of a window from t are t + 8 to t + 12
    assert ictal(windows) == [12.0, 16.0, 20.0, 50.0]
    # touching an onset is no overlap
    assert 8.0 not in ictal(windows)


def test_no_window_crosses_a_gap_or_leaves_its_span(dataset):
    spans = [Span("r1", 0.0, 21.0), Span("r1", 21.0, 100.0)]
    for w in cut(dataset, spans=spans, window_s=6.0, stride_s=2.0):
        assert any(s.start_s - 1e-9 <= w.start_s and w.start_s + 6.0 <= s.stop_s + 1e-9 for s in spans)
        assert not (w.start_s < 50.0 and w.start_s + 6.0 > 40.0)
        assert w.slack_samples == 0


def test_states_without_background_leave_undecided_windows_out(dataset):
    windows = cut(dataset, kind="state", classes=("sleep", "wake"), background=None)
    assert [w.target for w in windows if w.start_s >= 50.0] == [0, 0] + [1] * 9
    # 58 to 62 is half sleep, half wake
    assert 58.0 not in [w.start_s for w in windows]


def test_classes_come_from_events_that_reach_into_the_part(dataset):
    spans = [Span("r1", 25.0, 28.0)]
    assert classes_in(dataset, spans, kind="seizure", background="background") == CLASSES
    with pytest.raises(DataError, match="no labelled event"):
        classes_in(dataset, [Span("r1", 0.0, 19.0)], kind="seizure", background=None)


@pytest.mark.parametrize(
    ("choices", "word"),
    [({"label_s": 9.0}, "label_s"), ({"fraction": 1.0}, "label_fraction"), ({"background": "none"}, "background")],
)
def test_senseless_choices_are_named(dataset, choices, word):
    with pytest.raises(ConfigError, match=word):
        cut(dataset, **choices)
    with pytest.raises(DataError, match="seizure"):
        cut(dataset, classes=("background", "seizures"))


def test_people_belong_to_one_part_whatever_is_asked(dataset):
    subject_of = {r: dataset.subject(r) for r in dataset.recordings}
    split = by_subject(dataset, test=2, validation=1, seed=3)
    parts = [split[p] for p in ("pretrain", "validation", "test")]
    assert sorted(subject_of[s.recording_id] for spans in parts for s in spans if s.start_s == 0) == list("12345")
    assert split["train"] == split["pretrain"]
    assert not overlap(split["pretrain"], split["test"], subject_of=subject_of).subjects
    assert by_subject(dataset, test=2, validation=1, seed=3).hash == split.hash
    named = by_subject(dataset, test=["4"], validation=["2"])
    assert {s.recording_id for s in named["test"]} == {"r4"}
    assert {s.recording_id for s in named["validation"]} == {"r2"}


def test_calibration_comes_before_the_test_and_changes_nobody_else(dataset):
    choices = dict(test=["2", "3"], budgets_s={"a": 20.0, "b": 40.0}, gap_s=5.0)
    one, other = (by_subject(dataset, subject=s, **choices) for s in ("2", "3"))
    assert one["pretrain"] == other["pretrain"] == by_subject(dataset, test=["2", "3"])["pretrain"]
    assert one["calibration-a"] == [Span("r2", 0.0, 20.0)]
    assert one["test"] == [Span("r2", 45.0, 100.0)]
    assert by_subject(dataset, subject="2", test_s=30.0, **choices)["test"] == [Span("r2", 70.0, 100.0)]


@pytest.mark.parametrize(
    ("choices", "word"),
    [
        ({"test": 5}, "left to train on"),
        ({"test": 9}, "test is 9"),
        ({"test": ["7"]}, "no subject '7'"),
        ({"test": ["2"], "validation": ["2"]}, "one part"),
        ({"test": ["2"], "subject": "3", "budgets_s": {"a": 1.0}}, "not one of the tested"),
        ({"test": ["2"], "subject": "2"}, "budgets_s is empty"),
        ({"test": ["2"], "subject": "2", "budgets_s": {"a": 90.0}, "gap_s": 20.0}, "less than"),
    ],
)
def test_impossible_splits_are_named(dataset, choices, word):
    with pytest.raises(ConfigError, match=word):
        by_subject(dataset, **choices)
