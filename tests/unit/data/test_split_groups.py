"""Splits by session, run, stimulus, concept and time: disjoint, complete, drawn from sorted ids by the seed."""

import pytest

from neurofm.data.dataset import Dataset
from neurofm.data.splits.filter_length import filter_length_s
from neurofm.data.splits.rules import make_split
from neurofm.data.splits.spans import overlap
from neurofm.schema.errors import ConfigError, DataError


def shown(spans):
    return {s.stimulus_id for s in spans}


def test_by_stimulus_keeps_repetitions_together(trials):
    d = Dataset(trials)
    split = make_split(d, rule="by_stimulus", test=2, validation=1, seed=4)
    parts = {k: split[k] for k in ("train", "validation", "test")}
    assert split["pretrain"] == parts["train"]
    assert [len(shown(p)) for p in parts.values()] == [3, 1, 2]
    assert sum(map(len, parts.values())) == 36
    assert not shown(parts["train"]) & shown(parts["test"])
    assert split == make_split(d, rule="by_stimulus", test=2, validation=1, seed=4)
    assert any(make_split(d, rule="by_stimulus", test=2, seed=s)["test"] != parts["test"] for s in range(5))
    named = make_split(d, rule="by_stimulus", test=["s3"])
    assert shown(named["test"]) == {"s3"}
    with pytest.raises(ConfigError, match="test: stimulus 's33' is unknown: did you mean 's3'"):
        make_split(d, rule="by_stimulus", test=["s33"])
    with pytest.raises(ConfigError, match="6 of 6 of stimulus are held out"):
        make_split(d, rule="by_stimulus", test=6)


def test_by_concept(trials):
    d = Dataset(trials)
    concept_of = {f"s{i}": "animal" if i < 2 else "tool" if i < 4 else "food" for i in range(6)}
    split = make_split(d, rule="by_concept", test=["tool"], concept_of=concept_of)
    assert shown(split["test"]) == {"s2", "s3"}
    assert shown(split["train"]) == {"s0", "s1", "s4", "s5"}
    with pytest.raises(DataError, match="'s5' has no concept"):
        make_split(d, rule="by_concept", test=1, concept_of={f"s{i}": "c" for i in range(5)})
    with pytest.raises(DataError, match="no such table"):
        make_split(d, rule="by_concept", test=1)


def test_stimuli_of_continuous_recordings(tmp_path, shard_maker):
    events = [{"onset_s": 1.0 + 2 * i, "stimulus_id": f"s{i % 5}", "kind": "image"} for i in range(20)]
    made = shard_maker.Made("c_1", [shard_maker.ramp(420, 2)], events=events)
    d = Dataset(shard_maker.make(tmp_path, [made]))
    split = make_split(d, rule="by_stimulus", test=1, around_s=[-0.2, 1.0])
    assert len(split["test"]) == 4
    assert len(split["train"]) == 16
    assert not overlap(split["train"], split["test"]).spans
    with pytest.raises(ConfigError, match="give around_s"):
        make_split(d, rule="by_stimulus", test=1)
    with pytest.raises(ConfigError, match="shorten around_s"):
        make_split(d, rule="by_stimulus", test=1, around_s=[-0.5, 1.8])


def test_by_session_and_run(tmp_path, shard_maker):
    made = [shard_maker.Made(f"r{i}", [shard_maker.ramp(100, 2)], subject=str(i // 3)) for i in range(6)]
    d = Dataset(shard_maker.make(tmp_path, made))
    for i, row in enumerate(d.recordings.values()):
        row["session"] = str(i % 3)
    split = make_split(d, rule="by_session", test=["2"], validation=1)
    assert {s.recording_id for s in split["test"]} == {"r2", "r5"}
    assert len(split["train"]) == len(split["validation"]) == 2
    with pytest.raises(ConfigError, match="not every recording has a run"):
        make_split(d, rule="by_run", test=1)
    with pytest.raises(ConfigError, match="column is 'sessionn': did you mean 'session'"):
        make_split(d, rule="by_column", column="sessionn", test=1)


def test_time_gap_holds_window_and_filter(ramps):
    d = Dataset(ramps, only={"subject": "2"})
    rule = {"rule": "by_time", "fractions": {"train": 0.5, "test": 0.5}, "window_s": 2.0}
    assert make_split(d, **rule).gap_s == 2.0
    d.manifest.prep["stages"] = [{"name": "notch", "line_hz": 50}, {"name": "filter", "low_hz": 0.5, "high_hz": 40}]
    assert filter_length_s(d) == pytest.approx(6.6)
    split = make_split(d, **rule)
    assert split["test"][0].start_s - split["train"][-1].stop_s >= 8.6 - 1e-9
    with pytest.raises(ConfigError, match=r"gap_s=8 is below the window of 2 s plus .*8\.6 s together.*gap_reason"):
        make_split(d, **rule, gap_s=8)
    published = make_split(d, **rule, gap_s=0, gap_reason="as published")
    assert published.gap_s == 0
    assert "as published" in published.rule
    d.manifest.prep["stages"] = [{"name": "iir", "low_hz": 1}]
    with pytest.raises(ConfigError, match=r"stage 'iir'.*give the split's gap_s"):
        make_split(d, **rule)
    assert make_split(d, **rule, gap_s=2).gap_s == 2
    with pytest.raises(ConfigError, match="gap_s=1 is below the window of 2 s"):
        make_split(d, **rule, gap_s=1)


def test_filter_lengths_are_those_of_the_stages(ramps):
    """Oracle: the kernels that preparation designs."""
    from data_prep.stages import STAGES
    from data_prep.stages.base import SignalInfo

    d = Dataset(ramps)
    for stage in ({"name": "filter", "low_hz": 0.3, "high_hz": 70}, {"name": "filter", "high_hz": 4},
                  {"name": "filter", "low_hz": 12}, {"name": "notch", "line_hz": 60, "transition_hz": 0.7}):  # fmt: skip
        d.manifest.prep["stages"] = [stage]
        built = STAGES.build(stage["name"], **{k: v for k, v in stage.items() if k != "name"})
        info = object.__new__(SignalInfo)
        object.__setattr__(info, "rate_hz", 500.0)
        assert len(built.design(info)) / 500 == pytest.approx(filter_length_s(d), abs=0.01)
