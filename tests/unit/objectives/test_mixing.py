"""Mixing pairs and dropping channels in training, against loops and known shares."""

import numpy as np
import pytest
import torch

from neurofm.objectives.mixing import drop_channels, mix_pairs
from neurofm.objectives.supervised import Supervised
from neurofm.schema.errors import ConfigError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixed_windows_are_the_loop(tiny, alpha):
    batch = tiny.batch(200)
    before = batch.signal.clone()
    mixed, partner, weight = mix_pairs(batch, torch.zeros(200).long(), np.random.default_rng(1), alpha=alpha)
    for i in range(200):
        expected = weight[i] * before[i] + (1 - weight[i]) * before[partner[i]]
        torch.testing.assert_close(mixed.signal[i], expected)
    assert torch.equal(batch.signal, before)
    assert sorted(partner.tolist()) == list(range(200))
    assert weight.min() >= 0.5
    # E max(λ, 1 − λ) of Beta(1, 1) is 3/4; a smaller alpha mixes less
    mean = float(weight.mean())
    assert mean == pytest.approx(0.75, abs=0.03) if alpha == 1 else mean > 0.8


def test_only_labelled_windows_of_the_same_channels_are_mixed(tiny):
    batch = tiny.batch(60, n_valid=[5] * 30 + [3] * 30)
    labelled = torch.arange(60) % 3 != 0
    mixed, partner, weight = mix_pairs(batch, labelled.long() - 1, np.random.default_rng(0), alpha=1.0)
    assert torch.equal(partner[~labelled], torch.arange(60)[~labelled])
    assert bool(labelled[partner[labelled]].all())
    unlike = (partner < 30) != (torch.arange(60) < 30)
    assert unlike.any()
    assert bool((weight[unlike] == 1).all())
    torch.testing.assert_close(mixed.signal[~labelled | unlike], batch.signal[~labelled | unlike])
    assert bool((mixed.signal[30:, 3:] == 0).all())  # padding stays empty


def test_channels_are_dropped_at_the_asked_rate_and_never_all(tiny):
    batch = tiny.batch(2000, n_valid=[5] * 1000 + [1] * 1000)
    batch = batch.with_signal(batch.signal + 9.0)
    kept = (drop_channels(batch, 0.3, np.random.default_rng(0)).signal != 0).any(2)
    assert float((~kept[:1000]).float().mean()) == pytest.approx(0.3, abs=0.02)
    assert bool(kept[1000:, 0].all())
    often = (drop_channels(batch, 0.9, np.random.default_rng(0)).signal != 0).any(2)
    assert bool((often & batch.channel_mask).any(1).all())


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_the_loss_is_mixed_like_the_windows(tiny, weights):
    model = tiny.model().double()
    objective = Supervised(model, tiny.facts(), mixup_alpha=1.0, label_smoothing=0.1, class_weights=weights).double()
    torch.nn.init.normal_(objective.head.weight)
    batch = tiny.batch(9, dtype=torch.float64)
    batch.target[4] = -1
    objective.train()
    total = objective(model, batch, generator()).total
    labelled = batch.target >= 0
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator())))
    mixed, partner, share = mix_pairs(batch, labelled.long() - 1, rng, alpha=1.0)
    objective.eval()
    logs = objective.predict(model, mixed).log_softmax(1)
    w = torch.tensor(weights or [1.0, 1.0], dtype=torch.float64)
    summed = scale = 0.0
    for i in labelled.nonzero().flatten():
        for target, part in ((batch.target[i], share[i]), (batch.target[partner[i]], 1 - share[i])):
            soft = 0.9 * torch.nn.functional.one_hot(target, 2).double() + 0.05
            summed, scale = summed - part * (w * soft * logs[i]).sum(), scale + part * w[target]
    assert total.item() == pytest.approx((summed / scale).item(), rel=1e-9)


def test_only_in_training_and_only_by_the_generator(tiny):
    model = tiny.model()
    plain = Supervised(model, tiny.facts())
    mixing = Supervised(model, tiny.facts(), mixup_alpha=0.5, channel_dropout=0.3)
    for objective in (plain, mixing):
        assert not objective.head.weight.any()  # starts undecided
        torch.manual_seed(0)
        torch.nn.init.normal_(objective.head.weight)
    batch = tiny.batch(12)
    assert torch.equal(mixing.eval()(model, batch, generator()).total, plain.eval()(model, batch, generator()).total)
    mixing.train()
    a, b, c = (mixing(model, batch, generator(seed)).total for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, plain.train()(model, batch, generator()).total)
    assert torch.equal(mixing.predict(model, batch), mixing.predict(model, batch))


@pytest.mark.parametrize("choices", [{"mixup_alpha": -1.0}, {"channel_dropout": 1.0}])
def test_refusals(tiny, choices):
    with pytest.raises(ConfigError, match="must be 0 or more"):
        Supervised(tiny.model(), tiny.facts(), **choices)
