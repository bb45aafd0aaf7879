"""Trials shared out over the parts by class; Du-IN's layout from pickles to what a model is told."""

import importlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_prep.pipeline import prepare
from neurofm.data.corpus import open_corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.trials import by_trial
from neurofm.schema.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf"
WORDS = ("嘴巴", "菠萝", "帮助")
FRACTIONS = {"train": 0.8, "validation": 0.1, "test": 0.1}


@pytest.fixture(scope="module")
def du_in(tmp_path_factory):
    """Two people, three words, ten trials of each, in the layout of the release; prepared."""
    tree = importlib.import_module("tests.layouts.trees.du_in")
    root = tmp_path_factory.mktemp("du_in")
    words = [w for w in WORDS for _ in range(10)]
    for i, subject in enumerate(("001", "002")):
        tree._run(root / "raw", subject, "run1", channels=["A1", "A2", "B1"], words=words, seed=i, plain=False)
    stages = yaml.safe_load((CONF / "prep" / "du_in.yaml").read_text())["stages"]
    prepare(
        source={"name": "du_in", "root": str(root / "raw")},
        out=root / "shards",
        stages=stages,
        dask="none",
        progress=False,
    )
    shutil.rmtree(root / "raw")
    return root / "shards"


def labels_of(dataset, spans):
    found = []
    for s in spans:
        found += [e["label"] for e in dataset.events(s.recording_id) if abs(e["onset_s"] - s.start_s) < 1e-6]
    return Counter(found)


def test_every_word_is_in_every_part(du_in):
    dataset = Dataset(str(du_in))
    split = by_trial(dataset, fractions=FRACTIONS, subject="001")
    for part, n in (("train", 8), ("validation", 1), ("test", 1), ("pretrain", 8)):
        assert labels_of(dataset, split[part]) == dict.fromkeys(WORDS, n)
    spans = [s for p in FRACTIONS for s in split[p]]
    assert len(set(spans)) == len(spans) == 30
    assert {s.recording_id for s in spans} == set(dataset.select(subject="001"))
    assert split.hash == by_trial(dataset, fractions=FRACTIONS, subject="001").hash
    assert split.hash != by_trial(dataset, fractions=FRACTIONS, subject="001", seed=1).hash
    # a card is read with its keys sorted
    assert split.hash == by_trial(dataset, fractions=dict(sorted(FRACTIONS.items())), subject="001").hash
    # who else is read does not change a person's parts
    everybody = by_trial(dataset, fractions=FRACTIONS)
    assert set(split["test"]) <= set(everybody["test"])
    assert len(everybody["test"]) == 6


def test_the_released_protocols_faults_are_not_here(du_in):
    data = yaml.safe_load((CONF / "data" / "du_in.yaml").read_text())
    task = yaml.safe_load((CONF / "task" / "du_in_words.yaml").read_text())
    data |= {"path": str(du_in), "split": {**data["split"], "subject": "001"}}
    corpus = open_corpus(data, task)
    corpus.fit_transforms("pretrain")
    facts = corpus.facts("pretrain")
    assert facts.classes == tuple(sorted(WORDS))
    assert (facts.rate_hz, facts.window_samples, facts.max_channels) == (1000.0, 3000, 3)
    # statistics of the training trials, and of no others
    spans = corpus.split["train"]
    raw = np.concatenate([corpus.dataset.read(s.recording_id, s.start_s, 3000) for s in spans])
    done = np.concatenate([corpus.values(s) for s in spans])
    assert np.allclose(done, (raw - raw.mean(0)) / raw.std(0), atol=1e-3)
    loader = corpus.loader("test", facts, batch_size=3, seed=0, training=False)
    (batch,) = list(loader)
    assert sorted(batch.target.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"fractions": {"train": 0.5, "test": 0.6}}, "sum to 1"),
        ({"fractions": FRACTIONS, "pretrain": "calibration"}, "none of"),
        ({"fractions": FRACTIONS, "kind": "trial"}, "no trial has an event of kind 'trial'"),
        (
            {"fractions": {str(i): 1 / 16 for i in range(16)}, "pretrain": None},
            "10 trials of '.*', fewer than the 16 parts",
        ),
    ],
)
def test_wrong_choices(du_in, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        by_trial(Dataset(str(du_in)), **choices)
