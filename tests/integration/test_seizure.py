"""Seizure detection from raw to report on a small simulated corpus: the oracle on top, chance at the bottom."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.cli.main import main
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.data.splits.spans import overlap
from neurofm.schema.tables import read_table

# louder and quieter in artefacts than the corpus of the benchmark, so that ten minutes a person are enough to learn from
SOURCE = dict(
    n_subjects=6, duration_s=600, channels="[4,8]", rate_hz=64, seizures_per_hour=24, seizure_s="[25,50]", seed=5,
    amplitude="[2.0,3.0]", run_fraction=0.1, artefacts_per_hour=20,
)  # fmt: skip
SPLIT = ["data.split.test=2", "data.split.budgets_s={15min:150,30min:300}", "data.split.gap_s=10"]
SMALL = ["model.dim=16", "model.n_layers=1", "model.ffn_dim=32"]
TRAINER = ["trainer.progress=false"]
LOOP = ["loop.steps=60", "loop.lr_peak=3e-3"]


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Folder in which a corpus was prepared, a model pretrained and two kinds of decoders made."""
    folder, before = tmp_path_factory.mktemp("seizure"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    try:
        source = [f"dataset.source.{k}={v}" for k, v in SOURCE.items()]
        assert main(["prep", "dataset=simulated_ieeg", "dask=none", *source]) == 0
        pretrain = ["train", "experiment=ieeg_pretrain", "trainer.max_steps=20", *SPLIT, *SMALL, *TRAINER]
        assert main([*pretrain, "name=simulated_ieeg/mvpformer"]) == 0
        checkpoint = ["finetune", "checkpoint=runs/simulated_ieeg/mvpformer", *SPLIT, *LOOP]
        assert main([*checkpoint, "experiment=ieeg_seizure", "from_scratch=false"]) == 0
        for person in people():
            few = [
                "experiment=ieeg_few_shot",
                "data=simulated_ieeg",
                f"held_out={person}",
                "run_dir=runs/few/" + person,
            ]
            assert main([*checkpoint, *few]) == 0
        yield folder
    finally:
        os.chdir(before)


def people():
    dataset = Dataset("shards/simulated_ieeg")
    split = make_split(dataset, rule="by_subject", test=2)
    return sorted({dataset.subject(s.recording_id) for s in split["test"]})


def scores(report, model, metric, strategy=""):
    rows = read_table(report, "report_scores")
    return [r["value"] for r in rows if (r["model"], r["metric"], r["strategy"]) == (model, metric, strategy)]


def test_people_never_trained_on(flow):
    assert main(["evaluate", "benchmark=simulated_seizure", "out=runs/report"]) == 0
    report = flow / "runs/report"
    assert "Seizure detection" in (report / "report.html").read_text()

    def mean(model, metric, strategy=""):
        found = scores(report, model, metric, strategy)
        assert len(found) == 2
        return np.mean(found)

    assert mean("oracle, sees the source", "f1") > 0.95
    assert mean("oracle, sees the source", "event_sensitivity") == 1
    assert mean("oracle, sees the source", "false_alarms_per_hour") == 0
    assert abs(mean("chance", "kappa")) < 0.15
    assert mean("majority", "event_sensitivity") == 0
    line = "line length, logistic regression"
    assert mean(line, "event_sensitivity") >= 0.75
    assert 0.3 < mean(line, "kappa") < mean("oracle, sees the source", "kappa")
    assert mean("neurofm", "kappa", "full") > 0.3
    # the two people are one test part, and this was the first look at it
    assert {r["looks"] for r in read_table(report, "report_scores")} == {1}


def test_arms_are_compared_person_by_person(flow):
    (flow / "own/benchmark").mkdir(parents=True)
    (flow / "own/benchmark/few.yaml").write_text(
        "# Two arms\nname: few\ntitle: few\nparts:\n  - kind: adaptation\n    metric: kappa\n    arms:\n"
        "      pretrained: {runs: runs/few, strategy: full}\n      scratch: {runs: runs/few, strategy: scratch}\n"
    )
    assert main(["evaluate", "--config-dir", "own", "benchmark=few", "out=runs/few-report"]) == 0
    page = (flow / "runs/few-report/report.html").read_text()
    assert "pretrained is ahead of scratch" in page
    kappa = scores(flow / "runs/few-report", "neurofm", "kappa", "full")
    # two people, two budgets
    assert len(kappa) == 4
    assert np.isfinite(kappa).all()


def test_no_window_crosses_the_split(flow):
    dataset = Dataset("shards/simulated_ieeg")
    split = make_split(dataset, rule="by_subject", test=2, subject=people()[0], budgets_s={"a": 150.0}, gap_s=10)
    whole = {r: dataset.subject(r) for r in dataset.recordings}
    assert not overlap(split["pretrain"], split["test"], subject_of=whole).subjects
    assert not overlap(split["calibration-a"], split["test"], gap_s=10).spans
