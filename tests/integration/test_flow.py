"""The whole flow by the command line's own functions, on a tiny simulated corpus with planted structure."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.stats import binom

import neurofm
from data_prep.sources.simulated import Simulated
from neurofm.cli.main import main
from neurofm.data.dataset import Dataset
from neurofm.data.splits.spans import Span, overlap
from neurofm.hub.load import load_model
from neurofm.schema.tables import read_table
from neurofm.training.reopen import corpus_of

SOURCE = dict(n_subjects=4, n_channels=8, n_sources=2, duration_s=120, rate_hz=50, noise=0.3, n_trials=0)
PREP = ["prep", "dataset=simulated", "dask=none", *(f"dataset.source.{k}={v}" for k, v in SOURCE.items())]
MODEL = [
    "model.patch_samples=10", "model.dim=32", "model.n_layers=1", "model.ffn_dim=64", "model.dropout=0",
    "model.causal=false", "+model.mask_token=true", "+model.channel_embedding=true",
]  # fmt: skip
TRAIN = [
    "train", "data=simulated", "held_out=04", "task=windows_1s", *MODEL, "objective=masked_region", "objective.hide_fraction=[0.1,0.3]",
    "optim.lr_peak=5e-3", "optim.warmup_steps=10", "trainer.progress=false", "name=sim",
]  # fmt: skip


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Folder in which prep, train, finetune and embed have run; nothing outside it is touched."""
    folder, before = tmp_path_factory.mktemp("flow"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    try:
        assert main(PREP) == 0
        assert main([*TRAIN, "trainer.max_steps=150"]) == 0
        assert main(["finetune", "checkpoint=runs/sim", "loop.steps=40", "loop.lr_peak=2e-3"]) == 0
        assert main(["embed", "checkpoint=runs/sim"]) == 0
        yield folder
    finally:
        os.chdir(before)


def r2_on_test(folder):
    """Share of the variance of hidden channels that a decoder explains in the test part of its person."""
    loaded = load_model(folder)
    corpus = corpus_of(loaded)
    loader = corpus.loader("test", loaded.facts, batch_size=64, seed=0, training=False)
    error = total = 0.0
    with torch.no_grad():
        for batch in loader:
            estimate = loaded.objective.predict(loaded.model, batch)
            error += float(((estimate - batch.signal) ** 2).sum())
            total += float((batch.signal**2).sum())
    return 1 - error / total


def test_hidden_channels_are_recovered(flow):
    # noise of sd 0.3 beside a signal of sd 1: at most 1 / 1.09 = 0.92 can be explained
    assert 0.5 < json.loads((flow / "runs/sim/finished.json").read_text())["val/r2"] < 0.92


def test_pretraining_helps_a_new_person(flow):
    r2 = {n: r2_on_test(flow / "runs/sim-adapted" / n) for n in ("full-20", "scratch-20", "full-40")}
    assert r2["full-20"] > r2["scratch-20"] + 0.1
    assert r2["full-40"] > 0.4


def test_what_a_decoder_saw_is_in_its_card(flow):
    card = json.loads((flow / "runs/sim-adapted/full-20/model/card.json").read_text())
    assert card["provenance"]["subjects"] == ["simulated/04"]
    assert card["provenance"]["pretrained"]["subjects"] == [f"simulated/0{i}" for i in (1, 2, 3)]
    ((_, start, stop, _),) = card["provenance"]["split"]["spans"]
    assert (start, stop) == (0, 20)


def test_embeddings_say_which_window_they_are_of(flow):
    folder = flow / "runs/sim-embeddings"
    vectors, rows = load_file(folder / "embeddings.safetensors")["vectors"], read_table(folder, "windows")
    about = json.loads((folder / "embeddings.json").read_text())
    assert vectors.shape == (len(rows), 32) == (about["n_windows"], about["dim"])
    assert np.isfinite(vectors).all()
    test = corpus_of(load_model(flow / "runs/sim")).split["test"]
    spans = [Span(r["recording_id"], r["start_s"], r["start_s"] + r["duration_s"]) for r in rows]
    assert not overlap(spans, test).spans
    assert {r["subject"] for r in rows} == {"01", "02", "03", "04"}


def test_embed_opens_the_test_part_only_when_asked(flow, monkeypatch, capsys):
    test = corpus_of(load_model(flow / "runs/sim")).split["test"]
    seen, read = [], Dataset.read

    def spy(self, recording_id, start_s, n_samples, **rest):
        seen.append(Span(recording_id, start_s, start_s + n_samples / self.rate_hz(recording_id)))
        return read(self, recording_id, start_s, n_samples, **rest)

    monkeypatch.setattr(Dataset, "read", spy)
    monkeypatch.setattr(Dataset, "preload", lambda *_: None)
    assert main(["embed", "checkpoint=runs/sim", "out=everything"]) == 0
    assert main(["embed", "checkpoint=runs/sim", "calibration_s=30", "out=calibrated"]) == 0
    assert seen
    assert not overlap(seen, test).spans
    assert main(["embed", "checkpoint=runs/sim", "calibration_s=100", "out=too-long"]) == 1
    assert "reaches into the test part" in capsys.readouterr().err
    assert not Path("too-long").exists()
    assert main(["embed", "checkpoint=runs/sim", "part=test", "out=test"]) == 0
    assert overlap(seen, test).spans
    assert len(read_table("test", "windows")) == 40


def test_embed_and_load_agree(flow):
    z = neurofm.load("runs/sim").embed(
        next(i for i in Simulated(**SOURCE).list() if i.subject == "01").load(), stride_s=1
    )
    rows = read_table("runs/sim-embeddings", "windows")
    mine = [i for i, r in enumerate(rows) if r["subject"] == "01" and r["start_s"] < 100]
    stored = load_file("runs/sim-embeddings/embeddings.safetensors")["vectors"][mine]
    # the shards hold int16
    np.testing.assert_allclose(stored, np.asarray(z)[: len(mine)], atol=5e-3)
    assert not z.transductive


def test_embed_overwrites_only_when_told_and_only_its_own(flow, capsys):
    assert main(["embed", "checkpoint=runs/sim"]) == 1
    assert "overwrite=true" in capsys.readouterr().err
    assert main(["embed", "checkpoint=runs/sim", "overwrite=true"]) == 0
    Path("foreign").mkdir()
    Path("foreign/thesis.txt").touch()
    assert main(["embed", "checkpoint=runs/sim", "out=foreign", "overwrite=true"]) == 1
    assert "thesis.txt" in capsys.readouterr().err
    assert Path("foreign/thesis.txt").exists()


def test_prep_again_is_nothing_to_do(flow, capsys):
    assert main(PREP) == 0
    assert "nothing changed" in capsys.readouterr().out


def test_inspect_and_list(flow, capsys, tmp_path):
    assert main(["inspect", "runs/sim", "--verify"]) == 0
    assert main(["inspect", "runs/sim-embeddings"]) == 0
    assert main(["inspect", "shards/simulated", "--verify"]) == 0
    out = capsys.readouterr().out
    for words in ("masked_region", "trained on", "1 of 1 files are as", "all but test of simulated", "4 subjects"):
        assert words in out
    shutil.copytree("runs/sim/model", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(["inspect", str(tmp_path), "--verify"]) == 1
    assert main(["list"]) == 0
    assert main(["list", "encoder", "optimisers"]) == 0
    assert "adamw_wsd" in capsys.readouterr().out
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "ours.yaml").write_text("# Ours, of 2026. And more.\n")
    assert main(["list", "datasets", "--config-dir", str(tmp_path)]) == 0
    assert "Ours, of 2026" in capsys.readouterr().out


def test_own_configuration_and_a_decoder_of_trials(flow, tmp_path):
    """A user's own data and task YAML; the decoder tells classes of a person's test trials above chance."""
    for name, text in {
        "data/trials.yaml": "# Mine\nid: trials\npath: trials\nsplit: {rule: official, pretrain_part: train, subject: '04'}\n"
        "transforms: [{name: standardize, per: subject}]\npreload: true\nn_workers: 0\n",
        "task/classes.yaml": "# Mine\nname: classes\nwindow_s: 1.0\nwindows: trial\nlabel_kind: trial\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    source = [f"dataset.source.{k}={v}" for k, v in {**SOURCE, "n_trials": 90, "duration_s": 2}.items()]
    assert main(["prep", "dataset=simulated", "dask=none", "out=trials", *source]) == 0
    train = [
        "train", f"--config-dir={tmp_path}", "data=trials", "task=classes", "objective=supervised", *MODEL,
        "objective.readout=flatten", "optim.lr_peak=5e-3", "optim.warmup_steps=10", "trainer.max_steps=120",
        "trainer.progress=false", "name=trials",
    ]  # fmt: skip
    assert main(train) == 0
    test = next(
        i for i in Simulated(**{**SOURCE, "n_trials": 90, "duration_s": 2}).list() if i.key == "sub-04_test"
    ).load()
    answer = neurofm.load("runs/trials").predict(test)
    right = sum(a == e.label for a, e in zip(answer.labels, test.events, strict=True))
    n = len(test.events)
    assert n == 30
    assert binom.sf(right - 1, n, 0.5) < 0.001, f"{right} of {n}"


def test_killed_training_continues_to_the_same_weights(flow):
    steps = [*TRAIN, "trainer.max_steps=60", "trainer.checkpoint_every=5", "trainer.validate_every=20"]
    assert main([*steps, "name=straight"]) == 0
    killed = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from neurofm.cli.main import main; sys.exit(main())",
            *steps,
            "name=killed",
        ],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    last = Path("runs/killed/checkpoints/last.ckpt")
    deadline = time.monotonic() + 120
    while not last.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not Path("runs/killed/model").exists()
    assert main([*steps, "name=killed"]) == 1
    assert main([*steps, "name=killed", "resume=true"]) == 0
    a, b = (load_file(f"runs/{n}/model/model.safetensors") for n in ("straight", "killed"))
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_a_run_is_continued_by_its_name(flow, capsys):
    """`resume=RUN` needs nothing but the run: its configuration is inside, and may be changed key by key."""
    assert main([*TRAIN, "trainer.max_steps=20", "name=named"]) == 0
    assert main(["train", "resume=runs/named", "trainer.max_steps=30"]) == 0
    assert json.loads(Path("runs/named/finished.json").read_text())["steps"] == 30
    provenance = json.loads(Path("runs/named/provenance.json").read_text())
    assert len(provenance["continued"]) == 1
    assert json.loads(Path("runs/named/split.json").read_text())["hash"] == provenance["data"]["split"]["hash"]
    for words, sentence in (
        (["resume=runs/nothing"], "holds no run to continue"),
        (["resume=runs/named", "trainer.max_step=3"], "did you mean 'trainer.max_steps'"),
        (["resume=runs/named", "trainer.max_steps=many"], "expected a number"),
        (["resume=runs/named", "--multirun"], "only key=value"),
    ):
        assert main(["train", *words]) == 1
        assert sentence in capsys.readouterr().err
