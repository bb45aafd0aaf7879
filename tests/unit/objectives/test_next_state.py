import math

import pytest
import torch

from neurofm.objectives.info_nce import draw_negatives, info_nce
from neurofm.objectives.next_state import NextState
from neurofm.schema.errors import ConfigError


def loop_info_nce(predicted, positive, bank, negatives, temperature):
    """The paper's loss, one number at a time."""

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    losses, hits = [], []
    for p, q, row in zip(predicted.tolist(), positive.tolist(), negatives.tolist(), strict=True):
        logits = [cosine(p, q) / temperature]
        for j in row:
            n = bank[j].tolist()
            gap = math.sqrt(sum((x - y) ** 2 for x, y in zip(n, q, strict=True)))
            if gap >= 1e-8 + 1e-5 * math.sqrt(sum(y * y for y in q)):
                logits.append(cosine(p, n) / temperature)
        losses.append(math.log(sum(math.exp(x) for x in logits)) - logits[0])
        hits.append(logits[0] == max(logits))
    return losses, hits


def test_info_nce_is_the_loop(monkeypatch):
    g = torch.Generator().manual_seed(0)
    bank = torch.randn(9, 4, generator=g, dtype=torch.float64)
    bank[7] = bank[2]  # the same token twice: must not count as a negative
    positive = bank[[0, 2, 5, 8]]
    predicted = positive + torch.randn(4, 4, generator=g, dtype=torch.float64)
    negatives = draw_negatives(torch.tensor([0, 2, 5, 8]), 9, 12, n_candidates=8, generator=g)
    negatives[1, 0] = 7
    want, hits = loop_info_nce(predicted, positive, bank, negatives, 0.1)
    loss, hit = info_nce(predicted, positive, bank, negatives, temperature=0.1)
    torch.testing.assert_close(loss, torch.tensor(want, dtype=torch.float64), rtol=1e-10, atol=0)
    assert hit.tolist() == hits
    # in parts, as for large batches, with the same gradient
    grads = []
    for limit in (1 << 26, 1):
        monkeypatch.setattr("neurofm.objectives.info_nce._CHUNK_NUMBERS", limit)
        p = predicted.clone().requires_grad_()
        info_nce(p, positive, bank, negatives, temperature=0.1)[0].sum().backward()
        grads.append(p.grad)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-14)


def test_negatives_are_uniform_over_all_but_the_positive():
    drawn = draw_negatives(
        torch.tensor([0, 3, 5]), 6, 30_000, n_candidates=5, generator=torch.Generator().manual_seed(1)
    )
    for row, positive in zip(drawn, (0, 3, 5), strict=True):
        counts = torch.bincount(row, minlength=6).double()
        assert counts[positive] == 0
        others = counts[torch.arange(6) != positive]
        assert ((others - 6000).abs() < 5 * math.sqrt(6000)).all()  # five standard deviations
    near = draw_negatives(torch.tensor([1]), 6, 1000, n_candidates=3, generator=torch.Generator().manual_seed(1))
    assert set(near.flatten().tolist()) == {0, 2, 3}


def test_contrastive_scores_only_valid_tokens(tiny):
    model, batch = tiny.model(), tiny.batch(4, n_valid=[5, 3, 2, 1])
    objective = NextState(model, tiny.facts())
    seen = {}
    original = info_nce

    def spy(predicted, positive, bank, negatives, **rest):
        seen.update(predicted=predicted, positive=positive, bank=bank, negatives=negatives)
        return original(predicted, positive, bank, negatives, **rest)

    import neurofm.objectives.next_state as module

    old, module.info_nce = module.info_nce, spy
    try:
        objective(model, batch, torch.Generator().manual_seed(0))
    finally:
        module.info_nce = old
    tokens = model.embed_tokens(batch)
    n_valid = 5 + 3 + 2 + 1
    assert len(seen["predicted"]) == n_valid * 3  # 4 segments, 3 of them have a successor in it
    assert len(seen["bank"]) == n_valid * 4
    positives = [tokens[b, t + 1, c] for b, k in enumerate([5, 3, 2, 1]) for t in range(3) for c in range(k)]
    # order is (window, segment, channel)
    torch.testing.assert_close(seen["positive"], torch.stack(positives))
    hit = (seen["bank"][seen["negatives"]] == seen["positive"][:, None]).all(-1)
    assert not hit.any()


def test_detached_targets_cut_the_gradient(tiny):
    grads = []
    for detach in (False, True):
        model = tiny.model()
        objective = NextState(model, tiny.facts(), detach_targets=detach)
        objective(model, tiny.batch(), torch.Generator().manual_seed(0)).total.backward()
        grads.append(model.tokenizer.embed.weight.grad)
    assert not torch.allclose(grads[0], grads[1])


def test_regression_is_the_loop_and_predict_is_shifted(tiny):
    model, batch = tiny.model().double(), tiny.batch(3, n_valid=[5, 4, 2], dtype=torch.float64)
    objective = NextState(model, tiny.facts(), kind="regression", target="samples").double()
    loss = objective(model, batch, None)
    estimate = objective.predict(model, batch)
    errors = [
        (estimate[b, c, t] - batch.signal[b, c, t]).item() ** 2
        for b, k in enumerate([5, 4, 2]) for c in range(k) for t in range(3, 12)
    ]  # fmt: skip
    assert loss.total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-10)
    assert estimate[..., :3].isnan().all()
    # no estimate looks at its own segment or a later one
    changed = batch.signal.clone()
    changed[..., 6:] += 3.0
    again = objective.predict(model, batch.with_signal(changed))
    torch.testing.assert_close(again[..., 3:9], estimate[..., 3:9])
    assert not torch.allclose(again[..., 9:], estimate[..., 9:])


def test_learns_the_planted_successor(tiny):
    model = tiny.model()
    objective = NextState(model, tiny.facts(), kind="regression", target="samples")
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    for step in range(150):
        optimizer.zero_grad()
        objective(model, tiny.batch(32, seed=step), None).total.backward()
        optimizer.step()
    metrics = objective(model, tiny.batch(64, seed=10_000), None).metrics
    assert metrics["r2"] > 0.6 > metrics["r2_persistence"]


def test_contrast_starts_at_chance_and_learns(tiny):
    model = tiny.model()
    objective = NextState(model, tiny.facts(), n_negatives=9)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 3e-3)
    g = torch.Generator().manual_seed(0)
    before = objective(model, tiny.batch(64, seed=10_000), g).metrics["top1"]
    for step in range(80):
        optimizer.zero_grad()
        objective(model, tiny.batch(32, seed=step), g).total.backward()
        optimizer.step()
    after = objective(model, tiny.batch(64, seed=10_000), g).metrics["top1"]
    assert before < 0.35
    assert after > 0.5


def test_refusals(tiny):
    with pytest.raises(ConfigError, match="causal"):
        NextState(tiny.model(causal=False), tiny.facts())
    model = tiny.model()
    with pytest.raises(ConfigError, match="kind=regression"):
        NextState(model, tiny.facts()).predict(model, tiny.batch())
    short = tiny.batch()
    short = short.with_signal(short.signal[..., :3])
    short.time_mask = short.time_mask[:, :3]
    with pytest.raises(ConfigError, match="two segments"):
        NextState(model, tiny.facts())(model, short, None)
