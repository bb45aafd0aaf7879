"""Every pitfall that is marked "refuse": the fault is planted, and caught."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from neurofm.benchmarks.decoding.controls import apply_control, controls_of
from neurofm.benchmarks.decoding.estimators import Instances, Shape, build
from neurofm.benchmarks.decoding.examples import Examples, read_examples
from neurofm.benchmarks.decoding.folds import protocol_of
from neurofm.benchmarks.decoding.probe import audit_checkpoint
from neurofm.benchmarks.decoding.task import score_decoding
from neurofm.benchmarks.guards.audit import audit, refuse_on_leak
from neurofm.benchmarks.guards.folds import guard_fold, same_twice
from neurofm.benchmarks.guards.pitfalls import PITFALLS, table
from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.files import folds_of, read_rule, rule_hash
from neurofm.data.splits.spans import Span, Split
from neurofm.data.task import Task
from neurofm.data.transforms.base import Compose
from neurofm.data.windows import Window
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import write_json

DOCS = Path(__file__).parents[4] / "docs" / "evaluation.md"


def examples(n=40, *, start=0.0, recording="r1", subject="1", seed=0, **changed):
    rng = np.random.default_rng([seed, n])
    times = start + np.arange(n) * 2.0
    made = Examples(
        x=rng.standard_normal((n, 3, 8)).astype(np.float32) * 20, y=rng.permutation(np.array(list("ab") * (n // 2))),
        recording_id=np.full(n, recording), subject=np.full(n, subject), session=np.full(n, ""), stimulus=np.full(n, ""),
        start_s=times, stop_s=times + 1, block=np.full(n, -1), position=times / 1000, rate_hz=8.0, amplitude={"uV": 20.0},
        kinds=("eeg",), digest=np.array([f"{seed}-{recording}-{t}" for t in times]),
    )  # fmt: skip
    return replace(made, **changed)


def pair(**test):
    return examples(start=0.0), examples(start=500.0, seed=1, **test)


def leaks(train, test, **promises):
    return {f.check for f in guard_fold(train, test, promises=promises) if f.severity == "leak"}


def test_clean_fold_passes():
    assert leaks(*pair()) == set()
    assert leaks(examples(), examples(recording="r2", subject="2", seed=1), new_subject=True, gap_s=5.0) == set()


def test_overlapping_windows():
    train, _ = pair()
    assert leaks(train, examples(start=0.5, seed=1)) == {"interval"}
    with pytest.raises(DataError, match="training part"):
        refuse_on_leak(guard_fold(train, examples(start=0.5, seed=1)))
    refuse_on_leak(guard_fold(train, examples(start=0.5, seed=1)), allow_leak="to show what a leak is worth")


def test_gap_that_is_not_kept():
    train = examples()
    assert leaks(train, examples(start=82.0, seed=1), gap_s=1.0) == set()
    assert leaks(train, examples(start=82.0, seed=1), gap_s=10.0) == {"interval"}


def test_person_on_both_sides():
    train = examples()
    assert leaks(train, examples(recording="r2", seed=1), new_subject=True) == {"subject"}
    assert leaks(train, examples(recording="r2", seed=1)) == set()


def test_block_design():
    # blocks of ten of one class; every other trial of a block is tested
    labels = np.repeat(np.array(list("abcd") * 2), 10)
    everything = examples(80, y=labels)
    half = np.arange(80) % 2 == 0
    cut = {k: getattr(everything, k) for k in vars(everything) if isinstance(getattr(everything, k), np.ndarray)}
    train, test = (replace(everything, **{k: v[m] for k, v in cut.items()}) for m in (half, ~half))
    assert leaks(train, test) == {"block"}
    # the same labels in random order, and whole blocks held out, are no blocks that are shared
    mixed = np.random.default_rng(3).permutation(labels)
    assert leaks(replace(train, y=mixed[half]), replace(test, y=mixed[~half])) == set()
    # windows of one clip share its label by nature: clips in random order are no blocks, blocks of clips are
    clips = replace(everything, y=np.repeat(np.random.default_rng(5).permutation(list("ab") * 8), 5))
    for shown, found in ((clips.y, set()), (np.repeat(list("ab"), 40), {"block"})):
        whole = replace(clips, y=shown, stimulus=np.repeat([f"clip{k}" for k in range(16)], 5))
        cut = {k: getattr(whole, k) for k in vars(whole) if isinstance(getattr(whole, k), np.ndarray)}
        tested = np.repeat(np.arange(16) % 2 == 1, 5)
        parts = (replace(whole, **{k: v[m] for k, v in cut.items()}) for m in (~tested, tested))
        assert leaks(*parts) == found
    cut = {k: getattr(everything, k) for k in cut}
    later = np.arange(80) >= 40
    whole = [replace(everything, **{k: v[m] for k, v in cut.items()}) for m in (~later, later)]
    assert leaks(*whole) == set()


def test_repeated_stimulus():
    train = examples(stimulus=np.array([f"image{i % 5}" for i in range(40)]))
    test = examples(start=500.0, seed=1, stimulus=np.array([f"image{4 + i % 3}" for i in range(40)]))
    assert leaks(train, test) == {"stimulus"}
    assert leaks(train, test, shared_stimuli="one set for all") == set()
    said = [
        f.message
        for f in guard_fold(train, test, promises={"shared_stimuli": "one set for all"})
        if f.severity == "warning"
    ]
    assert "one set for all" in said[0]


def test_training_on_the_test_part(trials):
    corpus = Corpus(
        path=str(trials), split={"rule": "official"}, task=Task(window_s=1.0, windows="trial", label_kind="move")
    )
    facts = corpus.facts("train")
    corpus.loader("train", facts, batch_size=4, seed=0, training=True)
    with pytest.raises(ConfigError, match="only for `neurofm evaluate`"):
        corpus.loader("test", facts, batch_size=4, seed=0, training=True)


def test_fit_on_the_test_part(trials):
    corpus = Corpus(
        path=str(trials),
        split={"rule": "official"},
        transforms=[{"name": "standardize"}],
        task=Task(window_s=1.0, windows="trial", label_kind="move"),
    )
    with pytest.raises(ConfigError, match="only for `neurofm evaluate`"):
        corpus.fit_transforms("test")
    with pytest.raises(DataError, match="outside the part"):
        Compose(transforms=[{"name": "standardize"}]).fit(
            corpus.dataset, corpus.split["test"], allowed=corpus.split["train"]
        )


SHARED = SimpleNamespace(kept=None)


class Kept:
    """Hands out one and the same estimator for ever."""

    def __new__(cls):
        from sklearn.linear_model import RidgeClassifier

        SHARED.kept = SHARED.kept or RidgeClassifier()
        return SHARED.kept


def restless():
    """A network whose first weights are not those of the seed."""
    import torch

    torch.manual_seed(next(COUNT))
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 2))


COUNT = itertools.count()


def test_folds_that_share_a_model():
    shape = Shape(3, 8, 8.0, 2)
    SHARED.kept = None
    instances = Instances()
    spec = {"class": f"{__name__}:Kept"}
    instances.check("kept", build("kept", spec, shape, seed=0), shape, 0)
    with pytest.raises(DataError, match="the same object in two folds"):
        instances.check("kept", build("kept", spec, shape, seed=0), shape, 0)
    SHARED.kept.fit(np.eye(4), list("abab"))
    with pytest.raises(DataError, match="fitted before"):
        Instances().check("kept", build("kept", spec, shape, seed=0), shape, 0)
    spec, instances = {"class": f"{__name__}:restless"}, Instances()
    instances.check("restless", build("restless", spec, shape, seed=0), shape, 0)
    with pytest.raises(DataError, match="other weights in a later fold"):
        instances.check("restless", build("restless", spec, shape, seed=0), shape, 0)


def checkpoint(dataset, spans, **provenance):
    """What a probe says of where its checkpoint comes from."""
    own = {"split": {"spans": spans}, "datasets": [{"id": "t"}], "subjects": ["t/1"], **provenance}
    return SimpleNamespace(name="net", seen=lambda: [own])


def found(dataset, probe, test, **promises):
    return {f.check for f in audit_checkpoint(probe, dataset, test, promises) if f.severity == "leak"}


TESTED = [{"recording_id": "t_sub-1_run-test", "start_s": 0.0, "stop_s": 1.0}]


def test_pretraining_on_the_test_part(trials):
    dataset = Dataset(trials)
    honest = checkpoint(dataset, [["t_sub-1_run-train", 0.0, 50.0, ""]])
    assert found(dataset, honest, TESTED) == set()
    assert found(dataset, checkpoint(dataset, [["t_sub-1_run-test", 0.5, 3.0, ""]]), TESTED) == {"interval"}
    assert found(dataset, honest, TESTED, new_subject=True) == {"subject"}
    silent = SimpleNamespace(name="net", seen=lambda: None)
    said = [f for f in audit_checkpoint(silent, dataset, TESTED, {}) if f.severity == "warning"]
    assert "does not say what it was trained on" in said[0].message


def test_pretraining_on_a_copy(trials):
    dataset = Dataset(trials)
    for row in dataset.recordings.values():
        row["content"] = f"values of {row['recording_id']}"
    copied = checkpoint(
        dataset,
        [["other_sub-9", 0.0, 9.0, ""]],
        subjects=["other/9"],
        content={"other_sub-9": "values of t_sub-1_run-test"},
    )
    assert "content" in found(dataset, copied, TESTED)
    other = checkpoint(dataset, [["other_sub-9", 0.0, 9.0, ""]], content={"other_sub-9": "values of another"})
    assert found(dataset, other, TESTED) == set()


def test_prepared_recordings_carry_a_fingerprint_into_the_card(tmp_path):
    from data_prep.pipeline import prepare

    source = {"name": "simulated", "n_subjects": 2, "n_channels": 3, "duration_s": 4, "rate_hz": 50, "n_trials": 0}
    for name in ("a", "b"):
        prepare(source=source, out=str(tmp_path / name), stages=[], dataset_id=name, dask="none", progress=False)
    made = [Corpus(path=str(tmp_path / n), split={"rule": "everything"}, task=Task(window_s=1.0)) for n in ("a", "b")]
    cards = [list(c.provenance("pretrain")["content"].values()) for c in made]
    assert cards[0] == cards[1]
    assert len(set(cards[0])) == 2
    assert all(len(h) == 16 for h in cards[0])


def test_pretraining_on_a_corpus_that_holds_the_test(trials):
    dataset = Dataset(trials)
    dataset.manifest = replace(dataset.manifest, id="tuab")
    spans = [["tueg_sub-1_ses-1", 0.0, 9.0, ""]]
    known = checkpoint(dataset, spans, datasets=[{"id": "tueg"}], subjects=["tueg/1", "tueg/2"])
    assert found(dataset, known, TESTED) == {"subject"}
    assert found(dataset, checkpoint(dataset, spans, datasets=[{"id": "tueg"}], subjects=["tueg/2"]), TESTED) == set()


def test_pretraining_on_a_banned_session(trials):
    dataset = Dataset(trials)
    probe = checkpoint(dataset, [["t_sub-4_ses-trial000_task-movie", 0.0, 9.0, ""]])
    assert found(dataset, probe, TESTED, banned=["4/trial000"]) == {"ban"}
    assert found(dataset, probe, TESTED, banned=["4/trial001"]) == set()


def test_pretraining_on_the_same_data_prepared_under_another_id(trials):
    dataset = Dataset(trials)
    dataset.manifest = replace(dataset.manifest, citation="Somebody 2024")
    spans = [["u_sub-4_ses-trial000_task-movie", 0.0, 9.0, ""], ["u_sub-1_run-test", 0.2, 0.4, ""]]
    cites = {"datasets": [{"id": "u", "citation": "Somebody 2024"}], "subjects": ["u/1"]}
    assert found(dataset, checkpoint(dataset, spans, **cites), TESTED, banned=["4/trial000"]) == {"ban", "interval"}
    assert found(dataset, checkpoint(dataset, spans[:1], **cites), TESTED, new_subject=True) == {"subject"}
    other = {"datasets": [{"id": "u", "citation": "Somebody else"}], "subjects": ["u/1"]}
    assert found(dataset, checkpoint(dataset, spans, **other), TESTED, banned=["4/trial000"], new_subject=True) == set()


def test_split_that_changes():
    def draw():
        rng = np.random.default_rng()
        return {
            "all": Split(parts={"train": [Span("r", 0.0, float(rng.uniform(1, 2)))], "test": [Span("r", 5.0, 6.0)]})
        }

    assert same_twice(draw).severity == "leak"
    assert same_twice(lambda: {"all": Split(parts={"test": [Span("r", 5.0, 6.0)]})}).severity == "ok"


def test_split_file_that_was_edited(tmp_path):
    rule = {"name": "mine", "source": "here", "folds": {"unit": "trial", "kind": "move", "n": 3, "seed": 1}}
    write_json(tmp_path / "mine.json", {**rule, "hash": rule_hash(rule)})
    made = read_rule(tmp_path / "mine.json")
    rule["folds"]["seed"] = 2
    write_json(tmp_path / "mine.json", {**rule, "hash": made["hash"]})
    with pytest.raises(DataError, match="it was edited"):
        read_rule(tmp_path / "mine.json")


def test_copies_made_before_the_split():
    train, test = pair()
    copied = replace(test, digest=np.concatenate([train.digest[:3], test.digest[3:]]))
    assert leaks(train, copied) == {"resampling"}


def test_window_twice_in_the_test():
    train, test = pair()
    twice = replace(test, start_s=np.where(np.arange(40) == 1, test.start_s[0], test.start_s))
    assert "resampling" in leaks(train, twice)


def test_wrong_unit():
    train, test = pair()
    assert leaks(train, replace(test, amplitude={"uV": 20e-6})) == {"unit"}
    assert leaks(replace(train, amplitude={"uV": 20e4}), test) == {"unit"}
    assert leaks(replace(train, amplitude={"fT": 20e4}), test) == set()


def test_values_that_are_not_finite():
    train, test = pair()
    x = test.x.copy()
    x[3, 1, 2] = np.nan
    assert leaks(train, test.with_signal(x)) == {"finite"}


def test_every_refused_pitfall_has_its_planted_test_and_stands_in_the_documentation():
    here = globals()
    for p in PITFALLS:
        assert (p.mark == "refuse") == bool(p.test), p
        assert not p.test or callable(here.get(p.test)), p
    assert table() in DOCS.read_text(encoding="utf-8")


def test_a_leak_stops_before_anything_is_fitted_or_looked_at(trials, tmp_path):
    # the same trials in both parts, by a rule of the user's own
    rule = {"name": "mine", "parts": {"train": {"part": ["train"]}, "test": {"part": ["train"]}}}
    task = {"window_s": 1.0, "windows": "trial", "label_kind": "move"}
    protocol = protocol_of(data={"path": str(trials)}, task=task, split=rule)
    models = {"m": {"class": "sklearn.dummy:DummyClassifier"}}
    how = {"models": models, "name": "b", "task": "t", "results": str(tmp_path / "r"), "run_id": "x"}
    with pytest.raises(DataError, match="refused, the test leaks"):
        list(score_decoding(protocol, **how))
    assert not (tmp_path / "r").exists()
    *_, (_, out) = score_decoding(protocol, **how, allow_leak="to see it")
    assert {r["leak_reason"] for r in out.rows} == {"to see it"}


def test_folds_by_recording_columns(trials):
    dataset = Dataset(trials)
    folds = folds_of(dataset, {"name": "mine", "folds": {"unit": "recording_id", "n": "all"}})
    assert list(folds) == ["recording_id t_sub-1_run-test", "recording_id t_sub-1_run-train"]
    assert [len(s["test"]) for s in folds.values()] == [12, 24]
    with pytest.raises(DataError, match="no event of kind 'walk'"):
        folds_of(dataset, {"name": "mine", "folds": {"unit": "trial", "kind": "walk", "n": 2}})


def test_controls_take_away_what_they_say(trials):
    train, test = pair()
    shuffled, same = apply_control(train, test, "shuffle", seed=0)
    assert same is test
    assert sorted(shuffled.y) == sorted(train.y)
    assert (shuffled.y != train.y).any()
    _, permuted = apply_control(train, test, "permute_signal", seed=0)
    assert sorted(permuted.x[:, 0, 0]) == sorted(test.x[:, 0, 0])
    assert (permuted.x != test.x).any()
    noise, _ = apply_control(train, test, "noise", seed=0)
    assert abs(np.corrcoef(noise.x.ravel(), train.x.ravel())[0, 1]) < 0.2
    # another fold gets other noise, the same one the same again
    again, other = (
        apply_control(train, part, "noise", seed=0)[0] for part in (test, replace(test, start_s=test.start_s + 1))
    )
    np.testing.assert_array_equal(again.x, noise.x)
    assert abs(np.corrcoef(noise.x.ravel(), other.x.ravel())[0, 1]) < 0.2
    timed, _ = apply_control(train, test, "time_only", seed=0)
    np.testing.assert_allclose(timed.x[:, 0, 0], train.start_s)
    assert controls_of("shuffle|noise") == ["shuffle", "noise"]
    with pytest.raises(ConfigError, match="time_only"):
        controls_of("time")
    dataset = Dataset(trials)
    with pytest.raises(DataError, match="no windows"):
        read_examples(dataset, [], [], channels=["c0"])
    made = read_examples(dataset, [Window("t_sub-1_run-test", 2.0, 20)], ["a"], channels=["c1"])
    np.testing.assert_array_equal(made.x[0, 0], dataset.read("t_sub-1_run-test", 2.0, 20)[:, 1])
    assert made.stimulus[0] == "s1"
    assert audit(train=[], test=made.spans(), subject_of={"t_sub-1_run-test": "1"})
