"""Folds share no trial, transforms see the training trials of a fold alone, labels of a fold stay hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score

from neurofm.adapt.crossval import CrossValidated, cross_validate, decoder, folds_of
from neurofm.adapt.new_subject import adapt_subject
from neurofm.data.corpus import open_corpus
from neurofm.data.dataset import Dataset
from neurofm.data.transforms.spatial_whiten import SpatialWhiten
from neurofm.hub.load import load_model
from neurofm.schema.errors import ConfigError, DataError
from neurofm.training.pretrain import pretrain

WHITEN = {"name": "spatial_whiten", "lowpass_hz": 6.0, "shrinkage": 0.05}
TASK = {"name": "slope", "window_s": 1.0, "windows": "trial", "label_kind": "trial"}
SUPERVISED = {"name": "supervised", "readout": "flatten", "mixup_alpha": 1.0, "channel_dropout": 0.1}
LOOP = {"steps": 40, "batch_size": 16, "lr_peak": 5e-3, "betas": (0.9, 0.98), "tail": "none"}


def data(path):
    split = {"rule": "official", "pretrain_part": "train", "subject": "1"}
    return {"id": "labelled", "path": str(path), "split": split, "transforms": [WHITEN], "preload": False}


@pytest.fixture
def corpus(labelled_trials):
    return open_corpus(data(labelled_trials), TASK)


@pytest.fixture
def read(monkeypatch):
    """What is read while it is asked for."""
    seen = set()
    original = Dataset.read

    def spy(self, recording_id, *args, **choices):
        seen.add(recording_id)
        return original(self, recording_id, *args, **choices)

    monkeypatch.setattr(Dataset, "read", spy)
    return seen


@pytest.fixture(scope="module")
def checkpoint(labelled_trials, tmp_path_factory):
    """A model pretrained for three steps on shorter windows without labels."""
    run = tmp_path_factory.mktemp("run") / "seed0"
    model = dict(
        patch_samples=4, dim=16, n_layers=1, n_heads=2, ffn_dim=16, causal=False, mask_token=True, n_positions=6,
        n_channels=4, backend="math",
    )  # fmt: skip
    pretrain(
        data=data(labelled_trials), task={"name": "short", "window_s": 0.4, "windows": "trial"}, model_name="mvpformer",
        model_choices=model, objective_name="masked_region", objective_choices={}, optim={"lr_peak": 1e-3},
        trainer={"max_steps": 3, "progress": False}, logger={}, run_dir=str(run), seed=0, batch_size=16,
    )  # fmt: skip
    return run


def test_folds_partition_the_training_trials_and_open_nothing_else(corpus, read):
    facts = corpus.facts("train")
    folds = folds_of(corpus, "train", facts, n_folds=4, seed=3)
    starts = [f.validation.start_s.tolist() for f in folds]
    assert sorted(s for some in starts for s in some) == [2.0 * i for i in range(40)]
    for fold in folds:
        assert not set(fold.train.start_s.tolist()) & set(fold.validation.start_s.tolist())
        assert torch.bincount(fold.truth).tolist() == [5, 5]
        assert fold.validation.target is None
        assert torch.bincount(fold.train.target).tolist() == [15, 15]
    assert read == {"p1_train"}
    again = folds_of(corpus, "train", facts, n_folds=4, seed=3)
    assert [f.validation.start_s.tolist() for f in again] == starts
    assert [f.validation.start_s.tolist() for f in folds_of(corpus, "train", facts, n_folds=4, seed=4)] != starts


def test_transforms_are_fitted_on_the_fold_alone(corpus):
    corpus.fit_transforms("train")
    fold = folds_of(corpus, "train", corpus.facts("train"), n_folds=4, seed=0)[1]
    spans = [s for s in corpus.split["train"] if s.start_s in fold.train.start_s.tolist()]
    alone = SpatialWhiten(lowpass_hz=6.0)
    alone.fit(corpus.dataset, spans, allowed=spans)
    for i, start_s in enumerate(fold.validation.start_s.tolist()):
        window = corpus.dataset.read("p1_train", start_s, 20)
        np.testing.assert_array_equal(fold.validation.signal[i].T, alone.apply(window, "p1_train"))
        # what all training trials would have given is something else
        assert np.abs(corpus.transform.apply(window, "p1_train") - alone.apply(window, "p1_train")).max() > 1e-4
    plain = folds_of(corpus, "train", corpus.facts("train"), n_folds=4, seed=0, transforms=())[1]
    np.testing.assert_array_equal(plain.validation.signal[0].T, corpus.dataset.read("p1_train", starts(plain)[0], 20))


def starts(fold):
    return fold.validation.start_s.tolist()


def test_baselines_go_the_same_way_and_scores_are_those_of_scikit_learn(corpus):
    folds = folds_of(corpus, "train", corpus.facts("train"), n_folds=4, seed=0)

    def lda(train, validation):
        fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        fitted.fit(train.signal.flatten(1).numpy(), train.target.numpy())
        return fitted.predict_log_proba(validation.signal.flatten(1).numpy())

    result = cross_validate(folds, lda)
    expected = [
        balanced_accuracy_score(f.truth, s.argmax(1)) for f, s in zip(folds, result.scores, strict=True)
    ]  # fmt: skip
    assert result.balanced_accuracy == pytest.approx(expected)
    assert np.mean(expected) > 0.8
    assert result.metrics["cv/balanced_accuracy"] == pytest.approx(np.mean(expected))
    assert result.metrics["cv/balanced_accuracy_sd"] == pytest.approx(np.std(expected))
    constant = cross_validate(folds, lambda train, validation: torch.eye(2)[torch.zeros(len(validation)).long()])
    assert constant.balanced_accuracy == [0.5] * 4
    with pytest.raises(DataError, match="expected scores of 10 windows"):
        cross_validate(folds, lambda train, validation: torch.zeros(3, 2))


def test_shuffled_labels_give_chance(corpus, checkpoint):
    loaded = load_model(checkpoint)
    facts = replace(loaded.facts, window_s=1.0, classes=("down", "up"))
    folds = folds_of(corpus, "train", facts, n_folds=4, seed=0)
    fit_predict = decoder(loaded, facts=facts, strategy="scratch", objective=SUPERVISED, loop=LOOP)
    true = cross_validate(folds, fit_predict)
    rng = np.random.default_rng(0)
    shuffled = [replace(f, train=replace(f.train, target=f.train.target[rng.permutation(30)])) for f in folds]
    wrong = cross_validate(shuffled, fit_predict)
    assert np.mean(true.balanced_accuracy) > 0.8
    assert np.mean(wrong.balanced_accuracy) < 0.75


def test_refusals(corpus, labelled_trials):
    facts = corpus.facts("train")
    with pytest.raises(ConfigError, match="labelled trials"):
        folds_of(corpus, "train", replace(facts, classes=()), n_folds=2, seed=0)
    with pytest.raises(ConfigError, match="n_folds is 21"):
        folds_of(corpus, "train", facts, n_folds=21, seed=0)


def test_a_new_task_from_a_checkpoint_and_from_scratch(labelled_trials, checkpoint, tmp_path, read):
    """Other windows, other objective, the vocabulary of the pretraining; the test part is not read."""
    results = list(
        adapt_subject(
            checkpoint=str(checkpoint), run_dir=str(tmp_path / "adapted"), strategies={"full": {}, "scratch": {}},
            loop=LOOP, data=data(labelled_trials), task=TASK, objective=SUPERVISED, n_folds=2, seed=0,
        )
    )  # fmt: skip
    assert [(budget, strategy) for budget, strategy, _ in results] == [("all", "full"), ("all", "scratch")]
    assert read == {"p1_train"}
    pretraining = load_model(checkpoint)
    for name in ("full-all", "scratch-all"):
        loaded = load_model(tmp_path / "adapted" / name)
        assert loaded.card["metrics"]["cv/balanced_accuracy"] > 0.7
        assert loaded.card["metrics"]["cv/folds"] == 2
        assert loaded.facts.channels == pretraining.facts.channels
        assert loaded.facts.classes == ("down", "up")
        state = loaded.transforms[0]["state"]
        # whitening of the training recording holds for the test recording of the same person
        assert state["p1_test"] == state["p1_train"]
        assert {s[0] for s in loaded.card["provenance"]["split"]["spans"]} == {"p1_train"}
    assert load_model(tmp_path / "adapted" / "scratch-all").card["provenance"]["pretrained"] is None
    assert set(load_model(tmp_path / "adapted" / "scratch-all").transforms[0]["state"]) == {"p1_train", "p1_test"}


def test_metrics_of_one_fold_are_finite():
    assert CrossValidated([0.5], []).metrics["cv/balanced_accuracy_sd"] == 0
