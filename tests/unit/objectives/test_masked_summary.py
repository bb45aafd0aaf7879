"""The summary finds what varies between a person's windows, whatever each person is always like, and never looks at what is hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.masked_summary import same_person
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=64.0, window_s=2.0, max_channels=3, channels=("a", "b", "c"))


def windows(n=64, seed=0):
    """Channels a and b are louder together in some windows; c is always loud in person 1, which is another matter."""
    rng = np.random.default_rng(seed)
    gain, person = rng.standard_normal(n), rng.integers(1, 3, n)
    log_power = np.stack([gain, gain, 3.0 * (person == 1)], 1)
    signal = rng.standard_normal((n, 3, 128)) * np.exp(log_power / 2)[..., None]
    batch = NeuralBatch(
        signal=torch.tensor(signal, dtype=torch.float32), channel_mask=torch.ones(n, 3, dtype=torch.bool),
        time_mask=torch.ones(n, 128, dtype=torch.bool), rate_hz=64.0, channel_ids=torch.arange(1, 4).expand(n, -1),
        subject=torch.tensor(person),
    )  # fmt: skip
    return batch, gain


def build(dim=1):
    torch.manual_seed(0)
    model = MODELS.build("log_covariance", FACTS, patch_samples=32, dim=dim, band_hz=(2, 30))
    return model, OBJECTIVES.build("masked_summary", model, FACTS)


def test_one_number_becomes_what_varies_within_people():
    model, objective = build()
    optimiser = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=2e-2)
    for step in range(150):
        loss = objective(model, windows(seed=step)[0], torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
    batch, gain = windows(n=400, seed=1000)
    with torch.no_grad():
        found = model.pool(model(batch))[:, 0].numpy()
    assert abs(np.corrcoef(found, gain)[0, 1]) > 0.95


def test_hidden_segments_are_not_looked_at():
    model, objective = build(dim=2)
    batch, _ = windows(n=8)
    hidden = objective.draw(batch, torch.Generator().manual_seed(0))
    assert hidden.sum(1).tolist() == [2] * 8
    samples = hidden.repeat_interleave(32, 1)[:, None]
    other = batch.with_signal(torch.where(samples, 100.0, batch.signal))
    torch.testing.assert_close(objective.estimate(model, batch, hidden), objective.estimate(model, other, hidden))
    # a window of one segment has nothing to hide
    short = replace(batch, signal=batch.signal[..., :32], time_mask=batch.time_mask[:, :32])
    with pytest.raises(ConfigError, match="two segments per window"):
        objective(model, short)


def test_people_are_compared_with_themselves():
    batch, _ = windows(n=4)
    batch = replace(
        batch,
        subject=torch.tensor([1, 2, 1, 3]),
        channel_ids=torch.tensor([[1, 2, 3], [1, 2, 3], [1, 3, 2], [1, 2, 3]]),
    )
    share = same_person(batch)
    assert share[0, :, 0].tolist() == [0.5, 0, 0.5, 0]
    # another electrode at the same place is no comparison
    assert share[0, :, 1].tolist() == [1, 0, 0, 0]
    model, objective = build()
    alone = replace(batch, subject=torch.arange(4))
    assert objective(model, alone).total == 0
