"""Direct forecasts: what they see, what they are compared with, and what they can learn."""

from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=1.0, window_s=24, max_channels=3, channels=("a", "b", "c"))


def build(**choices):
    torch.manual_seed(0)
    model = MODELS.build(
        "mvpformer", FACTS, patch_samples=4, dim=16, n_layers=1, n_heads=2, ffn_dim=32, dropout=0.0,
        channel_embedding=True,
    )  # fmt: skip
    return model, OBJECTIVES.build("forecast", model, FACTS, **{"horizon": 8, **choices})


def batch_of(n=4, seed=0, start=0.0):
    g = torch.Generator().manual_seed(seed)
    phase = 6.28 * torch.rand(n, 1, 1, generator=g)
    time = torch.arange(24.0) + start
    signal = torch.sin(6.28 * time / torch.tensor([8.0, 12.0, 6.0])[:, None] + phase)
    return NeuralBatch(
        signal=signal, channel_mask=torch.ones(n, 3, dtype=torch.bool), time_mask=torch.ones(n, 24, dtype=torch.bool),
        rate_hz=1.0, channel_ids=torch.arange(1, 4).expand(n, -1),
    )  # fmt: skip


@torch.no_grad()
def test_the_horizon_itself_is_never_seen_and_the_known_part_is_not_scored():
    model, objective = build()
    batch = batch_of()
    said = objective.predict(model, batch)
    assert said.shape == batch.signal.shape
    assert said[..., :16].isnan().all()
    other = batch.signal.clone()
    other[..., 16:] = 1e3
    assert torch.equal(objective.predict(model, batch.with_signal(other))[..., 16:], said[..., 16:])
    loss = objective(model, batch)
    assert loss.total == pytest.approx(float((said[..., 16:] - batch.signal[..., 16:]).square().mean()))
    known = replace(batch, signal=batch.signal[..., :16], time_mask=batch.time_mask[:, :16])
    assert torch.equal(objective.forecast(model, known), said[..., 16:])


@torch.no_grad()
def test_a_residual_forecast_starts_from_the_newest_sample():
    model, objective = build()
    torch.nn.init.zeros_(objective.head.weight)
    torch.nn.init.zeros_(objective.head.bias)
    batch = batch_of()
    assert torch.equal(objective.predict(model, batch)[..., 16:], batch.signal[..., 15:16].expand(-1, -1, 8))


def test_learns_rhythms_that_persistence_cannot():
    model, objective = build()
    steps = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for k in range(150):
        steps.zero_grad()
        objective(model, batch_of(16, seed=k)).total.backward()
        steps.step()
    metrics = objective(model, batch_of(32, seed=999)).metrics
    assert metrics["r2"] > 0.9
    assert metrics["r2_persistence"] < 0


def test_by_default_the_last_quarter_in_whole_patches_before_it():
    assert build(horizon=None)[1].horizon == 8


@pytest.mark.parametrize("horizon", [0, 24, 7])
def test_a_horizon_that_leaves_no_whole_patches_is_refused(horizon):
    with pytest.raises(ConfigError, match="horizon"):
        build(horizon=horizon)
