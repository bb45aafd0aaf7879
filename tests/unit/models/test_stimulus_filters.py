"""Filters of a stimulus and of past spikes: a generalised linear model written out, and what a bin must not know."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from spike_batches import batch_of, facts, random_rows

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import StreamValues
from neurofm.schema.errors import ConfigError, DataError

HEARD = {"stream": "sound", "per_bin": 2, "mean": 1.0, "scale": 2.0}


def sounding(batch, *, rate_hz=1000.0, seed=0):
    """The batch with ten samples of a sound per bin of 10 ms."""
    n = round(batch.signal.shape[-1] / batch.rate_hz * rate_hz)
    values = torch.randn(len(batch), n, 1, generator=torch.Generator().manual_seed(seed)).double()
    time_s = (torch.arange(n) / rate_hz).expand(len(batch), -1)
    return replace(batch, streams={"sound": StreamValues(values, time_s, torch.ones(len(batch), n, dtype=torch.bool))})


def made(**choices):
    torch.manual_seed(0)
    choices = {"stimulus": HEARD, "own_s": 0.03, "dim": 4, "dropout": 0.0, **choices}
    model = MODELS.build("stimulus_filters", facts(), **choices)
    return model.double().eval(), OBJECTIVES.build("masked_counts", model, facts(), modes={"next": 1.0}).double()


def test_without_layers_it_is_a_generalised_linear_model():
    model, objective = made(n_layers=0)
    batch = sounding(batch_of(random_rows(2)))
    sound = (batch.streams["sound"].values[..., 0].numpy().reshape(2, 200, 5).mean(-1) - 1) / 2
    counts = batch.signal.double().numpy()
    # filters of each unit: of the sound in parts of 5 ms, and of every unit's last three bins
    head, unit = objective.head.weight[1:].detach().numpy(), model.unit.weight[1:].detach().numpy()
    of_sound = np.einsum("ud,dl->ul", head, model.heard.weight[:, 0].detach().numpy())
    offset = head @ model.heard.bias.detach().numpy() + objective.level.weight[1:, 0].detach().numpy()
    of_spikes = np.einsum("ud,vd,dl->uvl", head, unit, model.own.weight[:, 0].detach().numpy())
    want = np.zeros_like(counts)
    for b in range(2):
        for t in range(100):
            for u in range(6):
                eta = offset[u]
                for k in range(10):
                    at = 2 * t + 2 - 10 + k
                    eta += of_sound[u, k] * sound[b, at] if at >= 0 else 0.0
                for lag in (1, 2, 3):
                    if t - lag >= 0:
                        eta += of_spikes[u, :, 3 - lag] @ counts[b, :, t - lag]
                want[b, u, t] = math.exp(eta)
    got = objective.predict(model, batch).detach().numpy()
    assert np.abs(got - want).max() <= 1e-10 * want.max()
    loss = objective(model, batch, torch.Generator().manual_seed(0)).total
    np.testing.assert_allclose(loss.item(), (want - counts * np.log(want)).mean(), rtol=1e-10)


def test_a_bin_knows_neither_its_own_count_nor_what_comes_later():
    model, objective = made()
    batch = sounding(batch_of(random_rows(1)))
    plain = objective.predict(model, batch)
    counts = batch.signal.clone()
    counts[..., 60:] += 2
    assert torch.equal(objective.predict(model, batch.with_signal(counts))[..., :61], plain[..., :61])
    assert not torch.allclose(objective.predict(model, batch.with_signal(counts))[..., 61], plain[..., 61])
    values, time_s, mask = batch.streams["sound"]
    louder = values.clone()
    louder[:, 600:] += 5
    heard = replace(batch, streams={"sound": StreamValues(louder, time_s, mask)})
    assert torch.equal(objective.predict(model, heard)[..., :60], plain[..., :60])
    assert not torch.allclose(objective.predict(model, heard)[..., 60], plain[..., 60])


def test_without_own_spikes_only_the_stimulus_speaks():
    model, objective = made(own_s=0.0)
    batch = sounding(batch_of(random_rows(1)))
    assert torch.equal(objective.predict(model, batch), objective.predict(model, batch.with_signal(batch.signal + 3)))
    # a gap in the sound is its mean, and what lies there is not read
    values, time_s, mask = batch.streams["sound"]
    gone = mask.clone()
    gone[:, 200:300] = False
    gap = [
        replace(batch, streams={"sound": StreamValues(v, time_s, gone)})
        for v in (values, values + 7.0 * ~gone[..., None])
    ]
    assert torch.equal(*(objective.predict(model, b) for b in gap))


def test_wrong_choices_are_a_sentence():
    batch = batch_of(random_rows(1))
    with pytest.raises(DataError, match=r"stream 'sound' is not in the batch.*data\.streams"):
        made()[0](batch)
    with pytest.raises(DataError, match="has 1 columns, expected 2"):
        made(stimulus={**HEARD, "columns": 2})[0](sounding(batch))
    with pytest.raises(ConfigError, match=r"hold no bin of 0\.01 s to predict from"):
        made(stimulus=None, own_s=0.0)
    with pytest.raises(ConfigError, match="per_bin=0"):
        made(stimulus={**HEARD, "per_bin": 0})
    ndt = MODELS.build("ndt", facts(), dim=8, n_layers=1)
    with pytest.raises(ConfigError, match="use model=stimulus_filters"):
        OBJECTIVES.build("masked_counts", ndt, facts(), modes={"next": 1.0})
