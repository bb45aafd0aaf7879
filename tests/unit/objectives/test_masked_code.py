"""Masked code prediction: masks, both halves, nothing seen through the mask, the tokenizer's own channel names."""

from dataclasses import replace

import pytest
import torch

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel, Codes
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

P, C, T = 5, 4, 6
FACTS = Facts(rate_hz=10.0, window_s=P * T / 10, max_channels=C, channels=("a", "b", "c", "d"))


class Signs(CodebookModel):
    """Code 0 of a patch is 1 where its sum is above zero; code 1 is the channel's id in the tokenizer's own words."""

    rate_hz, patch_samples, n_codes, dim = 10.0, P, (2, 5), 1

    def __init__(self, columns=C):
        super().__init__()
        self.columns = columns

    def codes(self, batch):
        B, n, _ = batch.signal.shape
        patches = batch.signal.unflatten(-1, (-1, P)).transpose(1, 2)
        if self.columns == 1:
            code = (patches.sum((2, 3)) > 0).long()
            mask = torch.ones(B, T, dtype=torch.bool)
            return Codes(torch.stack([code, code], -1), mask, torch.full((B, T), -1), torch.zeros(B, T))
        code = (patches.sum(-1) > 0).long().flatten(1)
        channel = torch.arange(n).repeat(T).expand(B, -1)
        ids = batch.channel_ids.gather(1, channel)
        return Codes(torch.stack([code, ids], -1), batch.channel_mask.repeat(1, T), channel, torch.zeros(B, n * T))


def make_batch(n=64, seed=0, constant=False):
    g = torch.Generator().manual_seed(seed)
    signal = torch.randn(n, C, P * T, generator=g)
    if constant:
        # one sign for the whole window: a hidden patch is told by any other
        signal = signal.abs() * torch.where(torch.rand(n, 1, 1, generator=g) < 0.5, -1.0, 1.0)
    return NeuralBatch(
        signal=signal,
        channel_mask=torch.ones(n, C, dtype=torch.bool),
        time_mask=torch.ones(n, P * T, dtype=torch.bool),
        channel_ids=torch.arange(1, C + 1).expand(n, -1),
        rate_hz=10.0,
        sample_id=torch.arange(n),
    )


def build(*, tokenizer=None, n_codes=(2, 5), **choices):
    torch.manual_seed(0)
    model = MODELS.build("labram", FACTS, patch_samples=P, dim=16, n_layers=1, n_heads=2)
    objective = OBJECTIVES.build("masked_code", model, FACTS, n_codes=n_codes, **choices)
    objective.attach(tokenizer or Signs())
    return model, objective


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("policy", ["tokens", "segments", "channels"])
@pytest.mark.parametrize("ratio", [0.5, (0.2, 0.8), 0.01])
def test_masks_have_the_ratio_and_leave_something(policy, ratio):
    _, objective = build(mask_ratio=ratio, policy=policy)
    batch = make_batch()
    valid = torch.ones(64, T, C, dtype=torch.bool)
    valid[:32, :, 3] = False
    hidden = objective.draw(valid, batch, gen())
    assert not hidden[~valid].any()
    share = hidden.sum((1, 2)) / valid.sum((1, 2))
    assert ((share > 0) & (share < 1)).all()
    if ratio == 0.5:
        units = {"tokens": valid.sum((1, 2)), "segments": torch.full((64,), T), "channels": valid.any(1).sum(1)}[policy]
        assert torch.allclose(share, (0.5 * units).round() / units)
    elif ratio != 0.01:
        assert share.std() > 0.1
    if policy == "segments":
        assert (hidden.any(2) == hidden.sum(2).eq(valid.sum(2))).all()
    if policy == "channels":
        assert (hidden.any(1) == hidden.all(1)).all()


def test_spans_are_hidden_together():
    _, objective = build(span=3)
    hidden = objective.draw(torch.ones(64, T, C, dtype=torch.bool), make_batch(), gen())
    ones = hidden.long().transpose(1, 2).flatten(0, 1)
    lengths = []
    for row in ones.tolist():
        runs = "".join(map(str, row)).split("0")
        lengths += [len(r) for r in runs if r]
    _, single = build()
    alone = single.draw(torch.ones(64, T, C, dtype=torch.bool), make_batch(), gen()).long().transpose(1, 2)
    short = [len(r) for row in alone.flatten(0, 1).tolist() for r in "".join(map(str, row)).split("0") if r]
    assert sum(lengths) / len(lengths) > 1.3 * sum(short) / len(short)
    # spans start anywhere
    assert {int(row.argmax()) for row in ones if row.any()} == set(range(T)) - set(range(6, T))


