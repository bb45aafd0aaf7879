"""`neurofm evaluate` end to end on simulated people: rows, bars, looks, leaks, damage, and what the decoders may see."""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurofm.benchmarks.adapted import trials as trials_benchmark
from neurofm.benchmarks.adapted.decoders import RegionPredictor, find_decoders, open_decoder
from neurofm.benchmarks.adapted.new_subject import MODEL, SKIP, score_new_subjects
from neurofm.benchmarks.adapted.trials import ENSEMBLE, TrialScores, score_trials
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.tables import read_table

SOURCE = dict(
    n_subjects=4, n_channels=9, n_sources=2, duration_s=300, rate_hz=2, modality="fmri", noise=0.3, n_trials=0
)
LABELLED = dict(n_subjects=2, n_channels=6, n_sources=2, duration_s=2, rate_hz=50, noise=0.3, n_trials=45, effect=3)
TINY = [
    "model.dim=16", "model.n_layers=1", "model.n_heads=2", "model.n_kv_heads=2", "model.ffn_dim=32", "model.dropout=0",
    "+model.channel_embedding=true", "trainer.progress=false", "optim.warmup_steps=2",
]  # fmt: skip
CONF = {
    "data/people.yaml": """# Simulated volumes, two a second
id: simulated
path: shards/people
split: {rule: new_subject, subject: "${held_out}", budgets_s: {short: 20, long: 40}, test_s: 100, gap_s: 2}
transforms: [{name: standardize, prior_s: 10}]
""",
    "data/labelled.yaml": """# Simulated trials with official parts
id: simulated
path: shards/labelled
split: {rule: official, pretrain_part: train, subject: "02"}
transforms: [{name: standardize, per: subject}]
""",
    "task/regions8.yaml": "# Windows of 16\nname: regions8\nwindow_s: 8\nstride_s: 4\nwindows: sliding\n",
    "task/next5.yaml": "# Windows of 5\nname: next5\nwindow_s: 2.5\nwindows: sliding\n",
    "task/classes.yaml": "# Two\nname: classes\nwindow_s: 1.0\nwindows: trial\nlabel_kind: trial\n",
    "benchmark/people.yaml": """# Ours
name: people
title: Simulated people
parts:
  - {kind: regions, runs: "${runs}/regions", protocol: masked_region, task: regions8, margin: 2}
  - {kind: regions, runs: "${runs}/next", protocol: next_volume, task: next5, context: 4}
  - {kind: training, runs: "${runs}/regions"}
  - {kind: corpus, path: shards/people, title: The people}
""",
    "benchmark/labelled.yaml": """# Ours too
name: labelled
title: Simulated trials
parts: [{kind: trials, runs: "${runs}/trials", tasks: [classes], event_s: {classes: 0.3}}]
""",
    "benchmark/mistyped.yaml": "# No\nname: no\ntitle: no\nparts: [{kind: corpus, path: shards/people, titel: x}]\n",
}
EVALUATE = ["evaluate", "--config-dir=conf", "benchmark=people"]


def do(*argv):
    assert main([str(a) for a in argv]) == 0, argv


