"""`neurofm evaluate` with models named by their import path, controls, a suite and a leaderboard, end to end."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from data_prep.pipeline import prepare
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main

NET = '''
from torch import nn


class Net(nn.Module):
    """A network that has never heard of neurofm."""

    def __init__(self, n_channels, n_samples, n_out):
        super().__init__()
        self.mix = nn.Conv1d(n_channels, 4, 1)
        self.read = nn.Linear(4 * n_samples, n_out)

    def forward(self, x):
        return self.read(self.mix(x).flatten(1))
'''
BENCHMARK = """# Mine
name: mine
title: Simulated people
parts:
  - kind: decoding
    title: Within each person
    data: { path: shards/people }
    task: { name: classes, window_s: 1.0, windows: trial, label_kind: trial }
    split: trials_by_part
    seeds: [0, 1, 2]
    models:
      "net": { class: "my_net.py:Net", choices: { n_channels: $channels, n_samples: $samples, n_out: $classes }, training: { epochs: 60, batch_size: 16, lr_peak: 3.0e-3 } }
      "ridge": { steps: [{ class: "sklearn.preprocessing:StandardScaler" }, { class: "sklearn.linear_model:RidgeClassifierCV" }] }
      "prior": { class: "sklearn.dummy:DummyClassifier", baseline: true }
published:
  - { model: nobody, metric: balanced accuracy, value: ".9", protocol: none, source: nowhere }
"""
SUITE = """# Mine and one whose data are not there
defaults:
  - /benchmark@benchmarks.mine: mine
  - /benchmark@benchmarks.sleep_edf: sleep_edf
  - _self_

title: My suite
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    source = {
        "name": "simulated", "n_subjects": 3, "n_channels": 8, "duration_s": 2, "rate_hz": 40, "n_trials": 90, "noise": 0.3,
        "effect": 3.0, "subject_spread": 0.2,
    }  # fmt: skip
    prepare(
        source=source, out=str(folder / "shards/people"), stages=[], dataset_id="simulated", dask="none", progress=False
    )
    for name, text in (("benchmark/mine", BENCHMARK), ("suite/two", SUITE)):
        path = folder / f"conf/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "my_net.py").write_text(NET)
    return folder


def test_network_and_estimators_by_import_path_with_controls(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    argv = ["evaluate", "--config-dir", "conf", "benchmark=mine", "control=[shuffle,noise,time_only]", "out=out"]
    assert main(argv) == 0
    rows = scores_only(read_results(folder / "runs"))
    over = [r for r in rows if r["fold"] == "all" and not r["subject"]]
    mean = {(r["model"], r["control"]): r for r in over if r["metric"] == "balanced_accuracy"}
    assert mean["ridge", ""]["value"] > 0.75
    assert mean["net", ""]["value"] > 0.75
    assert mean["ridge", ""]["p"] < 0.05
    assert mean["prior", ""]["value"] == 0.5
    for model in ("ridge", "net"):
        for control in ("shuffle", "noise"):
            i = mean[model, control]
            assert i["low"] < 0.5 + 0.12
            assert i["value"] < 0.68, (model, control)
    for r in rows:
        assert r["protocol_hash"] == rows[0]["protocol_hash"]
        assert r["checkpoint_hash"]
        assert r["machine"]
        assert r["date"]
    seeds = {r["seed"] for r in rows if r["model"] == "net" and r["fold"] != "all"}
    assert seeds == {0, 1, 2}
    page = (folder / "out/report.html").read_text()
    for text in ("balanced_accuracy, shuffle", "control time_only", "nobody", "Holm", "over people", "of every person"):
        assert text in page, text
    assert "does not beat chance" in capsys.readouterr().out


def test_suite_goes_on_where_data_are_missing(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "--config-dir", "conf", "suite=two", "results=other"]) == 0
    said = capsys.readouterr().out
    assert "NOT TESTED Sleep-EDF, part decoding, can be scored." in said
    assert "My suite" in (folder / "runs/report-suite-two/report.html").read_text()


def test_leaderboard_of_several_files(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    if not (folder / "runs/results.parquet").exists():
        main(["evaluate", "--config-dir", "conf", "benchmark=mine", "out=out"])
    (folder / "elsewhere").mkdir(exist_ok=True)
    shutil.copy(folder / "runs/results.parquet", folder / "elsewhere/results.parquet")
    assert main(["evaluate", "leaderboard=[runs,elsewhere/*.parquet]", "out=board"]) == 0
    page = (folder / "board/report.html").read_text()
    assert "critical difference" in page.lower()
    # the copy of a file adds nothing
    assert main(["evaluate", "leaderboard=runs", "out=alone"]) == 0
    tables = [page[page.index("<table") :] for page in (page, (folder / "alone/report.html").read_text())]
    assert tables[0].split("</main>")[0].count("<tr") == tables[1].split("</main>")[0].count("<tr")
    capsys.readouterr()
    assert main(["evaluate", "leaderboard=nowhere", "out=none"]) == 1
    assert "names no results.parquet" in capsys.readouterr().err
    assert list(Path("board/figures").glob("cd-*.png"))
