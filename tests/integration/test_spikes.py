"""Populations by the command line's own functions: co-smoothing of one, and a decoder that meets a new one's units."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.benchmarks.results import read_results
from neurofm.cli.main import main
from neurofm.hub.load import load_model

LORENZ = dict(n_conditions=6, n_repeats=15, n_units=10, n_held_out=3, gain=1.0, base_hz=10.0)
VELOCITY = dict(n_subjects=4, n_days=2, n_units=8, duration_s=40, drift=0.1)
CONF = {
    "data/velocity.yaml": """# As sim_velocity_hard, shorter
id: sim_velocity_hard
path: shards/sim_velocity_hard
split: {rule: by_subject, test: 2, subject: "${held_out}", budgets_s: {5s: 5, 20s: 20}, test_s: 20, gap_s: 1}
bin_s: 0.01
events: true
streams: [velocity]
transforms: []
""",
    "benchmark/lorenz.yaml": """# Ours
name: lorenz
title: Lorenz
parts:
  - {kind: population, protocol: co_smoothing, bin_s: 0.01, task: trials_1s, new_subject: false,
     baselines: [smoothing, oracle], arms: {ndt: {runs: "${runs}/sim_lorenz", strategy: full}}}
""",
    "benchmark/velocity.yaml": """# Ours
name: velocity
title: Velocity
parts:
  - {kind: population, protocol: decoding, behaviour: velocity, bin_s: 0.02, task: velocity_1s, baselines: [wiener],
     arms: {units: {runs: "${runs}/sim_velocity_hard", strategy: unit_embedding},
            scratch: {runs: "${runs}/sim_velocity_hard", strategy: scratch}}}
""",
}
LOOP = ["loop.steps=20", "loop.batch_size=8", "loop.tail=none", "loop.lr_peak=2e-2"]


def do(*argv):
    assert main([str(a) for a in argv]) == 0, argv


def prep(name, choices):
    do("prep", f"dataset={name}", f"out=shards/{name}", "dask=none", *(f"dataset.source.{k}={v}" for k, v in choices.items()))  # fmt: skip


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Folder in which both populations have been prepared, trained on, adapted to and scored."""
    folder, before = tmp_path_factory.mktemp("spikes"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    for name, text in CONF.items():
        Path("conf", name).parent.mkdir(parents=True, exist_ok=True)
        Path("conf", name).write_text(text)
    quick = ["trainer.progress=false", "optim.warmup_steps=5"]
    try:
        prep("sim_lorenz", LORENZ)
        do("train", "experiment=sim_lorenz", *quick, "model.dim=16", "model.n_layers=1", "model.ffn_dim=32",
           "objective.held_out=3", "objective.modes={co_smooth: 1.0}", "model.dropout=0", "optim.lr_peak=1e-2", "trainer.max_steps=150")  # fmt: skip
        do("finetune", "checkpoint=runs/sim_lorenz/ndt-seed0", "loop.steps=0", "from_scratch=false")
        do("evaluate", "--config-dir=conf", "benchmark=lorenz", "out=runs/report_lorenz", "results=runs/lorenz")
        prep("sim_velocity_hard", VELOCITY)
        data = ["--config-dir=conf", "data=velocity", "task=velocity_1s"]
        small = ["model.dim=16", "model.head_dim=8", "model.latents_per_step=1", "objective.keep_units=null"]
        do("train", *data, "experiment=sim_velocity_hard", *quick, *small, "trainer.max_steps=80", "optim.lr_peak=1e-2")
        for who in new_people():
            do("finetune", "checkpoint=runs/sim_velocity_hard/decoder/seed0", "adapt=unit_embedding", *data, f"held_out='{who}'", f"suffix={who}", *LOOP)  # fmt: skip
        do("evaluate", "--config-dir=conf", "benchmark=velocity", "out=runs/report_velocity", "results=runs/velocity")
        yield folder
    finally:
        os.chdir(before)


def new_people():
    """Who the split keeps for the test."""
    from neurofm.data.dataset import Dataset
    from neurofm.data.splits.rules import make_split

    dataset = Dataset("shards/sim_velocity_hard")
    split = make_split(dataset, rule="by_subject", test=2)
    return sorted({dataset.subject(s.recording_id) for s in split["test"]})


def values(folder, metric):
    """(model, budget) → scores of all sessions."""
    found: dict[tuple[str, float], list[float]] = {}
    for r in read_results(folder):
        if r["metric"] == metric:
            found.setdefault((r["model"], r["budget"]), []).append(r["value"])
    return found


def test_ndt_is_scored_beside_its_bars(flow):
    found = values(flow / "runs/lorenz", "co_bps")
    assert {m for m, _ in found} == {"ndt", "smoothing, Poisson GLM", "oracle, true rates"}
    ((ndt,),) = [v for (m, _), v in found.items() if m == "ndt"]
    ((oracle,),) = [v for (m, _), v in found.items() if m.startswith("oracle")]
    assert 0 < ndt < oracle
    assert (flow / "runs/report_lorenz/report.html").exists()


def test_new_sessions_bring_only_their_units(flow):
    before = load_model(flow / "runs/sim_velocity_hard/decoder/seed0")
    (who, _) = new_people_of(flow)
    after = load_model(flow / f"runs/sim_velocity_hard/decoder/seed0-{who}/unit_embedding-5s/model")
    old, new = before.model.state_dict(), after.model.state_dict()
    n = len(before.facts.channels) + 1
    assert len(after.facts.channels) == len(before.facts.channels) + VELOCITY["n_units"]
    for name, value in old.items():
        torch.testing.assert_close(new[name][:n] if name == "unit.weight" else new[name], value, rtol=0, atol=0)


def test_arms_and_ridge_are_scored_on_the_other_day(flow):
    """Calibrated on the first day, tested on the second, baselines fitted on the same first day."""
    found = values(flow / "runs/velocity", "r2")
    assert {b for _, b in found} == {5.0, 20.0}
    assert {m for m, _ in found} == {"units", "scratch", "ridge, causal taps"}
    assert all(len(v) == 2 and np.isfinite(v).all() for v in found.values())
    assert {r["subject"].split("/")[1] for r in read_results(flow / "runs/velocity") if r["metric"] == "r2"} == {"day2"}
    assert np.mean(found["ridge, causal taps", 20.0]) > 0.2
    page = (flow / "runs/report_velocity/report.html").read_text()
    assert "has the larger area over training lengths than" in page


def test_every_strategy_found_has_a_curve_beside_the_wiener_filter(flow, monkeypatch):
    monkeypatch.chdir(flow)
    do("evaluate", "benchmark=behaviour_curve", "runs=runs/sim_velocity_hard", "benchmark.strategy=unit_embedding",
       "out=runs/report_curve", "results=runs/curve")  # fmt: skip
    found = values(flow / "runs/curve", "r2")
    assert {m for m, _ in found} == {
        "unit_embedding", "scratch", "ridge, causal taps", "ridge, causal exponential 240 ms"
    }  # fmt: skip
    assert {b for _, b in found} == {5.0, 20.0}
    one = values(flow / "runs/velocity", "r2")
    assert found["unit_embedding", 20.0] == pytest.approx(one["units", 20.0])
    assert list((flow / "runs/report_curve/figures").glob("curve-*.png"))


def new_people_of(folder):
    return sorted({p.name.split("-")[-1] for p in (folder / "runs/sim_velocity_hard/decoder").glob("seed0-*")})
