"""CBraMod: published size, each half of a token looks along its own axis, hidden patches cannot be seen."""

import torch

from neurofm.models import MODELS
from neurofm.models.cbramod import CrissCrossBlock
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=50.0, window_s=1.6, max_channels=4)
SMALL = dict(patch_samples=10, dim=32, n_layers=2, n_heads=4, ffn_dim=64, n_maps=5, position_kernel=(5, 3), dropout=0.0)


def batch(n=16, seed=0):
    """Four mixtures of two slow waves: a hidden patch follows from the same time elsewhere."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(80) / 50.0
    f = torch.tensor([1.0, 1.8])[:, None]
    waves = torch.sin(2 * torch.pi * (f * t + torch.rand(n, 2, 1, generator=g)))
    mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.7, 0.7], [0.7, -0.7]])
    x = 1.4 * mix @ waves
    return NeuralBatch(
        signal=x, channel_mask=torch.ones(n, 4, dtype=torch.bool), time_mask=torch.ones(n, 80, dtype=torch.bool),
        rate_hz=50.0, sample_id=torch.arange(n),
    )  # fmt: skip


def test_published_size():
    facts = Facts(rate_hz=200.0, window_s=30.0, max_channels=19)
    with torch.device("meta"):
        model = MODELS.build("cbramod", facts, patch_s=1.0)
        head = OBJECTIVES.build("masked_patch", model, facts)
    assert isinstance(model.tokenizer.project, torch.nn.Identity)
    n = sum(p.numel() for m in (model, head) for p in m.parameters())
    assert round(n / 1e6, 1) == 4.9


def test_halves_look_along_their_axes():
    torch.manual_seed(0)
    block = CrissCrossBlock(16, n_heads=4, ffn_dim=32, dropout=0.0)
    block.feedforward = torch.nn.Sequential(torch.nn.Linear(16, 16))
    torch.nn.init.zeros_(block.feedforward[0].weight)
    x = torch.randn(1, 5, 4, 16)
    seen = torch.ones(1, 1, 1, 1, 4, dtype=torch.bool)
    other = x.clone()
    other[0, 2, 1] += torch.randn(16)
    moved = (block(x, seen) - block(other, seen))[0].abs() > 1e-7
    # the first half moves in the segment, the second in the channel, nothing else does
    space, time = moved[..., :8].any(-1), moved[..., 8:].any(-1)
    assert space[2].all()
    assert not space[[0, 1, 3, 4]].any()
    assert time[:, 1].all()
    assert not time[:, [0, 2, 3]].any()


def test_what_is_hidden_is_not_seen_and_counts():
    torch.manual_seed(0)
    model = MODELS.build("cbramod", FACTS, **SMALL)
    objective = OBJECTIVES.build("masked_patch", model, FACTS)
    b = batch(4)
    hidden = objective.draw(b, torch.Generator().manual_seed(2))
    assert hidden.shape == (4, 8, 4)
    assert (hidden.sum((1, 2)) == 16).all()
    where = hidden.transpose(1, 2).repeat_interleave(10, -1)
    a = objective.estimate(model, b, hidden)
    c = objective.estimate(model, b.with_signal(b.signal + 100 * where), hidden)
    assert torch.equal(a, c)
    loss = objective(model, b, torch.Generator().manual_seed(2))
    torch.testing.assert_close(loss.total, (a - b.signal)[where].square().mean())


def test_it_learns_and_predicts_every_patch_from_the_others():
    torch.manual_seed(0)
    model = MODELS.build("cbramod", FACTS, **SMALL)
    objective = OBJECTIVES.build("masked_patch", model, FACTS)
    optimiser = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
    for step in range(150):
        total = objective(model, batch(seed=step), torch.Generator().manual_seed(step)).total
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    model.eval()
    late = batch(64, seed=9999)
    with torch.no_grad():
        metrics = objective(model, late, torch.Generator().manual_seed(9)).metrics
        whole = objective.predict(model, late)
    assert float(metrics["r2"]) > 0.6
    assert 1 - (whole - late.signal).square().sum() / late.signal.square().sum() > 0.6


def test_segments_are_hidden_in_all_channels():
    model = MODELS.build("cbramod", FACTS, **SMALL)
    objective = OBJECTIVES.build("masked_patch", model, FACTS, hide="segments", ratio=0.25)
    hidden = objective.draw(batch(5), torch.Generator().manual_seed(0))
    assert torch.equal(hidden.any(2), hidden.all(2))
    assert (hidden.any(2).sum(1) == 2).all()
