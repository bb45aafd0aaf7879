"""A benchmark that fits models itself, on miniature trees of public layouts and on made-up recordings."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from data_prep.pipeline import prepare
from neurofm.benchmarks.decoding.folds import protocol_of
from neurofm.benchmarks.decoding.neuroprobe import BANNED, TASKS, items_of, neuroprobe_protocol
from neurofm.benchmarks.decoding.task import score_decoding
from neurofm.benchmarks.public_splits import TRAINED, refuse_other_splits, split_names, split_rule, trained_split
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.conf import conf_dir
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import write_json
from tests.layouts.trees import bci_iv_2a, brain_treebank, sleep_edf, tuh

MODELS = {
    "ridge": {"class": "sklearn.linear_model:RidgeClassifier"},
    "prior": {"class": "sklearn.dummy:DummyClassifier", "baseline": True},
}


def run(protocol, tmp_path, **choices):
    choices = {"models": MODELS, "name": "b", "task": "t", "results": str(tmp_path / "r"), "run_id": "x", **choices}
    for _, out in score_decoding(protocol, **choices):  # noqa: B007
        pass
    return out


def shards(tree, folder, stages=(), **source):
    prepare(
        source={"name": tree.source, **tree.choices, **source}, out=str(folder), stages=list(stages), dataset_id=tree.source,
        dask="none", progress=False,
    )  # fmt: skip
    return str(folder)


CUE = {"name": "cue", "window_s": 2.0, "windows": "event", "label_kind": "cue", "offset_s": 0.5}
STAGES = {
    "Sleep stage W": "W", "Sleep stage 1": "N1", "Sleep stage 2": "N2", "Sleep stage 3": "N3", "Sleep stage 4": "N3",
    "Sleep stage R": "R", "Sleep stage ?": None, "Movement time": None,
}  # fmt: skip


def test_bci_iv_2a_by_its_official_sessions(tmp_path):
    (tmp_path / "raw").mkdir()
    path = shards(bci_iv_2a.write_gdf(tmp_path / "raw"), tmp_path / "s")
    protocol = protocol_of(data={"path": path}, split=split_rule("bci_iv_2a"), task=CUE)
    assert [f.name for f in protocol.folds] == ["subject A01", "subject A09"]
    assert protocol.classes == ("feet", "left hand", "right hand", "tongue")
    for fold in protocol.folds:
        assert {w.recording_id[-1] for w in fold.train} == {"t"}
        assert {w.recording_id[-1] for w in fold.test} == {"e"}
    out = run(protocol, tmp_path, control=["shuffle", "noise"])
    assert out.unit == "subject"
    assert out.metrics == ("balanced_accuracy", "kappa", "weighted_f1")
    rows = scores_only(read_results(tmp_path / "r"))
    # two people, two models under no control and two controls, three metrics; as many over people; each without control
    assert len(rows) == 2 * 2 * 3 * 3 + 2 * 3 * 3 + 2 * 2 * 3
    for row in rows:
        assert row["protocol_hash"] == out.protocol_hash
        assert row["checkpoint_hash"].startswith("spec-")
        assert row["machine"]
        assert row["date"]
        assert row["split_hash"]
        assert row["fold"] == "all" or row["seconds"] > 0
    each = {(r["model"], r["metric"], r["subject"]): r["value"] for r in rows if r["fold"] == "all" and r["subject"]}
    folds = {
        (r["model"], r["metric"], r["subject"]): r["value"] for r in rows if r["fold"] != "all" and not r["control"]
    }
    assert each == folds
    # the classifier that knows no signal is at chance exactly
    assert out.intervals["prior", "", "kappa"].value == 0


def test_sleep_edf_keeps_both_nights_of_a_person_together(tmp_path):
    (tmp_path / "raw").mkdir()
    path = shards(sleep_edf.write(tmp_path / "raw"), tmp_path / "s")
    task = {"name": "stage", "window_s": 30.0, "windows": "labelled", "label_kind": "stage"}
    rule = {**split_rule("sleep_edf"), "folds": {"unit": "subject", "n": 2, "seed": 0}}
    protocol = protocol_of(data={"path": path}, split=rule, task=task, relabel=STAGES)
    assert set(protocol.classes) == {"W", "N1", "N2", "N3", "R"}
    for fold in protocol.folds:
        people = [{protocol.dataset.subject(w.recording_id) for w in part} for part in (fold.train, fold.test)]
        assert not people[0] & people[1]
    out = run(protocol, tmp_path, metrics=["balanced_accuracy", "kappa", "macro_f1"])
    assert out.n_test == sum(len(f.test) for f in protocol.folds)
    # people, of whom each has several classes, and not the folds that they were dealt to
    assert out.unit == out.paired_by == "subject"
    assert set(out.people["ridge", "", "kappa"]) == set(protocol.dataset.subjects)


def test_tuev_by_its_official_parts(tmp_path):
    (tmp_path / "raw").mkdir()
    path = shards(tuh.write_tuev(tmp_path / "raw"), tmp_path / "s")
    task = {
        "name": "marks", "window_s": 1.0, "windows": "event", "label_kind": "marked", "incomplete": "drop",
    }  # fmt: skip
    protocol = protocol_of(data={"path": path}, split=split_rule("tuev"), task=task)
    out = run(protocol, tmp_path)
    assert [f.name for f in protocol.folds] == ["all"]
    assert out.unit == "subject"
    assert "people" in out.method
    assert {"bckg", "spsw", "pled", "gped", "eyem", "artf"} == set(protocol.classes)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Two people with two films each; a loud word makes all electrodes louder."""
    return film_shards(tmp_path_factory.mktemp("films"))


