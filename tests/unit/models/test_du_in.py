"""Du-IN: published sizes, channels of one subject in one token, codes that recover planted waveforms, subjects kept apart."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel
from neurofm.nn.subject_layer import SubjectLayer
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.grid import grid
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

WORDS = tuple(f"word{i:02d}" for i in range(61))
# no table of subjects beside the one row that stands for whoever it is: one subject, as in the paper
TRIAL = Facts(rate_hz=1000.0, window_s=3.0, max_channels=10, classes=WORDS)
CLIP = Facts(rate_hz=1000.0, window_s=4.0, max_channels=10)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_published_sizes():
    with torch.device("meta"):
        model = MODELS.build("du_in", TRIAL, patch_samples=100)
        head = OBJECTIVES.build("supervised", model, TRIAL, readout="mlp", hidden_dim=128)
        tokenizer = MODELS.build("du_in_tokenizer", CLIP, patch_samples=100)
    assert model.dim == 160
    blocks, fused = count(model.blocks), count(model.tokenizer)
    assert (blocks, fused, count(head)) == (3_465_216, 95_200, 622_397)
    quantizer = count(tokenizer.to_code) + count(tokenizer.from_code) + 2048 * 64
    # the published 4,377,639 also counts what the classifier never uses: a quantizer with its use counts and a flag, a
    # contrastive block of two maps to 32 and a temperature, the fixed table of 30 times, and a constant per block
    unused = (quantizer + 2048 + 1) + (2 * (160 * 32 + 32) + 1) + 30 * 160 + 8
    assert unused == 194_826
    assert blocks + fused + count(head) + unused == 4_377_639
    parts = [tokenizer.blocks, tokenizer.tokenizer, tokenizer.decoder_blocks]
    back = [tokenizer.upsample, tokenizer.mix, tokenizer.subject_layer_back]
    assert [round(count(p) / 1e6, 3) for p in parts] == [3.465, 0.095, 1.733]
    assert round(sum(map(count, back)) / 1e6, 3) == 0.462
    # with the codebook, its use counts and the fixed table of 40 times
    assert round((count(tokenizer) + 2048 * 65 + 40 * 160) / 1e6, 2) == 5.94


FACTS = Facts(rate_hz=100.0, window_s=1.6, max_channels=4, subjects=("s1", "s2"))
SMALL = dict(
    patch_samples=20, stride=5, n_shared=6, conv_dim=16, n_layers=1, n_decoder_layers=1, n_heads=2, head_dim=8,
    ffn_dim=32, dropout=0.0, n_codes=4, code_dim=8, decay=0.9,
)  # fmt: skip


def planted(n=16, seed=0):
    """Every patch is one of four waveforms, seen through a map of each subject's own; which, (n, 8)."""
    rng = np.random.default_rng(seed)
    t = np.arange(20) / 20
    waves = np.stack(
        [np.sin(2 * np.pi * t), np.sign(np.sin(4 * np.pi * t)), np.cos(6 * np.pi * t), np.exp(-((t - 0.5) ** 2) / 0.01)]
    )
    waves = waves / np.sqrt((waves**2).mean(1, keepdims=True))
    kind, subject = rng.integers(4, size=(n, 8)), 1 + np.arange(n) % 2
    look = np.random.default_rng(5).standard_normal((3, 4))
    x = waves[kind].reshape(n, 1, 160) * look[subject][:, :, None] + 0.1 * rng.standard_normal((n, 4, 160))
    mask = torch.ones(n, 4, dtype=torch.bool)
    batch = NeuralBatch(
        signal=torch.from_numpy(x).float(), channel_mask=mask, time_mask=torch.ones(n, 160, dtype=torch.bool),
        rate_hz=100.0, subject=torch.from_numpy(subject),
    )  # fmt: skip
    return batch, kind


def trained(steps=150):
    torch.manual_seed(0)
    model = MODELS.build("du_in_tokenizer", FACTS, **SMALL)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        terms, _ = model.losses(planted(seed=step)[0], None)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
    return model


def test_planted_waveforms_become_codes_and_signals_again():
    model = trained()
    batch, kind = planted(seed=999)
    codes = model.codes(batch)
    assert isinstance(model, CodebookModel)
    assert codes.code.shape == (16, 8, 1)
    assert (codes.channel == -1).all()
    assert adjusted_mutual_info_score(kind.reshape(-1), codes.code.flatten().numpy()) > 0.8
    model.eval()
    with torch.no_grad():
        back, truth = model.decode(codes, batch), model.normalised(batch)
    assert 1 - (back - truth).square().sum() / truth.square().sum() > 0.7


def test_looking_never_changes_the_codebook():
    model = trained(3)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    batch, _ = planted()
    model.codes(batch)
    model.eval()
    model.losses(batch, None)
    model(batch)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_patches_are_embedded_without_their_neighbours():
    torch.manual_seed(0)
    model = MODELS.build(
        "du_in",
        FACTS,
        **{k: v for k, v in SMALL.items() if k not in ("n_decoder_layers", "n_codes", "code_dim", "decay")},
    )
    model.eval()
    batch, _ = planted(2)
    changed = batch.signal.clone()
    changed[:, :, 60:80] += 1.0
    a, b = model.embed_tokens(batch), model.embed_tokens(batch.with_signal(changed))
    differs = (a - b).abs().amax((0, 2, 3)) > 0
    assert differs.tolist() == [i == 3 for i in range(8)]


def test_subjects_have_maps_of_their_own():
    torch.manual_seed(0)
    layer = SubjectLayer(2, 3, 4)
    x, mask = torch.randn(3, 3, 5), torch.ones(3, 3, dtype=torch.bool)
    subject = torch.tensor([0, 1, 2])
    out = layer(x, subject, mask)
    for b in range(3):
        torch.testing.assert_close(out[b], layer.weight[b].T @ x[b] + layer.bias[b][:, None])
    torch.testing.assert_close(layer(x, None, mask)[1], layer.weight[0].T @ x[1] + layer.bias[0][:, None])
    out[1].sum().backward()
    assert layer.weight.grad[[0, 2]].abs().sum() == 0
    back = SubjectLayer(2, 3, 4, inward=False)
    wide = torch.tensor([[True, True, False, False]] * 3)
    made = back(torch.randn(3, 4, 5), subject, wide)
    assert made.shape == (3, 4, 5)
    assert (made[:, 2:] == 0).all()
    with pytest.raises(ConfigError, match="3 channels was given 4"):
        layer(torch.randn(1, 4, 5), None, torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(ConfigError, match="subject 3"):
        layer(x, torch.tensor([3, 0, 0]), mask)


def test_tokens_of_no_channel_are_no_grid():
    # eight patches over four channels divide, but are not segments × channels
    model = MODELS.build("du_in", FACTS, patch_samples=20, stride=5, n_shared=4, n_layers=1)
    objective = OBJECTIVES.build("masked_patch", model, FACTS)
    with pytest.raises(ConfigError, match="single channel cannot be hidden"):
        objective(model, planted(2)[0], torch.Generator().manual_seed(0))
    with pytest.raises(ConfigError, match="channel-wise tokens"):
        grid(model(planted(2)[0]), 4)
