"""BrainBERT: sizes as published, labels where something was hidden, the loss's own gradient, spans restored."""

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

CLIP = Facts(rate_hz=2048.0, window_s=5.0, max_channels=1)
SMALL = dict(
    window_samples=32, n_bins=12, hop_samples=8, trim_frames=2, dim=24, n_layers=2, n_heads=4, ffn_dim=48, dropout=0.0
)
FACTS = Facts(rate_hz=256.0, window_s=1.0, max_channels=3)


def build(**choices):
    torch.manual_seed(0)
    model = MODELS.build("brainbert", FACTS, **SMALL)
    return model, OBJECTIVES.build("masked_spectrogram", model, FACTS, **choices)


def batch(n=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(256) / 256.0
    # all multiples of 8 Hz under one slow envelope: what is hidden follows from its neighbours in time and frequency
    turn = torch.rand(n, 3, 1, generator=g)
    envelope = 1.2 + torch.sin(2 * torch.pi * (2 * t + turn))
    x = envelope * sum(torch.sin(2 * torch.pi * (8 * k * t + turn * k * k)) for k in range(1, 12))
    x = x + 0.1 * torch.randn(n, 3, 256, generator=g)
    return NeuralBatch(
        signal=x, channel_mask=torch.ones(n, 3, dtype=torch.bool), time_mask=torch.ones(n, 256, dtype=torch.bool),
        rate_hz=256.0, sample_id=torch.arange(n),
    )  # fmt: skip


@pytest.mark.parametrize(("size", "n"), [("large", 43_183_144), ("base", 21_919_528), ("small", 4_728_760)])
def test_published_sizes(size, n, request):
    choices = yaml.safe_load((request.config.rootpath / f"conf/model/brainbert_{size}.yaml").read_text())
    with torch.device("meta"):
        model = MODELS.build(choices.pop("name"), CLIP, **choices)
        objective = OBJECTIVES.build("masked_spectrogram", model, CLIP)
    assert sum(p.numel() for m in (model, objective) for p in m.parameters()) == n


def test_labels_mark_the_cells_that_were_hidden():
    # the released code marks columns numbered like the hidden frames in place of the hidden bins
    model, objective = build(time_probability=0.05, frequency_probability=0.2)
    b = batch(30)
    truth = model.spectrogram(b)
    hidden = objective.draw(truth, b, torch.Generator().manual_seed(1))
    changed = hidden.shown != truth
    assert not (changed & ~hidden.label).any()
    # a tenth of the spans is left as it is; the rest differs
    assert 0.8 < float((changed & hidden.label).sum() / hidden.label.sum()) < 0.97
    whole_bins = hidden.label.all(2)
    assert whole_bins.any()
    frames_and_bins = hidden.label.all(3)[..., None] | whole_bins[:, :, None]
    assert torch.equal(frames_and_bins, hidden.label)


def test_loss_is_that_of_the_paper():
    model, objective = build(time_probability=0.1)
    b = batch()
    truth = model.spectrogram(b)
    hidden = objective.draw(truth, b, torch.Generator().manual_seed(3))
    estimate = objective.estimate(model, b, hidden.shown)
    error = (estimate - truth).abs()[hidden.label]
    strong = truth.abs()[hidden.label] > 1
    loss = objective(model, b, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss.total, error.mean() + 2 * error[strong].mean())
    # the gradient is the loss's own, not that times the loss
    loss.total.backward()
    bias = objective.head[-1].bias
    grad = bias.grad.clone()
    eps = 1e-3
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            bias[3] += sign * eps
            values.append(float(objective(model, b, torch.Generator().manual_seed(3)).total))
            bias[3] -= sign * eps
    assert (values[0] - values[1]) / (2 * eps) == pytest.approx(float(grad[3]), abs=2e-2)


def test_hidden_spans_are_restored_better_than_by_zero():
    model, objective = build(time_probability=0.05, frequency_probability=0.05)
    optimiser = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=4e-3)
    first = None
    for step in range(250):
        loss = objective(model, batch(16, seed=step), torch.Generator().manual_seed(step))
        first = first or float(loss.total.detach())
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    with torch.no_grad():
        late = objective(model, batch(64, seed=9999), torch.Generator().manual_seed(999))
    assert float(late.metrics["r2"]) > 0.3
    assert float(late.total) < 0.8 * first


def test_pool_reads_the_ten_frames_in_the_middle():
    model, _ = build()
    b = batch()
    encoded = model.eval()(b)
    n = model.n_frames
    tokens = encoded.tokens.unflatten(1, (n, 3))
    torch.testing.assert_close(model.pool(encoded), tokens[:, n // 2 - 5 : n // 2 + 5].mean((1, 2)))


def test_needs_a_model_of_spectrograms():
    model = MODELS.build("token_transformer", FACTS, patch_samples=16, dim=8)
    with pytest.raises(ConfigError, match="brainbert"):
        OBJECTIVES.build("masked_spectrogram", model, FACTS)
