"""In-context encoding: learned on simulated voxels, tested on new ones and a new person against ridge."""

import numpy as np
import pytest
import torch
from torch import nn

from neurofm.benchmarks.baselines.banded_ridge import BandedRidge
from neurofm.models import MODELS
from neurofm.models.base import Backbone
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

E = 16
FACTS = Facts(rate_hz=1.0, window_s=1.0, max_channels=32, subjects=("a", "b"), embedding_shape=(E,))


def unit(n, g):
    return nn.functional.normalize(torch.randn(n, E, generator=g), dim=-1)


def voxels(n, stimuli, basis, g, noise=0.5):
    """Linear-nonlinear voxels: a rectified and a linear part of a projection whose weights share four directions."""
    w = torch.randn(n, 4, generator=g) @ basis
    drive = 4 * w @ stimuli.T
    response = drive + 0.5 * drive.relu()
    response = response - response.mean(1, keepdim=True)
    response = response / response.std(1, keepdim=True)
    return response + noise * torch.randn(response.shape, generator=g)


def batch_of(n_trials, n_voxels, basis, g, *, subjects=1):
    stimuli = unit(n_trials, g)
    return NeuralBatch(
        signal=voxels(n_voxels, stimuli, basis, g).T[..., None],
        channel_mask=torch.ones(n_trials, n_voxels, dtype=torch.bool),
        time_mask=torch.ones(n_trials, 1, dtype=torch.bool),
        rate_hz=1.0,
        subject=torch.arange(n_trials) % subjects + 1,
        stimulus_embedding={"image": stimuli},
    )


def build(**choices):
    torch.manual_seed(0)
    model = MODELS.build("braincorl", FACTS, dim=32, n_layers=2, n_heads=4, ffn_dim=64)
    return model, OBJECTIVES.build("in_context", model, FACTS, **choices)


def test_beats_ridge_from_few_trials_without_a_gradient_step():
    """Fewer trials than dimensions: what voxels have in common must come from other people."""
    g = torch.Generator().manual_seed(0)
    basis = torch.randn(4, E, generator=g)
    model, objective = build(context=[4, 20], n_voxels=32)
    both = nn.ModuleDict({"m": model, "o": objective})
    optimizer = torch.optim.AdamW(both.parameters(), lr=2e-3)
    steps = 400
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        loss = objective(model, batch_of(40, 32, basis, g), g)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        schedule.step()
    both.eval()
    n, new = 10, batch_of(210, 200, basis, torch.Generator().manual_seed(99))
    stimuli, response = new.stimulus_embedding["image"], new.signal[..., 0]
    with torch.no_grad():
        ours = objective.encode(model, stimuli[:n], response[:n].T, stimuli[n:]).T.numpy()
    ridge = BandedRidge(alphas=[10.0**k for k in range(-3, 6)], n_folds=5).fit({"x": stimuli[:n]}, response[:n].numpy())
    true = response[n:].numpy()

    def explained(estimate):
        return np.mean(1 - (true - estimate).var(0) / true.var(0))

    a, b = explained(ours), explained(ridge.predict({"x": stimuli[n:]}))
    assert a > b + 0.15, (a, b)


def test_context_has_no_order_and_weights_are_linear():
    model, objective = build()
    model.eval()
    g = torch.Generator().manual_seed(1)
    stimuli, response, new = unit(7, g), torch.randn(3, 7, generator=g), unit(5, g)
    order = torch.randperm(7, generator=g)
    a, b = (
        objective.encode(model, stimuli, response, new),
        objective.encode(model, stimuli[order], response[:, order], new),
    )
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    w = objective.weights(model, stimuli, response)
    torch.testing.assert_close(a, w[:, :-1] @ new.T + w[:, -1:])


def test_no_trial_is_in_its_own_context():
    model, objective = build()
    model.eval()
    g = torch.Generator().manual_seed(2)
    batch = batch_of(8, 3, torch.randn(4, E, generator=g), g, subjects=2)
    before = objective.predict(model, batch)
    assert before.shape == (8, 3, 1)
    changed = batch.signal.clone()
    changed[3] += 5.0
    after = objective.predict(model, batch.with_signal(changed))
    torch.testing.assert_close(after[3], before[3])
    assert (after != before).any()


def test_wrong_input_gets_a_sentence():
    model, objective = build()
    g = torch.Generator().manual_seed(2)
    with pytest.raises(DataError, match="two trials"):
        objective(model, batch_of(2, 3, torch.randn(4, E, generator=g), g, subjects=2), g)
    with pytest.raises(ConfigError, match="model=braincorl"):
        OBJECTIVES.build("in_context", Backbone(), FACTS)