def test_a_window_keeps_its_mask_among_other_neighbours():
    _, objective = build()
    batch = make_batch()
    valid = torch.ones(64, T, C, dtype=torch.bool)
    hidden = objective.draw(valid, batch, gen())
    order = torch.randperm(64)
    shuffled = replace(batch, sample_id=batch.sample_id[order])
    assert torch.equal(objective.draw(valid, shuffled, gen()), hidden[order])
    wider = torch.cat([valid, torch.zeros(64, T, 2, dtype=torch.bool)], 2)
    assert torch.equal(objective.draw(wider, batch, gen())[..., :C], hidden)


def test_the_complement_is_scored_too():
    model, objective = build()
    seen = []
    score = objective.score
    objective.score = lambda m, b, c, hidden: (seen.append(hidden), score(m, b, c, hidden))[1]
    objective(model, make_batch(), gen())
    assert len(seen) == 2
    assert (seen[0] ^ seen[1]).all()
    both = objective(model, make_batch(), gen()).total
    alone = [score(model, make_batch(), objective.codes(make_batch()), h)[0].mean() for h in seen[:2]]
    assert torch.allclose(both, torch.stack(alone).mean())


def test_hidden_samples_are_not_looked_at():
    model, objective = build(symmetric=False)
    batch = make_batch()
    codes = objective.codes(batch)
    hidden = objective.draw(objective.on_grid(codes, batch), batch, gen())
    loss, _ = objective.score(model, batch, codes, hidden)
    samples = hidden.repeat_interleave(P, 1).transpose(1, 2)
    other = batch.with_signal(torch.where(samples, 1e6, batch.signal))
    assert torch.equal(objective.score(model, other, codes, hidden)[0], loss)


def test_what_the_context_tells_is_learned_and_what_it_does_not_is_not():
    accuracies = []
    for constant in (True, False):
        model, objective = build()
        optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=3e-3)
        for step in range(60):
            loss = objective(model, make_batch(32, seed=step, constant=constant), gen(step))
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
        batch = make_batch(256, seed=1000, constant=constant)
        accuracies.append(objective(model, batch, gen(7)).metrics)
    assert accuracies[0]["accuracy_1"] > 0.95
    assert abs(accuracies[1]["accuracy_1"] - 0.5) < 0.04
    # where a patch is, is told by its place: the channel's code is learned in either case
    assert accuracies[1]["accuracy_2"] > 0.95


def test_the_tokenizer_gets_channels_in_its_own_words():
    _, objective = build(tokenizer_channels=["x", "d", "b"])
    code = objective.codes(make_batch(2)).code[0, :C, 1]
    # a and c are unknown to it
    assert code.tolist() == [0, 3, 0, 2]


def test_tokens_without_channels_are_hidden_with_all_channels():
    torch.manual_seed(0)
    _, objective = build(tokenizer=Signs(columns=1), n_codes=(2, 5))
    batch = make_batch()
    codes = objective.codes(batch)
    valid = objective.on_grid(codes, batch)
    assert valid.shape == (64, T, 1)
    model, _ = build()
    with pytest.raises(ConfigError, match="gives 24 tokens and the tokenizer 6"):
        objective(model, batch, gen())


def test_the_tokenizer_is_frozen_and_not_saved():
    model, objective = build(tokenizer=(tokenizer := Signs()))
    tokenizer.table = torch.nn.Linear(2, 2)
    objective.attach(tokenizer)
    assert not any(p.requires_grad for p in tokenizer.parameters())
    objective.train()
    assert not tokenizer.training
    assert set(objective.state_dict()) == {"head.weight", "head.bias"}
    assert not any(p is tokenizer.table.weight for p in objective.parameters())
    again = OBJECTIVES.build("masked_code", model, FACTS, n_codes=[2, 5], tokenizer="runs/somewhere")
    with pytest.raises(ConfigError, match="loaded without its tokenizer"):
        again(model, make_batch(), gen())


def test_a_model_whose_tokens_cannot_be_hidden_gets_a_sentence():
    model = MODELS.build("token_transformer", FACTS, patch_samples=P)
    with pytest.raises(ConfigError, match="hides tokens, which TokenTransformer cannot"):
        OBJECTIVES.build("masked_code", model, FACTS, n_codes=[2])
