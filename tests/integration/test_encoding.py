"""A new person by example: pretrain an in-context encoder, give it a few trials, draw the curve beside ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurofm.benchmarks.adapted.decoders import open_decoder
from neurofm.benchmarks.adapted.encoding_curves import answers, correlation
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main

SOURCE = dict(n_subjects=4, n_channels=12, n_train=200, n_test=40, n_latents=4, n_dims=16, spread=0.1)
DATA = ["data=sim_fmri", "task=beta_trials", "held_out='04'", "data.split.budgets=[10,100]"]
BARS = ("ridge on the same trials", "banded ridge on the same trials")
MODEL = ["model=braincorl", "model.dim=32", "model.n_layers=1", "model.n_heads=2", "model.ffn_dim=32"]


def do(*argv):
    assert main([str(a) for a in argv]) == 0, argv


def test_correlation_is_numpys_averaged_over_channels():
    a, b = np.random.default_rng(0).standard_normal((2, 30, 3))
    b[:, 2] = 1.0
    expected = (np.corrcoef(a[:, 0], b[:, 0])[0, 1] + np.corrcoef(a[:, 1], b[:, 1])[0, 1]) / 3
    assert correlation(a, b) == pytest.approx(expected)


def test_a_few_trials_become_the_context_and_the_curve_stands_beside_ridge(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    do("prep", "dataset=sim_fmri", "dask=none", *(f"++dataset.source.{k}={v}" for k, v in SOURCE.items()))
    do("train", *DATA, *MODEL, "objective=in_context", "objective.context=[5,25]", "name=base", "batch_size=90",
       "optim.lr_peak=3e-3", "optim.warmup_steps=10", "trainer.max_steps=120", "trainer.progress=false")  # fmt: skip
    do("finetune", "checkpoint=runs/base", *DATA, "adapt=in_context", "from_scratch=false", "run_dir=runs/new")
    do("evaluate", "benchmark=encoding_curve", "runs=runs/new")
    rows = scores_only(read_results(tmp_path / "runs"))
    found = {(r["strategy"] or r["model"], r["budget"]): r for r in rows}
    assert set(found) == {(s, b) for s in ("in_context", *BARS) for b in (10.0, 100.0)}
    assert all(r["low"] < r["value"] < r["high"] for r in rows)
    decoder = open_decoder(tmp_path / "runs/new/in_context-100/model")
    _, measured, said = answers(decoder, "test")
    assert len(said) == SOURCE["n_test"]
    assert found["in_context", 100.0]["value"] == pytest.approx(correlation(said, measured))
    # ridge on 100 trials of 16 dimensions knows the person well
    assert all(found[bar, 100.0]["value"] > 0.4 for bar in BARS)
    assert "1 person is too few" in (tmp_path / "runs/new/report-encoding_curve/report.html").read_text()
    # decoders that would read their context from the test trials are refused
    do(
        "finetune",
        "checkpoint=runs/base",
        *DATA,
        "adapt=full",
        "from_scratch=false",
        "loop.steps=1",
        "run_dir=runs/bad",
        "budgets=[10]",
    )
    assert main(["evaluate", "benchmark=encoding_curve", "runs=runs/bad", "out=bad"]) == 1
    assert "holds no context of its person" in capsys.readouterr().err
    # and whoever has no context to read says so
    do("train", *DATA, "model=nice", "objective=alignment", "name=nice", "trainer.max_steps=1", "trainer.progress=false",
       "model.kernel=1", "model.pool=1", "model.stride=1")  # fmt: skip
    assert main(["finetune", "checkpoint=runs/nice", *DATA, "adapt=in_context"]) == 1
    assert "reads no context" in capsys.readouterr().err
