"""Du-IN's three steps by the command line on made-up words: codes of a person, hidden codes, then words; the test opened once."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.cli.main import main
from neurofm.hub.load import load_model
from neurofm.schema.hashing import read_json
from neurofm.schema.tables import read_table

WORDS, N_TRIALS, N_CHANNELS = ("mouth", "pineapple", "help", "friend"), 20, 5
FOLDER = "data/seeg.he2023xuanwu/001/word-recitation/run1/dataset.bipolar.default.aligned"
SMALL = [
    "model.n_shared=4", "model.conv_dim=8", "model.n_layers=1", "model.n_heads=2", "model.head_dim=4", "model.ffn_dim=16",
    "model.dropout=0",
]  # fmt: skip
COMMON = ["data.split.subject=001", "trainer.progress=false", "optim.warmup_steps=5", "batch_size=16"]


def write(root: Path) -> None:
    """As released, in plain dicts: each word has the same wave in a channel of its own."""
    rng = np.random.default_rng(0)
    time_s = np.arange(3000) / 1000
    trials = []
    for word in rng.permutation(np.repeat(np.arange(len(WORDS)), N_TRIALS)):
        clip = rng.standard_normal((N_CHANNELS, 3000))
        clip[word] += 4 * np.sin(2 * np.pi * 20 * time_s)
        trials.append({"name": WORDS[word], "data_s": 3e-5 * clip})
    folder = root / FOLDER
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(pickle.dumps(trials))
    (folder / "info").write_bytes(pickle.dumps({"ch_names": [f"A{i}" for i in range(N_CHANNELS)]}))


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("du_in"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    write(folder / "raw")
    try:
        assert main(["prep", "dataset=du_in", "dataset.source.root=raw", "dask=none"]) == 0
        one = ["train", "experiment=du_in_tokenizer", *COMMON, *SMALL, "model.n_decoder_layers=1", "model.n_codes=16"]
        assert main([*one, "model.code_dim=4", "trainer.max_steps=30", "optim.lr_peak=2e-3"]) == 0
        two = ["train", "experiment=du_in_masked_code", *COMMON, *SMALL, "trainer.max_steps=20", "optim.lr_peak=2e-3"]
        assert main([*two, "objective.tokenizer=runs/du_in/001/tokenizer-seed0"]) == 0
        three = ["finetune", "experiment=du_in_words", "checkpoint=runs/du_in/001/masked_code-seed0", "loop.steps=120"]
        loop = ["loop.lr_peak=3e-3", "loop.warmup_steps=10", "loop.evaluate_every=20", "data.split.subject=001"]
        assert main([*three, *loop]) == 0
        assert main(["evaluate", "benchmark=du_in"]) == 0
        yield folder
    finally:
        os.chdir(before)


def test_each_step_knows_the_one_before(flow):
    runs = flow / "runs" / "du_in" / "001"
    first, second = (read_json(runs / f"{n}-seed0" / "model" / "card.json") for n in ("tokenizer", "masked_code"))
    assert second["provenance"]["pretrained"]["weights_sha256"] == first["weights"]["sha256"]
    assert second["objective"]["choices"]["n_codes"] == [16]
    assert load_model(runs / "masked_code-seed0").facts.classes == tuple(sorted(WORDS))


def test_the_test_trials_are_a_tenth_of_each_word_and_seen_by_no_step(flow):
    split = read_json(flow / "runs" / "du_in" / "001" / "tokenizer-seed0" / "split.json")["parts"]
    spans = {name: {(s[0], s[1]) for s in part} for name, part in split.items()}
    assert len(spans["test"]) == len(WORDS) * N_TRIALS // 10
    assert not spans["test"] & (spans["train"] | spans["pretrain"] | spans["validation"])


def test_words_are_told_apart(flow):
    rows = read_table(flow / "runs", "results")
    found = {r["strategy"]: r["value"] for r in rows if (r["model"], r["metric"]) == ("neurofm", "accuracy")}
    assert set(found) == {"full", "scratch"}
    # chance is a quarter
    assert found["full"] >= 0.75, found
