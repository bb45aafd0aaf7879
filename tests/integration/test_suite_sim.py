"""`neurofm evaluate suite=sim`: ceilings stand in the report, are approached, and a score above one is flagged."""

import numpy as np
import pytest

from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main

LORENZ = {"n_conditions": 12, "n_repeats": 10}


@pytest.mark.slow
def test_known_ceilings_are_approached_and_not_passed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for modality, name in (("eeg", "simulated"), ("meg", "simulated_meg")):
        chosen = ["dataset=simulated", f"dataset.source.modality={modality}", f"dataset.id={name}", "dask=none"]
        assert main(["prep", *chosen]) == 0
    small = [f"dataset.source.{k}={v}" for k, v in LORENZ.items()]
    assert main(["prep", "dataset=sim_lorenz", "dask=none", *small]) == 0
    capsys.readouterr()
    assert main(["evaluate", "suite=sim", "out=page"]) == 0
    said = capsys.readouterr().out
    page = " ".join((tmp_path / "page/report.html").read_text().split())
    for metric in ("balanced_accuracy", "co_bps", "fp_bps"):
        assert f"no model passes the known ceiling of {metric}" in said
    assert "FAILED" not in said
    # what needs decoders that nobody made is named, not skipped in silence
    assert said.count("NOT TESTED") >= 3
    assert page.count("known ceilings") >= 4
    rows = [r for r in scores_only(read_results("runs")) if np.isfinite(r["ceiling"])]
    assert {r["benchmark"] for r in rows} == {"sim_trials", "sim_lorenz"}
    means = [r for r in rows if r["fold"] == "all" and not r["subject"] and "LDA" in r["model"]]
    assert all(0.9 * r["ceiling"] < r["value"] <= r["ceiling"] for r in means)
    assert all(r["high"] <= 1 for r in rows if r["metric"] == "balanced_accuracy" and np.isfinite(r["high"]))
    # planted: the same scores under a ceiling that is too low, as those of a model that knows the answers would look
    lower = [
        "benchmark=sim_trials",
        "benchmark.parts.0.ceiling.balanced_accuracy=0.6",
        "out=planted",
        "results=planted",
    ]
    assert main(["evaluate", *lower]) == 0
    said = capsys.readouterr().out
    (failed,) = [line for line in said.splitlines() if line.startswith("FAILED")]
    assert "Simulated EEG, within each person: no model passes the known ceiling" in failed
    assert "Above it: shrinkage LDA on the slow signal" in said
