"""From recordings to a report of what was shown: simulated image EEG, and a small THINGS-EEG2 from its raw files."""

import json
import re

import numpy as np
import pytest

from data_prep.pipeline import prepare
from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.benchmarks.retrieval.trials import ridge_decoder, trials_of_part
from neurofm.cli.main import main
from neurofm.data.corpus import Corpus
from neurofm.data.task import Task
from neurofm.schema.conditions import FORMATS, Format
from neurofm.schema.embeddings import embedding_path, write_embeddings
from neurofm.schema.tables import read_table
from neurofm.stimuli.embed import embed_stimuli
from neurofm.training.pretrain import pretrain
from tests.layouts.formats.pickles import put_object_npy
from tests.layouts.trees.things_eeg2 import EEG

# a model that is one linear map, aligned by least squares: the smallest thing the benchmark can score
CODE = """
import torch
from neurofm.models.base import Backbone
from neurofm.objectives.base import Loss, Objective

class Flat(Backbone):
    def __init__(self, facts):
        super().__init__()
        self.dim = facts.max_channels * facts.window_samples
    def forward(self, batch):
        return batch.signal.flatten(1)

class Align(Objective):
    needs = ("signal", "stimulus_embedding")
    def __init__(self, model, facts):
        super().__init__()
        self.head = torch.nn.Linear(model.dim, facts.embedding_shape[0])
        torch.nn.init.zeros_(self.head.weight)
    def predict(self, model, batch):
        return self.head(model(batch))
    def forward(self, model, batch, generator=None):
        (target,) = batch.stimulus_embedding.values()
        loss = (self.predict(model, batch) - target).square().mean() + 0.01 * self.head.weight.square().sum()
        return Loss(loss)
"""
SIM = dict(
    name="sim_image_eeg", n_subjects=2, n_train_concepts=60, n_train_images=3, n_train_repetitions=2, n_test_concepts=24,
    n_test_repetitions=4, n_families=4, n_features=4, n_dims=6, n_dipoles=4, noise=0.5, trial_s=0.4, rate_hz=50.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("retrieval")
    (root / "tiny_alignment.py").write_text(CODE)
    prepare(source=SIM, out=root / "shards" / "sim_image_eeg", dask="none", progress=False, segment_s=None)
    return root


def trained(folder, monkeypatch, *, where="run", **split):
    monkeypatch.syspath_prepend(str(folder))
    data = dict(
        id="sim_image_eeg", path=str(folder / "shards" / "sim_image_eeg"), embedding="truth",
        split={"rule": "zero_shot", "validation_fraction": 0.1, **split}, transforms=[{"name": "mvnn"}],
    )  # fmt: skip
    pretrain(
        data=data, task=dict(name="sim_image_trials", window_s=0.4, windows="trial"), model_name="tiny_alignment:Flat",
        model_choices={}, objective_name="tiny_alignment:Align", objective_choices={},
        optim=dict(lr_peak=3e-3, weight_decay=0.0, warmup_steps=5), seed=0, batch_size=64, logger={},
        trainer=dict(max_steps=400, accelerator="cpu"), run_dir=str(folder / "runs" / where),
    )  # fmt: skip


def evaluated(folder, monkeypatch, capsys, runs, *overrides):
    monkeypatch.chdir(folder)
    code = main(
        ["evaluate", "benchmark=sim_image_eeg", f"benchmark.parts.0.runs={runs}", f"benchmark.parts.1.runs={runs}",
         f"results={runs}", f"out={runs}/report", "allow_import=true", *overrides]
    )  # fmt: skip
    assert code == 0
    return capsys.readouterr().out


def test_simulated_images_are_found_and_the_report_says_how(folder, monkeypatch, capsys):
    trained(folder, monkeypatch, where="within/seed0", subject="01")
    # the benchmark of conf/, with decoded embeddings in a format of six values
    monkeypatch.setitem(FORMATS, "six", Format("image_embeds", (6,), "a test"))
    out = evaluated(
        folder, monkeypatch, capsys, "runs/within", "+benchmark.parts.0.decoded=decoded", "+benchmark.parts.0.decoded_as=six",
        "+benchmark.parts.0.ways=[10]",
    )  # fmt: skip
    assert "24 candidates" in out
    rows = read_table("runs/within", "results")
    scores = {
        (r["model"].partition(",")[0], r["note"].split("; ")[-1], r["metric"]): r["value"]
        for r in rows
        if r["metric"] != "look"
    }
    averaged, single = "mean over the repetitions that one person saw", "single trials"
    oracle = json.loads((folder / "shards/sim_image_eeg/stimuli/oracle.json").read_text())["by_subject"]["01"]
    for model in ("tiny_alignment:Flat", "ridge"):
        assert scores[model, averaged, "top1"] > 0.5
        assert scores[model, averaged, "top1"] > scores[model, single, "top1"]
        # no decoder beats the best possible one by more than three standard errors of 24 images
        assert scores[model, single, "top1"] < oracle["1"]["top1"] + 0.15
        assert scores[model, averaged, "top1_of_10"] > scores[model, averaged, "top1"]
        assert scores[model, averaged, "feature_ceiling"] == 1
        for control in ("shuffled labels", "noise", "time only"):
            assert scores[model, averaged, f"control: {control}"] < 0.2
    note = next(r["note"] for r in rows if r["metric"] == "top1")
    assert re.search(
        r"24 candidates: the tested stimuli themselves .*negatives: all other candidates; gallery [0-9a-f]{16}", note
    )
    page = (folder / "runs/within/report/report.html").read_text()
    for said in (
        "averaged repetitions",
        "best possible",
        "24 candidates",
        "permuted signal",
        "only this time",
        "shown",
    ):
        assert said in page
    assert len(list((folder / "decoded").glob("*.safetensors"))) == 1


def test_nice_is_trained_and_scored_by_the_verbs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    common = [
        "experiment=sim_image_eeg", "model.n_filters=16", "task.window_s=0.4", "model.kernel=5", "model.pool=5", "model.stride=2",
        "data.split.validation_fraction=0.1", "objective.temperature=0.2", "objective.dropout=0.2", "model.dropout=0.2",
        "optim.lr_peak=5e-3", "trainer.max_steps=150", "trainer.progress=false", "batch_size=128",
        "runs=verbs",
    ]  # fmt: skip
    assert main(["train", *common, "data.split.subject=01", "name=sim_image_eeg/within"]) == 0
    card = json.loads((folder / "verbs/sim_image_eeg/within/model/card.json").read_text())
    assert card["model"]["name"] == "nice"
    assert card["facts"]["embedding_shape"] == [6]
    assert main(["train", *common, "held_out=02", "name=sim_image_eeg/held_out"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "benchmark=sim_image_eeg", "runs=verbs", "results=verbs", "out=verbs/report"]) == 0
    out = capsys.readouterr().out
    assert "sub-01     trained on nice" in out
    assert "sub-02     new person nice" in out
    scores = {
        (r["model"].partition(",")[0], r["subject"], r["strategy"], r["metric"]): r["value"]
        for r in read_table("verbs", "results")
        if r["metric"] in ("top1", "top5") and "mean over the repetitions that one person saw" in r["note"]
    }
    assert scores["nice", "01", "trained on", "top1"] > 0.4
    # one person to learn from is little for another one: chance is 5 / 24
    assert scores["nice", "02", "new person", "top5"] > 0.4
    page = (folder / "verbs/report/report.html").read_text()
    for said in ("nice, seed 0, within", "nice, seed 0, held_out, new person", "best possible"):
        assert said in page


def test_a_held_out_person_is_named_and_learned_without_labels(folder, monkeypatch, capsys):
    trained(folder, monkeypatch, where="held_out/seed0", held_out="02")
    out = evaluated(folder, monkeypatch, capsys, "runs/held_out", "+benchmark.parts.0.resolved=false")
    assert "sub-02     new person" in out
    assert "sub-01" not in out
    page = (folder / "runs/held_out/report/report.html").read_text()
    assert "learned 02 from their own training recordings, without labels" in page


def test_a_score_that_does_not_beat_its_control_says_so(folder, monkeypatch, capsys):
    # embeddings dealt out anew: nothing can be learned
    other = folder / "shards" / "sim_image_eeg"
    path = embedding_path(other, "truth")
    from neurofm.schema.embeddings import EmbeddingFile

    file = EmbeddingFile(path)
    order = np.random.default_rng(0).permutation(len(file.ids))
    values = file.all()[order]
    write_embeddings(embedding_path(other, "mixed"), file.ids, values, encoder="mixed", hash="m")
    monkeypatch.syspath_prepend(str(folder))
    pretrain(
        data=dict(id="sim_image_eeg", path=str(other), embedding="mixed", split={"rule": "zero_shot", "subject": "01"}),
        task=dict(name="sim_image_trials", window_s=0.4, windows="trial"), model_name="tiny_alignment:Flat",
        model_choices={}, objective_name="tiny_alignment:Align", objective_choices={},
        optim=dict(lr_peak=3e-3, weight_decay=0.0, warmup_steps=5), seed=0, batch_size=64, logger={},
        trainer=dict(max_steps=20, accelerator="cpu"), run_dir=str(folder / "runs" / "nothing" / "seed0"),
    )  # fmt: skip
    out = evaluated(folder, monkeypatch, capsys, "runs/nothing", "+benchmark.parts.0.resolved=false")
    assert "does not beat its control" in out
    assert "FAILED" in out
    assert "NOT ABOVE CONTROL" in (folder / "runs/nothing/report/report.html").read_text()


def test_embed_verb_computes_once(tmp_path, monkeypatch, capsys):
    from scipy.io import wavfile

    from neurofm.schema.tables import write_table

    home = tmp_path / "shards" / "speech"
    (home / "stimuli").mkdir(parents=True)
    (home / "dataset.json").write_text("{}")
    sound = (1000 * np.random.default_rng(0).standard_normal(8000)).astype(np.int16)
    wavfile.write(home / "stimuli" / "a.wav", 16_000, sound)
    row = {"stimulus_id": "a", "concept": "", "kind": "audio", "part": "", "file": "a.wav", "sha256": "", "start_s": None,
           "stop_s": None, "caption": ""}  # fmt: skip
    write_table(home / "stimuli", "stimuli", [row])
    monkeypatch.chdir(tmp_path)
    command = ["embed", "data=stimuli", "dataset=speech", "encoder=spectrogram"]
    assert main(command) == 0
    assert "1 stimuli × 64 at 100 Hz" in capsys.readouterr().out
    assert main(command) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert main([*command[:2], "encoder=spectrogram"]) != 0
    assert "say whose stimuli: dataset=" in capsys.readouterr().err
    assert main(["embed", "encoder=minilm"]) != 0
    assert "add data=stimuli" in capsys.readouterr().err


def test_things_eeg2_from_raw_files_to_retrieval(tmp_path, monkeypatch, capsys):
    """Small in numbers, faithful in layout: object arrays, triggers, targets, rapid presentation, image sets."""
    from PIL import Image

    rng = np.random.default_rng(0)
    concepts = {
        "training": [f"{i + 1:05d}_thing{i}" for i in range(20)],
        "test": [f"{i + 1:05d}_other{i}" for i in range(8)],
    }
    files = {p: [f"{c.split('_')[1]}_0{j}.jpg" for c in cs for j in range(2 if p == "training" else 1)]
             for p, cs in concepts.items()}  # fmt: skip
    listed = {p: [c for c in cs for _ in range(2 if p == "training" else 1)] for p, cs in concepts.items()}
    metadata = {f"{short}_img_{what}": values[p] for p, short in (("training", "train"), ("test", "test"))
                for what, values in (("concepts", listed), ("files", files))}  # fmt: skip
    colour, root = {}, tmp_path / "things"
    for part, where in (("training", "training_images"), ("test", "test_images")):
        for concept, file in zip(listed[part], files[part], strict=True):
            path = root / "Image_set" / where / concept / file
            path.parent.mkdir(parents=True, exist_ok=True)
            colour[file] = rng.integers(0, 256, 3)
            Image.fromarray(np.tile(colour[file].astype(np.uint8), (8, 8, 1))).save(path, quality=95)
    put_object_npy(root / "Image_set" / "image_metadata.npy", metadata)
    mixing = rng.standard_normal((63, 3))
    bump = np.exp(-0.5 * ((np.arange(400) - 150) / 30) ** 2)
    for session in ("01", "02"):
        for part, repeats in (("training", 3), ("test", 6)):
            codes = rng.permutation(np.repeat(np.arange(len(files[part])) + 1, repeats)).tolist()
            codes.insert(3, 99999)
            # an image every 200 ms, so that trials of 1.2 s overlap
            onsets = [400 + 200 * i for i in range(len(codes))]
            n = onsets[-1] + 1500
            volts = 4e-6 * rng.standard_normal((63, n))
            stim = np.zeros((1, n))
            for at, code in zip(onsets, codes, strict=True):
                stim[0, at] = code
                if code != 99999:
                    drive = (colour[files[part][code - 1]] / 255 - 0.5) * 12e-6
                    volts[:, at : at + 400] += np.outer(mixing @ drive, bump)
            raw = {"raw_eeg_data": np.concatenate([volts, stim]), "ch_names": [*EEG, "stim"],
                   "ch_types": ["eeg"] * 63 + ["stim"], "sfreq": 1000}  # fmt: skip
            put_object_npy(root / f"Raw_data/sub-01/ses-{session}/raw_eeg_{part}.npy", raw)
    # THINGS' own folders beside it: further images of tested concepts, what class centres are made of
    for concept, file in zip(listed["test"], files["test"], strict=True):
        for j in range(2):
            path = root / "Image_set/other_images" / concept.split("_")[1] / f"{concept.split('_')[1]}_9{j}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            near = np.clip(colour[file].astype(int) + rng.integers(-9, 10, 3), 0, 255)
            Image.fromarray(np.tile(near.astype(np.uint8), (8, 8, 1))).save(path, quality=95)
    # a stranger's way: the verbs and nothing else
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "shards/things_eeg2"
    assert main(
        ["prep", "dataset=things_eeg2", "prep@dataset=things_eeg2_trials", f"dataset.source.root={root}",
         "dataset.source.variant=raw", "dask=none"]
    ) == 0  # fmt: skip
    assert read_table(out, "rejected") == []
    from neurofm.stimuli.base import Encoder

    class Colour(Encoder):
        kind = "image"

        def identity(self):
            return {"encoder": "colour"}

        def encode(self, items):
            return [x.mean(axis=(0, 1)) / 255 - 0.5 for x in items]

    about = embed_stimuli(dataset=out, encoder=Colour(), name="colour", files=root / "Image_set")
    assert about["n"] == 48 + 16
    corpus = Corpus(
        path=str(out),
        split={"rule": "zero_shot", "validation_fraction": 0.1},
        embedding="colour",
        transforms=[{"name": "mvnn", "start_s": 0.2}],
        task=Task(window_s=1.0, offset_s=0.2, windows="trial"),
    )
    corpus.fit_transforms("train")
    facts = corpus.facts("train")
    train, test = (trials_of_part(corpus, p, facts, "colour") for p in ("train", "test"))
    # NICE's array: 250 samples from the image's onset, 63 electrodes
    assert test.values.shape == (8 * 6 * 2, 250, 63)
    assert not {s.split("_")[0] for s in train.stimulus} & {s.split("_")[0] for s in test.stimulus}
    mean = test.averaged("subject")
    assert len(mean.stimulus) == 8
    said = ridge_decoder(train).answer(mean.values, mean.recording)
    assert retrieve(said, mean.own, np.arange(8)).top[1].value >= 0.75
    # NICE by the verbs, at its published kernels; a few steps, so only the way is tested
    tiny_clip(tmp_path / "clip")
    embed = [
        "embed",
        "data=stimuli",
        "dataset=things_eeg2",
        "encoder=clip",
        "encoder.path=clip",
        "files=things/Image_set",
    ]
    assert main(embed) == 0
    assert main(
        ["train", "experiment=things_eeg2", "task=image_trials_raw", "data.n_workers=0", "model.n_filters=4",
         "data.transforms=[{name: mvnn, start_s: 0.2}]", "data.split.validation_fraction=0.1", "trainer.max_steps=6",
         "trainer.progress=false", "batch_size=40"]
    ) == 0  # fmt: skip
    one = ["benchmark=things_eeg2", "benchmark.parts.0.task=image_trials_raw", "+benchmark.parts.0.resolved=false"]
    capsys.readouterr()
    assert main(["evaluate", *one, "+benchmark.parts.0.files=things/Image_set"]) == 0
    said = capsys.readouterr().out
    assert "stimulus, 8 candidates, subject" in said
    assert "class_centre, 8 candidates, subject" in said
    page = (tmp_path / "runs/report-things_eeg2/report.html").read_text()
    assert "<img" in page or "data:image" in page
    assert "means of the other stimuli of each tested concept" in page


def tiny_clip(folder):
    """A CLIP of random weights: its embeddings tell images apart, and that is all that is asked of it."""
    import torch
    import transformers

    torch.manual_seed(0)
    small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 30}, vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )  # fmt: skip
    transformers.CLIPModel(config).save_pretrained(folder)