def prep(name, source):
    do(
        "prep",
        "dataset=simulated",
        "dask=none",
        f"out=shards/{name}",
        *(f"dataset.source.{k}={v}" for k, v in source.items()),
    )


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Two people held out in turn, each with decoders of two budgets, full and scratch; a person's trials, two seeds."""
    folder, before = tmp_path_factory.mktemp("evaluate"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    for name, text in CONF.items():
        path = folder / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    try:
        prep("people", SOURCE)
        prep("labelled", LABELLED)
        ours = ["train", "--config-dir=conf", "data=people", "trainer.max_steps=4", *TINY]
        for who in ("03", "04"):
            do(
                *ours, "task=regions8", "objective=masked_region", "objective.skip={name: ridge}", f"held_out={who}",
                f"name=regions/{who}", "model.patch_samples=4", "model.causal=false", "+model.mask_token=true",
            )  # fmt: skip
            do("finetune", f"checkpoint=runs/regions/{who}", "loop.steps=4", "+scratch_loop.steps=0")
        do(
            *ours, "task=next5", "objective=next_state_regression", "held_out=04", "name=next/04",
            "+objective.skip={name: ridge, lags: [0, -1], penalty: [9, 9], penalty_own: [9, 9]}", "model.patch_samples=1",
        )  # fmt: skip
        do("finetune", "checkpoint=runs/next/04", "loop.steps=0", "budgets=[long]")
        for seed in (0, 1):
            do(
                "train", "--config-dir=conf", "data=labelled", "task=classes", "objective=supervised", *TINY,
                "trainer.max_steps=60", "optim.lr_peak=5e-3", "model.patch_samples=10", "model.causal=false",
                "objective.readout=flatten", f"seed={seed}", f"name=trials/{seed}",
            )  # fmt: skip
            do("finetune", f"checkpoint=runs/trials/{seed}", "loop.steps=10", "loop.lr_peak=2e-3")
        do(*EVALUATE)
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    """Intervals are tested elsewhere; here they only cost time."""
    monkeypatch.setattr(trials_benchmark, "time_resolved", partial(trials_benchmark.time_resolved, n_draws=200))


@pytest.fixture
def copied(flow, tmp_path, monkeypatch):
    """A copy in which things may be broken."""
    for name in ("conf", "runs", "shards"):
        shutil.copytree(flow / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(folder="runs", **where):
    return [r for r in scores_only(read_results(folder)) if all(r[k] == v for k, v in where.items())]


def test_every_decoder_and_bar_has_its_row(flow):
    rows = read_table("runs/report-people", "report_scores")
    assert {r["benchmark"] for r in rows} == {"people"}
    assert all(np.isfinite(r["value"]) and r["looks"] >= 1 and r["date"] for r in rows)
    for who in ("03", "04"):
        # the budgets are called short and long; rows say how many volumes they are
        mine = {(r["model"], r["strategy"], r["budget"], r["transductive"])
                for r in rows if r["subject"] == who and r["task"] == "masked_region"}  # fmt: skip
        decoders = {(m, s, b, False) for m in (MODEL, SKIP) for s in ("full", "scratch") for b in (40.0, 80.0)}
        bars = {(m, "", b, t) for m in ("ridge", "ridge_own") for b in (40.0, 80.0) for t in (False, True)}
        assert mine == decoders | bars
    bars = {r["model"] for r in rows if r["task"] == "next_volume" and r["baseline"]}
    assert bars == {"persistence", "var1", "var2", "var1_own"}
    assert {r["n"] for r in rows if r["task"] == "masked_region"} == {3}
    assert len(rows) == 2 * 16 + 4 + 8


def test_an_untouched_network_adds_nothing_to_the_closed_form(flow):
    rows = read_table("runs/report-people", "report_scores")
    untouched = [r for r in rows if r["strategy"] == "scratch" and r["task"] == "masked_region"]
    for who in ("03", "04"):
        for budget in (40.0, 80.0):
            a, b = (
                next(r for r in untouched if (r["subject"], r["budget"], r["model"]) == (who, budget, m))["value"]
                for m in (MODEL, SKIP)
            )
            assert a == pytest.approx(b, abs=1e-5)
    a, b = (next(r["value"] for r in rows if (r["task"], r["strategy"], r["model"]) == ("next_volume", "scratch", m))
            for m in (MODEL, SKIP))  # fmt: skip
    assert a == pytest.approx(b, abs=1e-5)


def test_pretraining_helps_where_structure_is_shared(flow):
    for who in ("03", "04"):
        full, scratch = (rows_of(model=MODEL, strategy=s, subject=who, budget=40.0)[0]["value"]
                         for s in ("full", "scratch"))  # fmt: skip
        assert full > scratch + 0.05


def test_the_report_stands_alone_and_judges_nothing_on_two_people(flow):
    page = Path("runs/report-people/report.html").read_text()
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|\bsrc=", page)
    body = re.sub(r"<[^>]+>", "\n", page.partition("<main>")[2])
    first = [line for line in body.splitlines() if line.strip()][2]
    assert first.startswith("0 of ")
    assert first.endswith("not tested.")
    assert "too few to judge by" in page
    assert "FAILED" not in page
    assert "HELD" not in page
    assert "none was found" in page


def test_a_second_evaluation_counts_as_a_second_look(copied):
    before = read_results("runs")
    assert max(r["looks"] for r in before) == 1
    do(*EVALUATE, "out=again")
    after = read_results("runs")
    # as text: NaN is not equal to itself
    assert repr(after[: len(before)]) == repr(before)
    new = after[len(before) :]
    assert len(new) == len(before)
    assert {r["looks"] for r in new} == {2}
    assert len({r["run_id"] for r in after}) == 2
    assert ": 2 runs" in Path("again/report.html").read_text()


def leak(folder, change):
    path = folder / "runs/regions/04-adapted/full-short/model/card.json"
    card = json.loads(path.read_text())
    change(card["provenance"])
    path.write_text(json.dumps(card))


LEAKS = {
    "the tested person": lambda p: p["pretrained"]["split"]["spans"].append(["simulated_sub-04_task-rest", 0, 9, ""]),
    "the tested time": lambda p: p["split"]["spans"].append(["simulated_sub-04_task-rest", 290, 299, ""]),
    "a name in the card": lambda p: p["pretrained"]["subjects"].append("simulated/04"),
    "what the checkpoint came from": lambda p: p["pretrained"].update(
        pretrained={**p["pretrained"], "subjects": ["simulated/04"]}
    ),
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_planted_leak_is_refused(copied, capsys, what):
    assert "simulated_sub-04_task-rest" in {r[0] for r in open_decoder(
        copied / "runs/regions/04-adapted/full-short/model").calibrated_on}  # fmt: skip
    leak(copied, LEAKS[what])
    before = read_results("runs")
    assert main([*EVALUATE, "out=leaky"]) == 1
    said = capsys.readouterr().err
    assert "refused, the test leaks" in said
    assert "allow_leak=REASON" in said
    assert not Path("leaky").exists()
    # what is refused has looked at nobody
    assert len(read_results("runs")) == len(before)


def test_what_evaluation_would_refuse_is_said_before_the_first_step(copied, capsys):
    own = ["--config-dir=conf", "data=people", "task=regions8", "loop.steps=0", "budgets=[short]", "from_scratch=false"]
    do("finetune", "checkpoint=runs/regions/04", *own, "held_out=04", "run_dir=runs/new")
    assert "warning" not in capsys.readouterr().err
    do("finetune", "checkpoint=runs/regions/04", *own, "held_out=03", "run_dir=runs/met")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "`neurofm evaluate` will refuse these decoders" in said
    assert "tests new people, but 03 took part in pretraining" in said
    # and it does
    with pytest.raises(DataError, match="03 took part in pretraining"):
        list(score_new_subjects(name="t", runs="runs/met", results="scores", run_id="1", task="regions8"))
    # a network from scratch has met nobody
    do("finetune", "checkpoint=runs/regions/04", *own, "held_out=03", "run_dir=runs/fresh", "adapt=scratch")
    assert "warning" not in capsys.readouterr().err


def test_a_leak_is_allowed_for_a_reason_that_is_printed(copied):
    leak(copied, LEAKS["the tested person"])
    do(*EVALUATE, "out=leaky", "allow_leak='to see how much it matters'")
    page = Path("leaky/report.html").read_text()
    assert "to see how much it matters" in page
    assert "Leakage audit, leak: The protocol tests new people, but 04 took part in pretraining." in page
    assert {r["leak_reason"] for r in read_table("leaky", "report_scores")} == {"to see how much it matters"}


def test_an_edited_shard_is_named(copied, capsys):
    path = sorted(copied.glob("shards/people/shards/*04*.tar"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert main([*EVALUATE, "out=damaged"]) == 1
    assert path.name in capsys.readouterr().err


def test_a_mistyped_benchmark_says_so(flow, capsys):
    assert main(["evaluate", "--config-dir=conf", "benchmark=mistyped"]) == 1
    assert "kind 'corpus' has no key 'titel': did you mean 'title'" in capsys.readouterr().err


def predictor(folder):
    decoder = open_decoder(Path(folder))
    torch.manual_seed(0)
    # an untrained head is zero and would see nothing anyway
    torch.nn.init.normal_(decoder.loaded.objective.head.weight)
    return RegionPredictor(decoder, decoder.test[0].recording_id)


def test_next_does_not_see_the_volume_it_predicts(flow, monkeypatch):
    p = predictor("runs/next/04-adapted/full-long/model")
    history = np.random.default_rng(0).standard_normal((70, 4, 9))
    answer = p.next(history)
    assert answer.shape == (70, 9)
    batches = p.batches

    def tampered(values):
        values = values.copy()
        values[:, -1] = 1e3
        return batches(values)

    monkeypatch.setattr(p, "batches", tampered)
    np.testing.assert_array_equal(p.next(history), answer)
    monkeypatch.undo()
    history[:, -1, 2] += 1
    assert np.abs(p.next(history) - answer).max() > 1e-3


@pytest.mark.parametrize("ask", ["masked", "masked_by_skip"])
def test_masked_does_not_see_the_hidden_region(flow, ask):
    p = predictor("runs/regions/04-adapted/full-short/model")
    values = np.random.default_rng(0).standard_normal((70, 16, 9))
    answer = getattr(p, ask)(values, 3)
    other = values.copy()
    other[:, :, 3] = np.nan
    np.testing.assert_array_equal(getattr(p, ask)(other, 3), answer)
    other[:, :, 3] = 1e3
    np.testing.assert_array_equal(getattr(p, ask)(other, 3), answer)
    other[:, :, 4] += 1
    assert np.abs(getattr(p, ask)(other, 3) - answer).max() > 1e-3


def test_a_decoder_of_an_adapted_model_remembers_where_that_came_from(copied):
    do("finetune", "checkpoint=runs/regions/04-adapted/full-short", "loop.steps=0", "budgets=[short]",
       "from_scratch=false", "run_dir=runs/chain")  # fmt: skip
    seen = {s.recording_id for s in open_decoder(copied / "runs/chain/full-short/model").trained_on}
    assert seen == {f"simulated_sub-0{i}_task-rest" for i in (1, 2, 3, 4)}


# labelled trials


def score(**choices):
    common = dict(name="t", runs="runs/trials", results="scores", run_id="r", task="classes")
    *_, (line, out) = score_trials(**{**common, **choices})
    assert line.startswith("classes")
    return out


def test_trials_are_scored_beside_their_baselines(copied):
    out = score()
    assert out.classes == ("class0", "class1")
    assert {k: len(v) for k, v in out.per_seed.items()} == {"full": 2, "scratch": 2}
    models = {(r["model"], r["strategy"], r["seed"], r["baseline"]) for r in out.rows}
    assert models == {
        *((MODEL, s, seed, False) for s in ("full", "scratch") for seed in (0, 1)),
        *((ENSEMBLE, s, -1, False) for s in ("full", "scratch")),
        *((m, "", -1, True) for m in ("shrinkage LDA", "shrinkage LDA, same transforms", "majority")),
    }
    assert {r["n"] for r in out.rows} == {15}
    assert out.scores["shrinkage LDA", ""].accuracy.value > 0.8
    assert out.scores[ENSEMBLE, "full"].accuracy.value > 0.8
    assert out.scores["majority", ""].balanced.value == 0.5
    # an oracle of the ensemble: mean of the seeds' log-probabilities, trial by trial
    full = [f for f in find_decoders("runs/trials", task="classes") if "full" in f.parts[-2]]
    logits = [trials_benchmark.logits_of(open_decoder(f), "test")[0] for f in full]
    said = np.array(out.classes)[np.mean(logits, axis=0).argmax(1)]
    assert said.tolist() == out.scores[ENSEMBLE, "full"].predicted.tolist()
    assert out.looks == 1
    assert len(scores_only(read_results("scores"))) == len(out.rows)


def test_trials_through_the_command_line(copied):
    other = Path("runs/report-people/report.html").read_bytes()
    do("evaluate", "--config-dir=conf", "benchmark=labelled")
    page = Path("runs/report-labelled/report.html").read_text()
    assert Path("runs/report-people/report.html").read_bytes() == other, "another benchmark's report was replaced"
    assert "classes: the pretrained model reaches shrinkage LDA" in page
    assert "no sub-window that ends before the movement is decoded above chance" in page


def test_a_control_with_signal_is_a_leak(copied):
    out = score(is_control=True)
    assert out.control.severity == "leak"
    out = TrialScores(task="t", classes=("a", "b"))
    labels = np.array(list("ab") * 20)
    guess = SimpleNamespace(predicted=np.array(list("aabb") * 10), accuracy=SimpleNamespace(value=0.5))
    out.scores[ENSEMBLE, "full"] = guess
    assert trials_benchmark._control(out, labels).severity == "ok"


def test_two_recipes_are_not_averaged(copied):
    path = copied / "runs/trials/0-adapted/full-all/model/card.json"
    card = json.loads(path.read_text())
    card["objective"]["choices"]["dropout"] = 0.4
    path.write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="differ in model or objective"):
        score()
    assert not Path("scores").exists()


def test_trials_of_two_people_are_not_averaged(copied):
    path = copied / "runs/trials/0-adapted/full-all/model/card.json"
    card = json.loads(path.read_text())
    card["facts"]["classes"] = card["facts"]["classes"][::-1]
    path.write_text(json.dumps(card))
    with pytest.raises(ConfigError, match="differ in test trials or classes"):
        score()
    assert not Path("scores").exists()


def test_a_leak_in_trials_is_refused_before_the_look(copied):
    path = copied / "runs/trials/1-adapted/full-all/model/card.json"
    card = json.loads(path.read_text())
    test = open_decoder(path.parent).test[0]
    card["provenance"]["pretrained"]["split"]["spans"].append(list(test))
    path.write_text(json.dumps(card))
    with pytest.raises(DataError, match="refused, the test leaks"):
        score()
    assert not Path("scores").exists()
    score(allow_leak="for a test")


def test_a_test_trial_that_cannot_be_read_is_not_left_out(copied):
    for path in copied.glob("runs/trials/*/*/model/card.json"):
        card = json.loads(path.read_text())
        card["provenance"]["data"]["preload"] = False
        path.write_text(json.dumps(card))
    path = sorted(copied.glob("shards/labelled/shards/*02*.tar"))[0]
    index = json.loads(Path(f"{path}.idx").read_text())
    entry = next(e for e in index["segments"] if "test" in e["recording_id"])
    span = entry["streams"]["signal"]
    data = bytearray(path.read_bytes())
    data[span["offset"] + span["size"] - 1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=path.name):
        score()
