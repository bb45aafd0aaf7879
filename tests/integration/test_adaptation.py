"""`neurofm finetune … budgets=[…]` to the curve, by the command line's own functions, on simulated people."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from neurofm.benchmarks.adapted.decoders import logits_of, open_decoder
from neurofm.benchmarks.results import read_results, scores_only
from neurofm.cli.main import main
from neurofm.hub.load import load_model
from neurofm.schema.hashing import read_json
from neurofm.training.reopen import corpus_of

SOURCE = dict(n_subjects=4, n_channels=8, duration_s=20, rate_hz=50, n_trials=48, noise=0.3, effect=2.0)
DATA = ["data=simulated_trials", "held_out=04", "task=labelled_1s", "objective=supervised"]
MODEL = ["model.patch_samples=10", "model.dim=16", "model.n_layers=1", "model.ffn_dim=32", "model.dropout=0"]
LOOP = ["loop.steps=20", "loop.lr_peak=2e-3"]
STRATEGIES = ("full", "probe", "cnn", "scratch")


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Folder in which prep, train, finetune and evaluate have run."""
    folder, before = tmp_path_factory.mktemp("adaptation"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    try:
        assert (
            main(["prep", "dataset=simulated", "dask=none", *(f"dataset.source.{k}={v}" for k, v in SOURCE.items())])
            == 0
        )
        train = [
            "data=simulated_trials",
            "held_out=04",
            "task=windows_1s",
            "objective=next_state",
            "trainer.max_steps=60",
            "trainer.progress=false",
            "optim.lr_peak=3e-3",
            "name=base",
        ]
        assert main(["train", *train, *MODEL]) == 0
        curve = ["budget_unit=trials_per_class", "budgets=[2,4,8]", "beside=[probe,cnn]", "run_dir=runs/curve"]
        assert main(["finetune", "checkpoint=runs/base", *DATA, *curve, *LOOP]) == 0
        assert main(["evaluate", "benchmark=adaptation_curve", "runs=runs/curve", "benchmark.task=labelled_1s"]) == 0
        yield folder
    finally:
        os.chdir(before)


def test_budgets_give_one_curve_per_strategy_with_intervals_and_a_figure(flow):
    rows = [r for r in scores_only(read_results(flow / "runs")) if r["metric"] == "balanced_accuracy"]
    series = {(r["strategy"] or r["model"], r["budget"]) for r in rows}
    names = [*STRATEGIES, "CSP + LDA", "Riemannian tangent space", "band power + LDA", "slow signal + LDA"]
    assert series == {(n, b) for n in names for b in (2.0, 4.0, 8.0)}
    assert {r["budget_unit"] for r in rows} == {"trials per class"}
    assert all(r["low"] <= r["value"] <= r["high"] for r in rows)
    # one that says one class of everything is right in half of them for sure
    assert all(r["low"] < r["high"] for r in rows if r["value"] not in (0.0, 0.5, 1.0))
    page = (flow / "runs/curve/report-adaptation_curve/report.html").read_text()
    for text in (
        "Which strategy at which budget",
        "full fine-tuning",
        "CNN from scratch",
        "Best on average",
        "1 person is too few",
    ):
        assert text in page, text
    assert list((flow / "runs/curve/report-adaptation_curve/figures").glob("curve-*.png"))


def test_a_new_head_is_never_left_as_it_came(flow):
    """Its loss may be worse than that of saying nothing, but saying nothing is no decoder."""
    for path in (flow / "runs/curve").glob("*/model"):
        card = load_model(path).card
        assert card["provenance"]["steps"] > 0, path


def test_calibration_comes_first_in_time_and_its_transforms_saw_nothing_else(flow):
    for budget in ("2", "4", "8"):
        decoder = open_decoder(flow / f"runs/curve/full-{budget}/model")
        labels = [w.target for w in decoder.corpus.cut(f"calibration-{budget}", decoder.loaded.facts)]
        assert np.bincount(labels).tolist() == [int(budget)] * 2
        test = {s.recording_id for s in decoder.test}
        assert not test & {s.recording_id for s in decoder.calibrated_on}
        # mean and deviation of the person are those of its calibration trials alone
        state = next(t["state"] for t in decoder.loaded.transforms if t["name"] == "standardize")
        fresh = corpus_of(decoder.loaded, transforms="fresh")
        values = np.concatenate(
            [
                fresh.dataset.read(s.recording_id, s.start_s, round((s.stop_s - s.start_s) * 50))
                for s in decoder.calibrated_on
            ]
        )
        own = next(v for k, v in _flat(state).items() if k.endswith("mean") and "04" in k)
        np.testing.assert_allclose(np.ravel(own), values.mean(0), rtol=1e-4, atol=1e-6)


def _flat(state, prefix=""):
    if not isinstance(state, dict):
        return {prefix: state}
    return {k: v for name, part in state.items() for k, v in _flat(part, f"{prefix}/{name}").items()}


def test_rates_are_chosen_within_the_calibration_and_seeds_are_averaged(flow, monkeypatch):
    monkeypatch.chdir(flow)
    opened = []
    monkeypatch.setattr("neurofm.data.corpus.Corpus.cut", _noting(opened))
    how = ["budget_unit=trials_per_class", "budgets=[4]", "lr_search=[1e-5,3e-3]", "n_seeds=2", "cross_validate=2"]
    argv = ["finetune", "checkpoint=runs/base", *DATA, *how, *LOOP, "from_scratch=false", "run_dir=runs/seeds"]
    assert main(argv) == 0
    assert opened
    assert not [part for part in opened if part.startswith("test")]
    monkeypatch.undo()
    monkeypatch.chdir(flow)
    cards = [load_model(f"runs/seeds/full-4-seed{k}").card for k in (0, 1)]
    for card in cards:
        tried = {k: v for k, v in card["metrics"].items() if k.startswith("search/accuracy@")}
        assert set(tried) == {"search/accuracy@1e-05", "search/accuracy@0.003"}
        best = max(tried.values())
        smallest = min(float(k.partition("@")[2]) for k, v in tried.items() if v == best)
        assert card["metrics"]["search/lr_peak"] == smallest
        assert 0 <= card["metrics"]["cv/balanced_accuracy"] <= 1
    assert cards[0]["weights"]["sha256"] != cards[1]["weights"]["sha256"]
    argv = [
        "evaluate",
        "benchmark=adaptation_curve",
        "runs=runs/seeds",
        "benchmark.task=labelled_1s",
        "results=seeds",
        "out=seeds",
    ]
    assert main(argv) == 0
    rows = [r for r in scores_only(read_results(flow / "seeds")) if r["metric"] == "accuracy" and not r["baseline"]]
    decoders = [open_decoder(flow / f"runs/seeds/full-4-seed{k}/model") for k in (0, 1)]
    said = [logits_of(d, "test") for d in decoders]
    mean = (said[0][0] + said[1][0]).argmax(1) == np.array(said[0][1])
    assert [r["value"] for r in rows if "averaged" in r["model"]] == [pytest.approx(mean.mean())]
    assert len(rows) == 3


def _noting(opened):
    from neurofm.data.corpus import Corpus

    cut = Corpus.cut

    def noted(self, part, facts):
        opened.append(part)
        return cut(self, part, facts)

    return noted


def test_a_decoder_is_exported_in_three_forms_that_answer_alike(flow, monkeypatch):
    monkeypatch.chdir(flow)
    argv = [
        "budget_unit=trials_per_class",
        "budgets=[4]",
        "export=[torch_export,onnx]",
        "run_dir=runs/export",
        "from_scratch=false",
    ]
    assert main(["finetune", "checkpoint=runs/base", *DATA, *argv, *LOOP]) == 0
    folder = flow / "runs/export/full-4"
    assert {"model.safetensors", "card.json"} <= {p.name for p in (folder / "model").iterdir()}
    about = read_json(folder / "export/decoder.json")
    assert about["classes"] == ["class0", "class1"]
    decoder = open_decoder(folder / "model")
    (batch,) = decoder.corpus.loader("test", decoder.loaded.facts, batch_size=1000, seed=0, training=False)
    with torch.no_grad():
        expected = decoder.loaded.objective.predict(decoder.loaded.model, batch).numpy()
    program = torch.export.load(folder / "export/decoder.pt2").module()
    session = onnxruntime.InferenceSession(folder / "export/decoder.onnx")
    for x, y in zip(batch.signal.split(1), expected, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(program(x)[0].numpy(), y, atol=1e-4 * np.abs(expected).max())
        (said,) = session.run(None, {"signal": x.numpy()})
        np.testing.assert_allclose(said[0], y, atol=1e-4 * np.abs(expected).max())