def test_nsd_from_its_files_to_300_way_by_the_verbs(tmp_path, monkeypatch, capsys):
    """Betas, behaviour and pictures as on the bucket; among 5 of the ten shared pictures where NSD has 300 of a thousand."""
    pytest.importorskip("nibabel")
    import h5py

    from tests.layouts.trees import nsd

    root = tmp_path / "nsd"
    nsd.write_hdf5(root)
    folder = root / "nsddata_stimuli/stimuli/nsd"
    folder.mkdir(parents=True)
    shown = {
        int(line.split("\t")[4]) - 1
        for line in (root / "nsddata/ppdata/subj01/behav/responses.tsv").read_text().splitlines()[1:]
    }
    rng = np.random.default_rng(0)
    with h5py.File(folder / "nsd_stimuli.hdf5", "w") as f:
        bricks = f.create_dataset("imgBrick", (73000, 8, 8, 3), np.uint8, chunks=(1, 8, 8, 3))
        for i in shown:
            bricks[i] = rng.integers(0, 256, (8, 8, 3))
    tiny_clip(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    assert main(["prep", "dataset=nsd", "dataset.source.root=nsd", "dask=none"]) == 0
    embed = ["embed", "data=stimuli", "dataset=nsd", "encoder=clip", "encoder.path=clip"]
    assert main([*embed, f"files={folder}"]) == 0
    assert main([*embed, f"files={folder}"]) == 0
    assert "nothing changed" in capsys.readouterr().out
    with h5py.File(folder / "nsd_stimuli.hdf5", "r+") as f:
        first = f["imgBrick"][min(shown)]
        f["imgBrick"][min(shown)] = 255 - first
    assert main([*embed, f"files={folder}"]) != 0
    assert "made by another encoder or of other stimuli" in capsys.readouterr().err
    assert main(
        ["train", "experiment=nsd", "data.split.subject='01'", "data.n_workers=0", "data.split.validation_fraction=0",
         "model.dim=16", "model.n_blocks=1", "objective.mix_steps=4", "objective.anneal_steps=8", "optim.warmup_steps=2",
         "trainer.max_steps=12", "trainer.progress=false", "batch_size=8"]
    ) == 0  # fmt: skip
    assert main(["evaluate", "benchmark=nsd", "benchmark.parts.0.ways=[5]"]) == 0
    assert "sub-01" in capsys.readouterr().out
    rows = [r for r in read_table("runs", "results") if r["metric"] == "top1_of_5"]
    assert {r["model"].partition(",")[0] for r in rows} == {"mindeye", "ridge", "encoding model"}
    # MindEye's two directions
    assert {r["metric"] for r in read_table("runs", "results")} >= {"backward_top1", "backward_top1_of_5"}
    # chance is one fifth, and the betas are noise
    assert all(r["value"] < 0.6 for r in rows)
