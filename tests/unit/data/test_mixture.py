"""Several datasets as one: who is who, what is opened, and how often each comes."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.loading.mixing import mixing_weights
from neurofm.data.mixture import Mixture, members_of, open_datasets
from neurofm.data.splits.spans import Span, Split
from neurofm.data.task import Task
from neurofm.schema.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def two(tmp_path_factory, shard_maker):
    """Dataset a: 4 people of 60 s at 10 Hz, one of them with task rest; b: 1 person of 30 s at 20 Hz."""
    make, ramp, made = shard_maker.make, shard_maker.ramp, shard_maker.Made
    a, b = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    make(a, [made(f"a_sub-{i}", [ramp(600, 3)], subject=str(i)) for i in range(1, 5)], dataset_id="a")
    events = [{"onset_s": t, "kind": "k", "label": "xy"[i % 2], "trial": i} for i, t in enumerate((1.0, 14.0, 29.5))]
    make(b, [made("b_sub-1", [ramp(600, 2, rate_hz=20.0)], rate_hz=20.0, events=events)], dataset_id="b")
    return str(a), str(b)


EVERYTHING = {"rule": "everything"}


def corpus(two, **choices):
    return Corpus(
        **{"path": list(two), "split": EVERYTHING, "task": Task(window_s=1.0), "mixed_rates": True, **choices}
    )


def test_a_mixture_reads_like_its_members(two):
    a, b = Dataset(two[0]), Dataset(two[1])
    both = pickle.loads(pickle.dumps(open_datasets(list(two))))
    assert members_of(both)[1].id == "b"
    assert set(both.recordings) == {*a.recordings, *b.recordings}
    assert both.subjects == ["a/1", "a/2", "a/3", "a/4", "b/1"]
    for d, r in ((a, "a_sub-2"), (b, "b_sub-1")):
        np.testing.assert_array_equal(both.read(r, 3.0, 7), d.read(r, 3.0, 7))
        assert (both.rate_hz(r), both.valid(r)) == (d.rate_hz(r), d.valid(r))
        assert repr(both.channels(r)) == repr(d.channels(r))  # NaN positions
        assert repr(both.events(r)) == repr(d.events(r))
    assert both.manifest.content_hash not in (a.manifest.content_hash, b.manifest.content_hash)
    assert isinstance(open_datasets(two[0]), Dataset)
    assert not isinstance(open_datasets([two[0]]), Mixture)


def test_batches_never_mix_rates_and_name_their_dataset(two):
    made = corpus(two)
    facts = made.facts("pretrain")
    assert (facts.rate_hz, facts.max_channels) == (20.0, 3)
    loader = made.loader("pretrain", facts, batch_size=5, seed=0, training=True)
    rates = set()
    for batch in loader:
        ids = {r[0] for r in batch.recording_id}
        assert ids == {{10.0: "a", 20.0: "b"}[batch.rate_hz]}
        assert batch.signal.shape[-1] == batch.rate_hz
        assert [facts.subjects[s - 1].split("/")[0] for s in batch.subject.tolist()] == [
            r[0] for r in batch.recording_id
        ]
        rates.add(batch.rate_hz)
    assert rates == {10.0, 20.0}
    provenance = made.provenance("pretrain")
    assert [(d["id"], round(d["hours"] * 3600)) for d in provenance["datasets"]] == [("a", 240), ("b", 30)]
    assert provenance["subjects"] == ["a/1", "a/2", "a/3", "a/4", "b/1"]
    with pytest.raises(DataError, match=r"have rates \[10.0, 20.0\] Hz"):
        corpus(two, mixed_rates=False).facts("pretrain")


@pytest.mark.parametrize(("choice", "share_of_b"), [
    ({}, 30 / 270), ({"temperature": 1}, 30 / 270), ({"temperature": 0}, 0.5), ({"shares": {"a": 1, "b": 3}}, 0.75),
    ({"temperature": 0.5}, 30**0.5 / (30**0.5 + 240**0.5)),
])  # fmt: skip
def test_shares_of_an_epoch(two, choice, share_of_b):
    made = corpus(two, **choice)
    loader = made.loader("pretrain", made.facts("pretrain"), batch_size=5, seed=0, training=True)
    seconds = {"a": 0.0, "b": 0.0}
    for batch in loader:
        for r in batch.recording_id:
            seconds[r[0]] += batch.signal.shape[-1] / batch.rate_hz
    total = sum(seconds.values())
    assert total == pytest.approx(270, abs=10)  # an epoch keeps its length, but for two incomplete batches
    assert seconds["b"] / total == pytest.approx(share_of_b, abs=0.02)
    plain = made.loader("pretrain", made.facts("pretrain"), batch_size=5, seed=0, training=False)
    assert sum(len(b) for b in plain) == 270  # evaluation takes every window once


def test_what_is_not_selected_is_not_opened(two, tmp_path):
    import shutil

    folder = shutil.copytree(two[0], tmp_path / "copy")
    for i in (1, 3, 4):
        (folder / "shards" / f"sub-{i}-000000.tar").unlink()
        (folder / "shards" / f"sub-{i}-000000.tar.idx").unlink()
    with pytest.raises(DataError, match="is missing"):
        Dataset(folder)
    chosen = [{"path": str(folder), "select": {"subject": "2"}}, two[1]]
    made = Corpus(path=chosen, split=EVERYTHING, mixed_rates=True, task=Task(window_s=1.0))
    assert made.dataset.subjects == ["a/2", "b/1"]
    assert (
        sum(len(b) for b in made.loader("pretrain", made.facts("pretrain"), batch_size=5, seed=0, training=False)) == 90
    )
    with pytest.raises(ConfigError, match="no subject '9'"):
        Corpus(path=str(folder), split=EVERYTHING, select={"subject": "9"}, task=Task(window_s=1.0))


def test_wrong_mixtures(two):
    with pytest.raises(ConfigError, match="two of the mixed datasets have the id 'a'"):
        open_datasets([two[0], two[0]])
    with pytest.raises(ConfigError, match="an entry has no key 'selectt': did you mean 'select'"):
        open_datasets([{"path": two[0], "selectt": {}}, two[1]])
    ask = lambda **k: mixing_weights(["a", "b"], [1.0, 1.0], **k)  # noqa: E731
    assert ask() is None
    with pytest.raises(ConfigError, match="choose one"):
        ask(shares={"a": 1, "b": 1}, temperature=1)
    with pytest.raises(ConfigError, match="no dataset 'bb' in this part: did you mean 'b'"):
        ask(shares={"a": 1, "bb": 1})
    with pytest.raises(ConfigError, match="dataset 'b' needs a share above 0"):
        ask(shares={"a": 1})


def test_event_windows_jitter_and_stay_inside(two):
    task = Task(window_s=2.0, offset_s=-0.5, windows="event", label_kind="k", incomplete="drop", jitter_s=0.4)
    made = Corpus(path=two[1], split=EVERYTHING, task=task)
    facts = made.facts("pretrain")
    assert facts.classes == ("x", "y")
    windows = made.cut("pretrain", facts)
    assert [(w.start_s, w.target, w.slack_samples, w.trial) for w in windows] == [(0.5, 0, 8, 0), (13.5, 1, 8, 1)]
    loader = made.loader("pretrain", facts, batch_size=2, seed=0, training=True)
    starts = np.array([next(b.start_s[b.sample_id.argsort()].tolist() for b in loader) for _ in range(12)])
    assert np.ptp(starts, axis=0).min() > 0
    assert (starts >= [0.5, 13.5]).all()
    assert (starts <= [0.9, 13.9]).all()
    with pytest.raises(DataError, match="sticks out"):
        Corpus(path=two[1], split=EVERYTHING, task=replace(task, incomplete="error")).cut("pretrain", facts)
    unlabelled = Corpus(path=two[1], split=EVERYTHING, task=Task(windows="event", labels=False, window_s=0.5))
    assert [w.target for w in unlabelled.cut("pretrain", unlabelled.facts("pretrain"))] == [None] * 3
    with pytest.raises(ConfigError, match="needs label_kind"):
        Corpus(path=two[1], split=EVERYTHING, task=Task(windows="event", window_s=0.5))


def test_random_windows_cross_segments_but_never_a_gap(ramps):
    # segments of 6 s; person 1 has a gap from 20 to 30 s
    made = Corpus(
        path=str(ramps),
        split=EVERYTHING,
        select={"subject": ["1", "2"]},
        task=Task(windows="random", window_s=8.0, n_windows=300, jitter_s=3.0),
    )
    facts = made.facts("pretrain")
    crossed = 0
    for batch in made.loader("pretrain", facts, batch_size=20, seed=0, training=True):
        for r, start, x in zip(batch.recording_id, batch.start_s.tolist(), batch.signal, strict=True):
            np.testing.assert_allclose(x[0], start + np.arange(80) / 10, atol=1e-4)  # value = time: nothing skipped
            crossed += int(start // 6 != (start + 7.9) // 6)
            if r == "sim_sub-1":
                assert start + 7.9 < 20 or start >= 30
    assert crossed > 200


def test_a_split_is_written_and_given_again(two, tmp_path):
    rule = {"rule": "by_subject", "test": 1, "seed": 3}
    first = corpus(two, split=rule)
    first.split.write(tmp_path / "split.json")
    again = corpus(two, split=str(tmp_path / "split.json"))
    assert again.split == first.split
    assert again.split.hash == json.loads((tmp_path / "split.json").read_text())["hash"]
    with pytest.raises(DataError, match=r"names the recording 'a_sub-.*does not hold"):
        corpus(two, path=two[1], split=str(tmp_path / "split.json"))
    Split(parts={"pretrain": [Span("b_sub-1", 0, 31)]}).write(tmp_path / "long.json")
    with pytest.raises(DataError, match="reaches from 0 to 31 s of 'b_sub-1', which lasts from 0 to 30 s"):
        corpus(two, split=str(tmp_path / "long.json"))


def test_a_recording_for_a_model_of_two_preparations_is_refused():
    from neurofm.api.pretrained import stages_of

    assert stages_of({"prep": {"stages": [{"name": "notch"}]}}) == [{"name": "notch"}]
    with pytest.raises(ConfigError, match=r"different stages \(a, b\)"):
        stages_of({"prep": {"members": {"a": {}, "b": {}}}})
