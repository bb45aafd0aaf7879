"""Hidden counts: each window its own, only they are learned from, and nothing of them gets in."""

import math
from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.count_masks import hidden_bins, hidden_entries, hidden_neurons
from neurofm.objectives.masked_counts import MODES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts

C, T = 10, 40
FACTS = Facts(rate_hz=100.0, window_s=T / 100, max_channels=C, channels=tuple(f"s/u{i}" for i in range(C)))


def made(**choices):
    torch.manual_seed(0)
    model = MODELS.build("ndt", FACTS, dim=16, n_layers=1, n_heads=2, ffn_dim=32, dropout=0.0, embed_dropout=0.0)
    objective = OBJECTIVES.build("masked_counts", model, FACTS, **choices)
    return model.double().eval(), objective.double()


def batch(B=4, n_valid=C, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = (torch.arange(C) < n_valid).expand(B, -1)
    return NeuralBatch(
        signal=torch.poisson(torch.full((B, C, T), 0.5), generator=g).double() * mask[..., None],
        channel_mask=mask,
        time_mask=torch.ones(B, T, dtype=torch.bool),
        rate_hz=100.0,
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
        sample_id=torch.arange(B),
    )


def test_the_loss_by_hand():
    """A head of zeros says one rate for all: r − k ln r, averaged over what is hidden."""
    model, objective = made()
    with torch.no_grad():
        objective.head.weight.zero_()
        objective.level.weight.fill_(math.log(0.5))
    data = batch()
    hidden, _ = objective.draw(data, torch.Generator().manual_seed(1))
    loss = objective(model, data, torch.Generator().manual_seed(1))
    want = (0.5 - data.signal * math.log(0.5))[hidden].mean()
    torch.testing.assert_close(loss.total.detach(), want, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", MODES[:-1])
def test_only_hidden_counts_are_learned_from_and_none_gets_in(mode):
    model, objective = made(modes={mode: 1.0}, held_out=2, forward_bins=5)
    data = batch()
    before = data.signal.clone()
    hidden, number = objective.draw(data, torch.Generator().manual_seed(1))
    assert {MODES[i] for i in number.tolist()} == {mode}
    assert 0 < hidden.sum() < hidden.numel()
    log_rate = objective.log_rates(model, data, hidden, number + 1)
    log_rate.retain_grad()
    from neurofm.nn.poisson import poisson_nll

    (poisson_nll(log_rate, data.signal) * hidden).sum().backward()
    assert log_rate.grad[~hidden].abs().max() == 0
    # the input is as it was, and other values under the mask change nothing of the estimate
    assert torch.equal(data.signal, before)
    other = data.with_signal(torch.where(hidden, data.signal + 7, data.signal))
    assert torch.equal(log_rate, objective.log_rates(model, other, hidden, number + 1))


def test_windows_have_masks_of_their_own():
    _, objective = made(modes=dict.fromkeys(MODES[:-1], 1.0))
    hidden, number = objective.draw(batch(64), torch.Generator().manual_seed(0))
    assert len(number.unique()) == len(MODES) - 1
    _, neurons = made(modes={"neuron": 1.0})
    hidden, _ = neurons.draw(batch(8), torch.Generator().manual_seed(0))
    assert len({tuple(h.tolist()) for h in hidden[:, :, 0]}) > 1


def test_a_window_has_the_same_mask_in_any_batch():
    _, objective = made(modes=dict.fromkeys(MODES[:-1], 1.0))
    data = batch(6)
    alone = replace(
        data, signal=data.signal[4:5], channel_mask=data.channel_mask[4:5], time_mask=data.time_mask[4:5],
        channel_ids=data.channel_ids[4:5], sample_id=data.sample_id[4:5],
    )  # fmt: skip
    all_of_them = objective.draw(data, torch.Generator().manual_seed(3))
    one = objective.draw(alone, torch.Generator().manual_seed(3))
    assert torch.equal(all_of_them[0][4:5], one[0])
    assert torch.equal(all_of_them[1][4:5], one[1])


def test_what_each_way_hides():
    key = torch.arange(2000)
    valid = (torch.arange(C) < 7).expand(2000, -1)
    neurons = hidden_neurons(valid, key, ratio=0.3)
    assert neurons[:, 7:].sum() == 0
    assert neurons.sum(1).unique().tolist() == [2]
    one = torch.tensor([[True, False]])
    assert hidden_neurons(one, key[:1], ratio=0.3).sum() == 1
    times = torch.ones(2000, T, dtype=torch.bool)
    for longest in (1, 5):
        bins = hidden_bins(times, key, ratio=0.3, longest=longest)
        assert (bins.sum(1) > 0).all()
        assert abs(float(bins[:, longest:].double().mean()) - 0.3) < 0.03
    entries = hidden_entries(torch.ones(200, C, T, dtype=torch.bool), key[:200], ratio=0.3)
    assert abs(float(entries.double().mean()) - 0.3) < 0.01
    assert abs(float(entries[:, 0].double().mul(entries[:, 1]).mean()) - 0.09) < 0.01
    _, objective = made(modes={"co_smooth": 1.0, "forward": 1.0}, held_out=["s/u2", "s/u5"], forward_bins=3)
    assert objective.mask(batch(), "co_smooth").any(2)[0].nonzero().flatten().tolist() == [2, 5]
    assert objective.mask(batch(), "forward").any(1)[0].nonzero().flatten().tolist() == [37, 38, 39]
    _, last = made(held_out=2)
    assert last.mask(batch(n_valid=8), "co_smooth").any(2)[0].nonzero().flatten().tolist() == [6, 7]


def test_rates_of_what_is_hidden():
    model, objective = made(held_out=2, forward_bins=4)
    data = batch()
    rates, hidden = objective.rates(model, data, mode="co_smooth")
    other = data.with_signal(torch.where(hidden, torch.zeros_like(data.signal), data.signal))
    assert torch.equal(rates, objective.rates(model, other, mode="co_smooth")[0])
    rates, everything = objective.rates(model, data, mode="neuron")
    assert everything.all()
    # a unit's own counts do not help its own estimate
    more = data.signal.clone()
    more[:, 3] += 5
    assert torch.equal(rates[:, 3], objective.rates(model, data.with_signal(more), mode="neuron")[0][:, 3])
    assert objective.predict(model, data).shape == (4, C, T)


def test_it_learns_a_shared_rate():
    """Units that rise and fall together: after a few steps the hidden ones are estimated from the others."""
    torch.manual_seed(0)
    model, objective = made(modes={"co_smooth": 1.0}, held_out=2)
    g = torch.Generator().manual_seed(0)
    wave = torch.sin(torch.arange(T) * 0.3 + 6.28 * torch.rand(64, 1, generator=g))
    data = batch(64)
    data = data.with_signal(torch.poisson(torch.exp(1.5 * wave)[:, None].expand(-1, C, -1), generator=g).double())
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for step in range(60):
        loss = objective(model, data, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert loss.metrics["bits_per_spike"] > 0.25


def test_named_units_that_are_not_in_a_window_are_a_sentence():
    _, objective = made(held_out=["s/u9"])
    with pytest.raises(DataError, match="holds none of the units that held_out names"):
        objective.mask(batch(n_valid=5), "co_smooth")
