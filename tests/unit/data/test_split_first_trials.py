"""Trials per class, counted in time, tested on later ones."""

import itertools

import numpy as np
import pytest

from neurofm.adapt.budgets import with_budgets
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.data.splits.spans import overlap
from neurofm.schema.errors import ConfigError

RATE = 20.0
# classes of the held-out person's trials, in time
ORDER = "aabababbba" + "ab" * 5


@pytest.fixture
def trials(tmp_path, shard_maker):
    """Two people of labelled trials in two runs each, the names of which sort against their order; one rests as well."""
    rng = np.random.default_rng(0)
    made = []
    for person in ("1", "2"):
        for run, (labels, name) in enumerate(((ORDER[:10], "z"), (ORDER[10:], "a"))):
            events = [
                {"onset_s": 2.0 * i + 0.3, "duration_s": 0.0, "kind": "trial", "label": label, "trial": i}
                for i, label in enumerate(labels)
            ]
            made.append(
                shard_maker.Made(
                    f"{name}{person}_run{run}", list(rng.standard_normal((10, 20, 2))), rate_hz=RATE, subject=person,
                    starts_s=[2.0 * i for i in range(10)], part=("train", "test")[run], events=events,
                )
            )  # fmt: skip
    made.append(shard_maker.Made("rest1", [rng.standard_normal((400, 2))], rate_hz=RATE, subject="1"))
    made.append(shard_maker.Made("rest2", [rng.standard_normal((400, 2))], rate_hz=RATE, subject="2"))
    d = Dataset(shard_maker.make(tmp_path, made))
    for r, row in d.recordings.items():
        row["run"] = r.partition("_run")[2]
    return d


def labels_of(dataset, spans):
    events = {r: dataset.events(r) for r in {s.recording_id for s in spans}}
    found = [[e["label"] for e in events[s.recording_id] if s.start_s <= e["onset_s"] < s.stop_s] for s in spans]
    return "".join(itertools.chain.from_iterable(found))


def test_the_first_of_every_class(trials):
    split = make_split(trials, rule="new_subject_trials", subject="2", budgets=[1, 3], test_fraction=0.5)
    # aab ababbba: the third b is the seventh trial
    assert labels_of(trials, split["calibration-1"]) == "ab"
    assert labels_of(trials, split["calibration-3"]) == "aababb"
    assert [s.start_s for s in split["calibration-3"]] == [0.0, 2.0, 4.0, 6.0, 8.0, 12.0]
    assert labels_of(trials, split["test"]) == "ab" * 5
    assert {s.recording_id for s in split["test"]} == {"a2_run1"}, "runs follow by number, not by name"
    people = {r: trials.subject(r) for r in trials.recordings}
    met = overlap(split["pretrain"] + split["validation"], split["test"] + split["calibration-3"], subject_of=people)
    assert not met.subjects
    assert not overlap(split["pretrain"], split["validation"]).spans
    assert "rest1" in {s.recording_id for s in split["pretrain"]}, "others give all they have"


def test_smaller_budgets_are_the_beginning_of_larger_ones_and_the_test_stays(trials):
    how = dict(rule="new_subject_trials", subject="1", test_part="test")
    splits = [make_split(trials, budgets=b, **how) for b in ([1, 2], [4])]
    assert set(splits[0]["calibration-1"]) < set(splits[0]["calibration-2"]) < set(splits[1]["calibration-4"])
    assert splits[0]["test"] == splits[1]["test"]
    last = max(s.start_s for s in splits[1]["calibration-4"])
    assert all(s.recording_id == "a1_run1" or s.start_s > last for s in splits[1]["test"])


def test_continuous_recordings_and_gap(tmp_path, shard_maker):
    events = [{"onset_s": 3.0 * i + 1, "duration_s": 0.0, "kind": "cue", "label": "ab"[i % 2]} for i in range(10)]
    made = [shard_maker.Made(f"r{p}", [np.zeros((700, 2))], rate_hz=RATE, subject=p, events=events) for p in "12"]
    d = Dataset(shard_maker.make(tmp_path, made))
    how = dict(rule="new_subject_trials", subject="2", budgets=[2], label_kind="cue", test_fraction=0.6)
    split = make_split(d, around_s=[-0.5, 1.0], **how)
    assert [(s.start_s, s.stop_s) for s in split["calibration-2"]] == [(0.5 + 3 * i, 2.0 + 3 * i) for i in range(4)]
    assert len(split["test"]) == 6
    with pytest.raises(ConfigError, match="within gap_s=5 of a tested one"):
        make_split(d, around_s=[-0.5, 1.0], gap_s=5.0, **how)
    with pytest.raises(ConfigError, match="give around_s"):
        make_split(d, **how)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (dict(budgets=[8]), "has 5 trials of 'a' before its test part, fewer than the budget of 8"),
        (dict(budgets=[]), "at least 1"),
        (dict(budgets=[1], test_fraction=1.0), "between 0 and 1"),
        (dict(budgets=[1], test_part="exam"), "0 to test"),
        (dict(budgets=[1], label_kind="cue"), "0 trials to calibrate on"),
        (dict(budgets=[1], subject="9"), "no subject '9'"),
    ],
)
def test_refusals(trials, choices, said):
    with pytest.raises(ConfigError, match=said):
        make_split(trials, rule="new_subject_trials", **{"subject": "2", **choices})


def test_budgets_in_units():
    data = {"id": "x", "split": {"rule": "new_subject", "subject": "1", "budgets_s": {"a": 3}, "test_s": 9}}
    assert with_budgets(data, [1, 2.5], "minutes", rate_hz=10)["split"]["budgets_s"] == {"1": 60.0, "2.5": 150.0}
    assert with_budgets(data, [50], "volumes", rate_hz=1 / 0.72)["split"]["budgets_s"] == {"50": pytest.approx(36.0)}
    assert data["split"]["budgets_s"] == {"a": 3}, "the given choices are left as they are"
    assert with_budgets(data, [1], "minutes", rate_hz=1)["split"]["test_s"] == 9
    trials = {"id": "x", "split": {"rule": "new_subject_trials", "budgets": [1]}}
    assert with_budgets(trials, [2, 5], "trials_per_class", rate_hz=1)["split"]["budgets"] == [2, 5]
    for given, budgets, unit, said in [
        (data, [1], "trials_per_class", "needs data.split.rule=new_subject_trials"),
        (trials, [1], "minutes", "needs data.split.rule=new_subject or by_subject"),
        (data, [1], "hours", "'hours' is unknown"),
        (data, [0], "minutes", "'0' is not a number above 0"),
        (data, ["all"], "minutes", "'all' is not a number"),
        (trials, [1.5], "trials_per_class", "whole numbers"),
        ({"split": "split.json"}, [1], "minutes", "is a file"),
    ]:
        with pytest.raises(ConfigError, match=said):
            with_budgets(given, budgets, unit, rate_hz=1.0)
