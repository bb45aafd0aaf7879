"""Whose spikes change whose chances: a planted connection is found with its direction and sign."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurofm.analysis.spike_influence import influence
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError
from tests.unit.models.spike_batches import batch_of, facts

WINDOW_S = 0.04


def made(n_units=4):
    torch.manual_seed(0)
    f = facts(n_units, window_s=WINDOW_S)
    model = MODELS.build("neuroformer", f, dim=16, n_heads=2, current_s=0.02, history_s=0.02, step_s=0.01, dropout=0.0)
    return model, OBJECTIVES.build("spike_sequence", model, f)


def rows(n, seed):
    """Unit 0 excites unit 1 and silences unit 2 one step later; unit 3 is alone."""
    rng = np.random.default_rng(seed)
    fired = rng.random((n, 4, 4)) < 0.35
    before = fired[:, :-1, 0]
    fired[:, 1:, 1] = rng.random(before.shape) < np.where(before, 0.9, 0.1)
    fired[:, 1:, 2] = rng.random(before.shape) < np.where(before, 0.05, 0.6)
    return [[(0.01 * s + 0.005, u) for s, u in zip(*np.nonzero(w), strict=True)] for w in fired]


def test_a_planted_connection_has_direction_and_sign():
    model, objective = made()
    optimiser = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for step in range(120):
        loss = objective(model, batch_of(rows(64, step), n_units=4, window_s=WINDOW_S, rate_hz=1000.0), None).total
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    data = batch_of(rows(256, 1000), n_units=4, window_s=WINDOW_S, rate_hz=1000.0)
    model.train()
    found = influence(model, objective, [data], n_units=4, steps=1)
    assert model.training
    assert found[0, 1] > 0.5
    assert found[0, 2] < -0.5
    # it takes one step: what was fired a step earlier says nothing
    assert influence(model, objective, [data], n_units=4, steps=2, skip=1)[0, 1:3].abs().max() < 0.3
    # neither the way back nor the lonely unit
    assert found[[1, 2, 3, 3, 3], [0, 0, 0, 1, 2]].abs().max() < 0.3


def test_a_model_that_does_not_look_back_has_no_influence():
    model, objective = made()
    with torch.no_grad():
        for block in model.history:
            block.out.weight.zero_()
            block.out.bias.zero_()
    data = batch_of(rows(32, 0), n_units=4, window_s=WINDOW_S, rate_hz=1000.0)
    found = influence(model, objective, [data], n_units=4)
    assert found[found.isfinite()].abs().max() < 1e-6


def test_more_steps_than_there_are_is_a_sentence():
    model, objective = made()
    with pytest.raises(ConfigError, match="history"):
        influence(model, objective, [], n_units=4, steps=3)


def test_skipping_every_step_is_a_sentence():
    model, objective = made()
    with pytest.raises(ConfigError, match="skip=2 must be 0 to 1, fewer than steps=2"):
        influence(model, objective, [], n_units=4, skip=2)