def film_shards(folder):
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir()
    brain_treebank._json(raw / "corrupted_elec.json", {f"sub_{s}": [] for s in (1, 2)})
    seconds, rate = 120, 2048
    for subject, trials in ((1, (1, 2)), (2, (0, 4))):
        brain_treebank._electrodes(raw, subject, brain_treebank.STORED)
        for trial in trials:
            film = f"film-{subject}-{trial}"
            values = brain_treebank._trial(raw, subject, trial, n_electrodes=8, n_samples=seconds * rate)
            rows, at, i = [], 1.0, 0
            while at < seconds - 3:
                loud = rng.normal()
                first, last = round(at * rate), round((at + 1) * rate)
                values[first:last] *= 1 + 2 * (loud > 0)
                word = ["NOUN", "VERB"][i % 2]
                rows.append([i, "word", at, at + 0.3, int(i % 5 == 0), i // 5, i % 5, word, i % 2, 100 + loud, loud])
                # a pause after every tenth word, long enough for silence
                at, i = at + (8.0 if i % 10 == 9 else 1.25 + 0.05 * (i % 4)), i + 1
            brain_treebank._json(
                raw / f"subject_metadata/sub_{subject}_trial{trial:03d}_metadata.json",
                {"title": film, "filename": film},
            )
            brain_treebank._csv(raw / f"transcripts/{film}/features.csv", brain_treebank.WORD_COLUMNS, rows)
            timings = brain_treebank._steady(rate, first=0, seconds=seconds - 1)
            brain_treebank._timings(raw, subject, trial, timings)
            import h5py

            with h5py.File(raw / f"sub_{subject}_trial{trial:03d}.h5", "w") as file:
                for k in range(8):
                    file[f"data/electrode_{k}"] = values[:, k]
    features = ["rms", "pitch", "is_onset", "idx_in_sentence", "bin_head", "pos"]
    prepare(
        source={"name": "brain_treebank", "root": str(raw), "features": features}, out=str(folder / "s"), dataset_id="brain_treebank",
        stages=[{"name": "resample", "rate_hz": 256}], dask="none", progress=False, segment_s=60.0,
    )  # fmt: skip
    return str(folder / "s")


SPECTRUM = {
    "steps": [
        {"class": "neurofm.benchmarks.baselines.features:Spectrogram", "choices": {"rate_hz": "$rate_hz"}},
        {"class": "sklearn.preprocessing:StandardScaler"},
        {"class": "sklearn.linear_model:LogisticRegression", "choices": {"max_iter": 200}},
    ],
    "input": "trial",
}


@pytest.mark.parametrize(("split", "n"), [("within_session", 8), ("cross_session", 4), ("cross_subject", 2)])
def test_neuroprobe_on_the_brain_treebank(films, tmp_path, split, n):
    sessions = {"1": (1, 2), "2": (0, 4)}
    protocol = neuroprobe_protocol(data={"path": films, "sessions": sessions}, task="volume", split=split)
    assert len(protocol.folds) == n
    for fold in protocol.folds:
        spans = [sorted((w.recording_id, w.start_s) for w in part) for part in (fold.train, fold.test)]
        assert not any(r == q and abs(a - b) < 1 - 1e-6 for r, a in spans[0] for q, b in spans[1])
    align = "region" if split == "cross_subject" else "common"
    out = run(protocol, tmp_path, models={"spectrum": SPECTRUM}, metrics=["auroc"], align=align)
    # loud words are louder everywhere, in everybody
    assert out.intervals["spectrum", "", "auroc"].value > 0.8


def test_neuroprobe_items_are_balanced_sorted_and_alternate(films):
    from neurofm.data.dataset import Dataset

    dataset = Dataset(films)
    recording = "brain_treebank_sub-1_ses-trial001_task-movie"
    for task in ("volume", "pitch", "word_gap", "onset", "speech", "word_index", "word_head_pos", "word_part_speech"):
        items = items_of(dataset, recording, task)
        assert [i.label for i in items] == [(k + 1) % 2 for k in range(len(items))], task
        for label in (0, 1):
            starts = [i.start_s for i in items if i.label == label]
            assert starts == sorted(starts)
    verbs = {e["onset_s"] for e in dataset.events(recording) if e["kind"] == "pos" and e["label"] == "VERB"}
    assert {i.start_s for i in items if i.label == 1} <= verbs
    heads = {e["onset_s"]: e["value"] for e in dataset.events(recording) if e["kind"] == "bin_head"}
    assert all(heads[i.start_s] == 1 - i.label for i in items_of(dataset, recording, "word_head_pos"))
    assert len(TASKS) == 15
    assert len(BANNED) == 12
    with pytest.raises(DataError, match=r"dataset\.source\.features"):
        items_of(dataset, recording, "face_num")
    with pytest.raises(ConfigError, match="speech"):
        items_of(dataset, recording, "speec")


def test_every_stored_split_is_whole():
    assert len(split_names()) >= 12
    for name in split_names():
        rule = split_rule(name)
        assert rule["name"] == name
        assert rule["source"]


def test_data_of_trained_benchmarks_have_their_stored_split(tmp_path):
    names = sorted(p.stem for p in TRAINED.glob("*.json"))
    assert {"du_in", "gwilliams2022", "swec", "things_eeg2", "things_meg"} <= set(names)

    def card(split):
        write_json(tmp_path / "card.json", {"provenance": {"data": {"split": split}}})
        return [tmp_path]

    for name in names:
        assert trained_split(name)["source"]
        split = yaml.safe_load((conf_dir() / f"data/{name}.yaml").read_text())["split"]
        assert refuse_other_splits(name, card(split)) == trained_split(name)["hash"]
        free = {k: "other" for k in trained_split(name)["free"]}
        refuse_other_splits(name, card({**split, **free}))
        with pytest.raises(ConfigError, match=r"seed is 7|around_s is 3"):
            refuse_other_splits(
                name, card({**split, "seed": 7, "around_s": 3} if "seed" not in free else {**split, "around_s": 3})
            )
    with pytest.raises(ConfigError, match="test is 17, the benchmark's is 18"):
        refuse_other_splits("swec", card({"rule": "by_subject", "test": 17}))
    with pytest.raises(ConfigError, match="the split of a file"):
        refuse_other_splits("swec", card("split.json"))
    with pytest.raises(ConfigError, match="did you mean 'swec'"):
        trained_split("swecs")
