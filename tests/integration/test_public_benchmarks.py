"""Every public benchmark by the verbs alone, from a miniature of its published layout to the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from neurofm.benchmarks.decoding.neuroprobe import SPLITS, TASKS
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.conf import conf_dir
from neurofm.cli.main import main
from neurofm.schema.embeddings import write_embeddings
from neurofm.schema.tables import read_table
from tests.layouts.trees import (
    bci_iv_2a,
    brain_treebank,
    deap,
    dreamer,
    du_in,
    falcon,
    nlb,
    physionet_mi,
    seed,
    sleep_edf,
    speech_meeg,
    swec,
    things_meg,
    tuh,
)

CLIPS = "{{name: {name}, per: [subject], folds: {{unit: trial, kind: clip, n: 3, seed: 0}}}}"
# trees are too short for published windows and for as many folds; what is read, cut and labelled is the YAML's
SHORT = ["task.window_s=1.0", "task.stride_s=1.0"]
# name → writer, overrides of prep, of every part, and folds expected
BENCHMARKS = {
    "bci_iv_2a": (bci_iv_2a.write_gdf, [], ["task.window_s=2.0"]),
    "physionet_mi": (physionet_mi.write, [], []),
    "seed": (seed.write_seed, [], ["task.window_s=0.5", "task.stride_s=0.5"]),
    "dreamer": (dreamer.write, [], [*SHORT, f"split={CLIPS.format(name='dreamer')}"]),
    "deap": (deap.write, [], [*SHORT, f"split={CLIPS.format(name='deap')}"]),
    "sleep_edf": (sleep_edf.write, [], ["split={name: sleep_edf, folds: {unit: subject, n: 2, seed: 0}, promises: {new_subject: true}}"]),
    # four and twelve seconds are too short for the preset's filters
    "tuab": (tuh.write_tuab, ["stages=[{name: resample, rate_hz: 200}]"], SHORT),
    "tuev": (tuh.write_tuev, ["stages=[]"], ["task.window_s=1.0", "task.offset_s=0.0"]),
    "nlb": (nlb.write_validation_trials, [], ["tasks=null", "window_s=[-0.1,0.2]", "+baselines=[smoothing]"]),
    # the tree has the days to train on only: their last third is tested
    "falcon": (falcon.write_m2, [], ["0.split=null", "+0.official=held_in_calib", "+0.test_fraction=0.4", "+0.gap_s=0.1", "1.official=held_in_calib", "+1.gap_s=0.1"]),
}  # fmt: skip


def overrides(name: str) -> list[str]:
    """Choices of every part, or of the one whose number stands before them."""
    n = len(yaml.safe_load((conf_dir() / f"benchmark/{name}.yaml").read_text())["parts"])
    out = []
    for choice in BENCHMARKS[name][2]:
        plus, bare = ("+", choice[1:]) if choice.startswith("+") else ("", choice)
        own = [bare] if bare[0].isdigit() else [f"{i}.{bare}" for i in range(n)]
        out += [f"{plus}benchmark.parts.{o}" for o in own]
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_runs_on_its_miniature(name, tmp_path, monkeypatch, capsys):
    writer, prep, _ = BENCHMARKS[name]
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    tree = writer(tmp_path / "raw")
    assert main(["prep", f"dataset={name}", f"dataset.source.root={tree.choices['root']}", "dask=none", *prep]) == 0
    code = main(["evaluate", f"benchmark={name}", "out=page", *overrides(name)])
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = scores_only(read_results("runs"))
    assert rows
    for r in rows:
        assert r["protocol_hash"]
        assert r["machine"]
        assert r["date"]
    assert Path("page/report.html").exists()


def embed_images(folder: str) -> None:
    """Stand in for an image encoder: random vectors for every image that the prepared dataset lists."""
    rows = read_table(f"{folder}/stimuli", "stimuli")
    vectors = np.random.default_rng(0).standard_normal((len(rows), 6)).astype("f4")
    ids = sorted(r["stimulus_id"] for r in rows)
    write_embeddings(Path(folder) / "stimuli/embeddings/clip.safetensors", ids, vectors, encoder="random", hash="r")


STEPS = ["trainer.max_steps=4", "trainer.progress=false", "batch_size=4"]
SHORT_DU_IN = ["model.n_layers=1", "model.dropout=0.0"]
SEIZURES = [
    "data=swec", "data.split.test=2", "task.window_s=2.0", "task.stride_s=1.0", "task.label_s=1.0", "data.n_workers=0"
]  # fmt: skip
# a miniature has too few people or sounds for the published split
ANY_SPLIT = "benchmark.parts.0.split=null"
# name → writer, overrides of prep, commands between prep and evaluate, overrides of evaluate
TRAINED = {
    "swec": (
        swec.make_people, [],
        [
            ["train", "experiment=ieeg_pretrain", "data=swec", "data.split.test=2", "task.window_s=4.0", "name=swec/m", "model.dim=16",
             "model.n_layers=1", "model.ffn_dim=32", "data.n_workers=0", *STEPS],
            ["finetune", "checkpoint=runs/swec/m", "experiment=ieeg_seizure", *SEIZURES, "loop.steps=4", "from_scratch=false"],
        ],
        [ANY_SPLIT],
    ),
    "du_in": (
        du_in.make_words, [],
        [
            command
            for who in ("001", "002")
            for command in (
                ["train", "experiment=du_in_tokenizer", f"data.split.subject='{who}'", "model.n_codes=16", "model.n_decoder_layers=1",
                 *SHORT_DU_IN, *STEPS],
                ["train", "experiment=du_in_masked_code", f"data.split.subject='{who}'",
                 f"objective.tokenizer=runs/du_in/{who}/tokenizer-seed0", *SHORT_DU_IN, *STEPS],
                ["finetune", f"checkpoint=runs/du_in/{who}/masked_code-seed0", "experiment=du_in_words", f"data.split.subject='{who}'",
                 "loop.steps=4", "loop.batch_size=8", "from_scratch=false"],
            )
        ],
        [],
    ),
    "things_meg": (
        things_meg.make_concepts, ["dataset.source.variant=preprocessed", "prep@dataset=meg_epochs"],
        [
            embed_images,
            ["train", "experiment=things_meg", "data.n_workers=0", "data.split.validation_fraction=0.2", "model.n_filters=4", *STEPS],
            ["train", "experiment=things_meg", "data.n_workers=0", "data.split.validation_fraction=0.2", "model.n_filters=4",
             "held_out=BIGMEG2", "name=things_meg/held_out", *STEPS],
        ],
        ["+benchmark.parts.0.resolved=false"],
    ),
    "gwilliams2022": (
        speech_meeg.make_gwilliams2022_stories, [],
        [
            ["embed", "data=stimuli", "dataset=gwilliams2022", "encoder=spectrogram", "files=raw/stimuli/audio"],
            ["train", "experiment=gwilliams2022", "data.n_workers=0", "data.embedding=spectrogram", "data.split.test=2",
             "data.split.validation=0", "task.window_s=1.0", "model.dim=8", "model.n_virtual=4", "model.n_layers=2", *STEPS],
        ],
        ["+benchmark.parts.0.resolved=false", ANY_SPLIT],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_trains_and_is_scored_on_its_miniature(name, tmp_path, monkeypatch, capsys):
    writer, prep, commands, chosen = TRAINED[name]
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    writer(tmp_path / "raw")
    assert main(["prep", f"dataset={name}", "dataset.source.root=raw", "dask=none", *prep]) == 0, (
        capsys.readouterr().err
    )
    for command in commands:
        if callable(command):
            command(f"shards/{name}")
            continue
        code = main(command)
        assert code == 0, capsys.readouterr().err
    if ANY_SPLIT in chosen:
        # models of another split than the benchmark's are refused, before anything of the test is looked at
        assert main(["evaluate", f"benchmark={name}", "results=refused"]) == 1
        assert f"was trained under another split than '{name}'" in capsys.readouterr().err
        assert not read_results("refused")
    code = main(["evaluate", f"benchmark={name}", "out=page", *chosen])
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = scores_only(read_results("runs"))
    assert rows
    assert Path("page/report.html").exists()


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Folder with the miniature Brain Treebank, prepared with the features that the benchmark's first lines ask for."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "raw").mkdir()
    brain_treebank.make_films(folder / "raw")
    asked = (conf_dir() / "benchmark/neuroprobe.yaml").read_text().split("features=")[1].split("'")[0]
    features = re.sub(r"[#\s]", "", asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # at 2048 Hz the notches of the preset take most of the time
        prep = [
            "dataset.source.root=raw",
            f"dataset.source.features={features}",
            "dask=none",
            "stages=[{name: resample, rate_hz: 128}]",
        ]
        assert main(["prep", "dataset=brain_treebank", *prep]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_neuroprobe(split, films, monkeypatch, capsys):
    monkeypatch.chdir(films)
    code = main(
        ["evaluate", "benchmark=neuroprobe", f"benchmark.split={split}", f"results={split}", f"out={split}/page"]
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = [r for r in scores_only(read_results(split)) if r["fold"] not in ("", "all")]
    assert {r["task"] for r in rows} == set(TASKS)
    tested = {(r["task"], r["fold"]) for r in rows}
    # of five sessions one is no lite session: four are tested, in halves within each, the other person's two across people
    assert len(tested) == len(TASKS) * {"within_session": 8, "cross_session": 4, "cross_subject": 2}[split]
    assert {r["subject"] for r in rows} == ({"1"} if split == "cross_subject" else {"1", "2"})
    assert {r["metric"] for r in rows} == {"auroc"}


@pytest.mark.slow
def test_neuroprobe_enforces_its_ban(films, monkeypatch, capsys):
    monkeypatch.chdir(films)
    small = [
        "experiment=ieeg_pretrain", "data=mine", "data.path=shards/brain_treebank", "data.split.gap_s=1",
        "data.transforms=[{name: demean_window}]", "data.n_workers=0", "task.window_s=1.0", "model.dim=8", "model.n_layers=1",
        "model.ffn_dim=16", "model.patch_s=0.5", *STEPS,
    ]  # fmt: skip
    for name, session in (("banned", "trial001"), ("allowed", "trial000")):
        chosen = f"+data.select={{subject: '1', session: {session}}}"
        assert main(["train", *small, f"name={name}", chosen]) == 0, capsys.readouterr().err
    frozen = "+benchmark.models={{frozen: {{checkpoint: runs/{}}}}}"
    common = ["evaluate", "benchmark=neuroprobe", "benchmark.split=cross_session", "out=ban"]
    # the session was tested nowhere in this fold's parts, yet nobody may pretrain on it
    assert main([*common, "results=banned", frozen.format("banned")]) != 0
    assert "bans from pretraining" in capsys.readouterr().err
    assert not scores_only(read_results("banned"))
    assert main([*common, "results=allowed", frozen.format("allowed")]) == 0, capsys.readouterr().err
    assert scores_only(read_results("allowed"))
