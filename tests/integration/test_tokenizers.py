"""Stage 1, its codes and report, and stage 2 on it, by the command line's own functions on a simulated corpus."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from neurofm.cli.main import main
from neurofm.hub.load import load_model
from neurofm.schema.hashing import read_json
from neurofm.schema.tables import read_table

SOURCE = dict(n_subjects=3, n_channels=6, n_sources=2, duration_s=120, rate_hz=50, noise=0.3, n_trials=0)
PREP = ["prep", "dataset=simulated", "dask=none", *(f"dataset.source.{k}={v}" for k, v in SOURCE.items())]
DATA = ["data=simulated", "held_out=03", "task=windows_1s", "trainer.progress=false", "trainer.max_steps=12"]
SMALL = ["model.dim=16", "model.n_layers=1", "model.n_heads=2", "model.n_positions=5"]
STAGE_ONE = [
    "train", "objective=tokenizer", "model=neurorvq", *DATA, *SMALL, "model.patch_samples=10", "model.n_decoder_layers=1",
    "model.n_codes=16", "model.n_levels=2", "model.code_dim=4", "model.decay=0.8", "name=codes",
]  # fmt: skip
STAGE_TWO = [
    "train", "objective=masked_code", "model=neurorvq_backbone", *DATA, *SMALL, "model.patch_samples=10", "name=masked",
    "objective.tokenizer=runs/codes",
]  # fmt: skip


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("tokenizers"), Path.cwd()
    torch.set_num_threads(1)
    os.chdir(folder)
    try:
        assert main(PREP) == 0
        assert main(STAGE_ONE) == 0
        assert main(["embed", "checkpoint=runs/codes"]) == 0
        assert main(STAGE_TWO) == 0
        yield folder
    finally:
        os.chdir(before)


def test_embed_writes_codes(flow):
    about = read_json(flow / "runs" / "codes-embeddings" / "embeddings.json")
    arrays = load_file(flow / "runs" / "codes-embeddings" / "embeddings.safetensors")
    codes, model = arrays["codes"], load_model(flow / "runs" / "codes").model
    # five patches of 0.2 s, six channels, four branches of two levels
    assert codes.shape == (about["n_windows"], 5, 6, 8)
    assert codes.dtype == np.int32
    assert codes.min() == 0
    assert codes.max() < 16
    assert len(arrays["vectors"]) == len(codes)
    assert about["n_codes"] == list(model.n_codes) == [16] * 8
    assert about["patch_s"] == pytest.approx(0.2)
    # so few steps that some codebooks still lag behind the encoder
    assert max(len(np.unique(codes[..., k])) for k in range(8)) > 2


def test_the_report_has_r2_by_band_and_level(flow):
    folder = flow / "runs" / "codes" / "plots" / "tokenizer"
    page = (folder / "report.html").read_text()
    assert "bits per second" in page
    assert "was not trained on this part" in page
    rows = {(r["budget"], r["metric"]): r["value"] for r in read_table(folder, "report_scores")}
    assert {m for _, m in rows} == {"r2_waveform", "r2_delta", "r2_theta", "r2_alpha", "r2_beta"}
    assert {b for b, _ in rows} == {1.0, 2.0}
    assert all(v <= 1 for v in rows.values())
    # what validation logged is the same figure, from batches instead of all windows at once
    final = read_json(flow / "runs" / "codes" / "finished.json")
    assert {"val/r2", "val/r2_delta", "val/perplexity_b1_1", "val/usage_b4_2", "val/error_b2_1"} <= set(final)
    assert (flow / "runs" / "codes" / "plots" / "training.png").exists()


def test_stage_two_knows_what_stage_one_saw(flow):
    card = read_json(flow / "runs" / "masked" / "model" / "card.json")
    first = read_json(flow / "runs" / "codes" / "model" / "card.json")
    seen = card["provenance"]["pretrained"]
    assert seen["role"] == "tokenizer"
    assert seen["weights_sha256"] == first["weights"]["sha256"]
    for key in ("datasets", "split", "subjects"):
        assert seen[key] == first["provenance"][key]
    assert card["objective"]["choices"]["n_codes"] == [16] * 8
    loaded = load_model(flow / "runs" / "masked")
    assert loaded.model.mask_token.abs().sum() > 0
    # without its tokenizer, which is not saved again
    assert not any("quantizer" in name for name in loaded.objective.state_dict())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["model.patch_samples=5", "model.n_positions=10"], "its patches have 10 samples, the model's 5"),
        (["data.transforms=[]"], "was trained on signals after"),
        (["objective.tokenizer=runs/masked"], "has no codebooks"),
        (["objective.tokenizer=null"], "give objective.tokenizer=RUN"),
        (["objective.tokenizer=runs/nowhere"], "no such file"),
        (["objective=tokenizer"], "choose one of"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(flow, capsys, change, sentence):
    words = [w for w in STAGE_TWO if not (w.startswith("objective") and change[0].startswith("objective="))]
    words = [w for w in words if not w.startswith("name=")]
    assert main([*words, *change, "name=refused"]) != 0
    assert sentence in capsys.readouterr().err
    assert not (flow / "runs" / "refused").exists()


def test_another_rate_is_refused(flow, capsys):
    prep = [w for w in PREP if "rate_hz" not in w]
    assert main([*prep, "dataset.source.rate_hz=100", "dataset.id=faster"]) == 0
    capsys.readouterr()
    words = [w for w in STAGE_TWO if not w.startswith(("name=", "model.patch_samples"))]
    change = ["model.patch_samples=10", "model.n_positions=10", "data.path=shards/faster", "data.id=faster"]
    words = [w for w in words if not w.startswith("model.n_positions")]
    assert main([*words, *change, "name=refused"]) != 0
    assert "reads 50 Hz, these data have 100 Hz" in capsys.readouterr().err
