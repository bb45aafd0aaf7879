"""Attention between channels against the math road's own weights and the equations; influence against differences."""

from dataclasses import replace

import pytest
import torch

from neurofm.analysis.channel_attention import average, channel_attention, influence
from neurofm.models import MODELS
from neurofm.models.mvpformer import MVPFormer
from neurofm.nn.mvpa_roads import math_road
from neurofm.objectives.next_state import NextState
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=100.0, window_s=0.7, max_channels=5, channels=("a", "b", "c", "d", "e"))
SMALL = dict(patch_samples=10, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, content_window=2)


def batch_of(n_valid=(5, 3), seed=0):
    C = max(n_valid)
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    g = torch.Generator().manual_seed(seed)
    signal = torch.randn(len(n_valid), C, 70, generator=g, dtype=torch.float64)
    return NeuralBatch(
        signal=signal * mask[..., None],
        channel_mask=mask,
        time_mask=torch.ones(len(n_valid), 70, dtype=torch.bool),
        rate_hz=100.0,
        positions=torch.randn(len(n_valid), C, 3, generator=g, dtype=torch.float64),
    )


def model_of(**choices):
    torch.manual_seed(1)
    model = MVPFormer(FACTS, **{**SMALL, **choices}).double().eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.4)
    return model


def weights_by_the_road(model, batch):
    """All weights (L, B, H, T, C, S, C), read out of the math road with values that are one-hot codes of the keys."""
    x, tables, distance = model.embed_input(batch), model.tables(), model.distance(batch)
    B, T, C, _ = x.shape
    out = []
    for block in model.blocks:
        h = block.norm(x)
        terms = block.attention.terms(h, *block.attention.checked_tables(h, *tables), batch.channel_mask, distance)
        code = (
            torch.eye(T * C, dtype=x.dtype)
            .view(T, C, T * C)
            .expand(B, model.blocks[0].attention.n_kv_heads, -1, -1, -1)
        )
        said = math_road(terms._replace(value=code), block.attention.content_window, block.attention.causal)
        out.append(said.view(B, 2, T, 2, C, T, C).transpose(2, 3).flatten(1, 2))  # B K T G C → B H T C
        x = block(x, *tables, batch.channel_mask, distance)
    return torch.stack(out)


CHOICES = [
    {},
    {"channel_distance": "coordinates"},
    {"use_time": False},
    {"use_channel": False},
    {"n_kv_heads": 2, "scale_by_layer": True, "content_window": 0},
]


@torch.no_grad()
@pytest.mark.parametrize("lags", [(0, None), (1, None), (1, 2), (0, 0)])
@pytest.mark.parametrize("choices", CHOICES, ids=str)
def test_equal_to_the_math_roads_weights(choices, lags):
    model, batch = model_of(**choices), batch_of()
    weight = weights_by_the_road(model, batch)
    T, first, last = 7, lags[0], 6 if lags[1] is None else lags[1]
    expected = torch.zeros(2, 4, 5, 5, dtype=torch.float64)
    for i in range(5):
        for j in range(5):
            windows = [b for b in range(2) if batch.channel_mask[b, i] and batch.channel_mask[b, j]]
            for b in windows:
                for t in range(first, T):
                    for s in range(max(0, t - last), t - first + 1):
                        expected[:, :, i, j] += weight[:, b, :, t, j, s, i] / (T - first) / len(windows)
    found = channel_attention(model, batch, lags=lags)
    assert (found - expected).abs().max() < 1e-12


@torch.no_grad()
def test_all_lags_sum_to_one_and_padding_changes_nothing():
    model = model_of()
    whole = channel_attention(model, batch_of((5,)))
    assert torch.allclose(whole.sum(2), torch.ones(2, 4, 5, dtype=torch.float64))
    three = batch_of((3,), seed=4)
    wide = batch_of((5,))
    wide.signal[:, :3] = three.signal
    mask = torch.tensor([[True, True, True, False, False]])
    padded = replace(wide, channel_mask=mask)
    assert torch.allclose(channel_attention(model, padded)[:, :, :3, :3], channel_attention(model, three), atol=1e-12)
    assert (channel_attention(model, padded)[:, :, 3:] == 0).all()


@torch.no_grad()
def test_by_lag_the_time_term_drops_out():
    model, batch = model_of(n_layers=1), batch_of((5, 5))
    before, own = channel_attention(model, batch, normalise="lag"), channel_attention(model, batch)
    assert torch.allclose(before.sum(2), torch.ones(1, 4, 5, dtype=torch.float64))
    model.time_table.weight.normal_(std=3)
    assert torch.allclose(channel_attention(model, batch, normalise="lag"), before, atol=1e-12)
    assert not torch.allclose(channel_attention(model, batch), own, atol=1e-3)


def test_influence_equals_finite_differences():
    model, batch = model_of(n_layers=1), batch_of((4, 3))
    objective = NextState(model, FACTS, kind="regression", target="samples", residual=True).double().eval()
    torch.nn.init.normal_(objective.head.weight, std=0.3)
    with torch.no_grad():  # as scripts/links.py calls it
        found = influence(model, objective, batch)
    square = torch.zeros(2, 4, 4, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        for i in range(4):
            for s in range(70):
                said = []
                for sign in (1, -1):
                    moved = batch.signal.clone()
                    moved[:, i, s] += sign * step
                    said.append(objective.predict(model, batch.with_signal(moved))[..., 60:])
                square[:, i] += ((said[0] - said[1]) / (2 * step)).square().sum(-1)
    both = batch.channel_mask[:, :, None] & batch.channel_mask[:, None, :]
    expected = ((square * both).sum(0) / both.sum(0)).sqrt()
    assert (found - expected).abs().max() < 1e-6 * expected.max()
    assert found[:3, 3].min() > 0


def test_averages_weigh_by_windows():
    assert average([(torch.tensor(1.0), 3), (torch.tensor(5.0), 1)]) == 2.0


def test_what_cannot_be_looked_at_is_refused():
    model, batch = model_of(), batch_of()
    with pytest.raises(ConfigError, match="leave nothing"):
        channel_attention(model, batch, lags=(7, None))
    with pytest.raises(ConfigError, match="unknown"):
        channel_attention(model, batch, normalise="rows")
    with pytest.raises(ConfigError, match="eval"):
        channel_attention(model_of().train(), batch)
    other = MODELS.build("token_transformer", FACTS, patch_samples=10, dim=16, n_heads=4).eval()
    with pytest.raises(ConfigError, match="use an mvpformer"):
        channel_attention(other, batch)
    contrast = NextState(model, FACTS).eval()
    with pytest.raises(ConfigError, match="regression"):
        influence(model, contrast, batch)
