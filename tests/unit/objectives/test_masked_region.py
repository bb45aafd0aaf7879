import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofm.objectives.keyed import keyed_uniform
from neurofm.objectives.masked_region import MaskedRegion


def test_keyed_uniform_is_splitmix64():
    def loop(key, i):
        m = (1 << 64) - 1

        def mix(x):
            x = (x + 0x9E3779B97F4A7C15) & m
            x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & m
            x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & m
            return x ^ (x >> 31)

        return (mix((mix(key & m) + i * 0x9E3779B97F4A7C15) & m) >> 11) * 2.0**-53

    keys = [0, 1, 2**62, -5]
    got = keyed_uniform(torch.tensor(keys), 7)
    assert got.tolist() == [[loop(k, i) for i in range(7)] for k in keys]
    many = keyed_uniform(torch.arange(2000), 20)
    assert abs(many.mean() - 0.5) < 5 / (12 * 40_000) ** 0.5
    assert abs(torch.corrcoef(many.T).fill_diagonal_(0)).max() < 0.12


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n_valid=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    seed=st.integers(0, 99),
    count=st.sampled_from([None, (1, 1), (2, 4), (9, 9)]),
)
def test_hidden_sets(tiny, n_valid, seed, count):
    objective = MaskedRegion(tiny.model(), tiny.facts(), hide_fraction=(0.3, 0.6), hide_count=count)
    batch = tiny.batch(len(n_valid), n_valid=n_valid)
    hidden = objective.draw(batch, torch.Generator().manual_seed(seed))
    assert not (hidden & ~batch.channel_mask).any()
    for k, n in zip(n_valid, hidden.sum(1).tolist(), strict=True):
        low, high = count or (round(0.3 * k), round(0.6 * k))
        low, high = (min(max(x, 1), k - 1) for x in (low, high))
        assert low <= n <= high


def test_a_window_keeps_its_mask_in_any_batch(tiny):
    objective = MaskedRegion(tiny.model(), tiny.facts())
    batch = tiny.batch(6)
    whole = objective.draw(batch, torch.Generator().manual_seed(3))
    part = tiny.batch(6, n_channels=8)
    for name in ("signal", "channel_mask", "channel_ids", "time_mask", "sample_id"):
        setattr(part, name, getattr(part, name)[[4, 1]])
    again = objective.draw(part, torch.Generator().manual_seed(3))
    assert torch.equal(again[:, :5], whole[[4, 1]])
    other = objective.draw(batch, torch.Generator().manual_seed(4))
    assert not torch.equal(other, whole)
    assert whole.unique(dim=0).shape[0] > 1


def test_loss_is_the_loop_over_hidden_valid_channels(tiny):
    model = tiny.model().double()
    batch = tiny.batch(3, n_valid=[5, 4, 2], dtype=torch.float64)
    objective = MaskedRegion(model, tiny.facts()).double()
    loss = objective(model, batch, torch.Generator().manual_seed(1))
    hidden = objective.draw(batch, torch.Generator().manual_seed(1))
    estimate = objective.predict(model, batch, hidden)
    pairs = [
        (estimate[b, c, t].item(), batch.signal[b, c, t].item())
        for b in range(3) for c in range(5) for t in range(12) if hidden[b, c]
    ]  # fmt: skip
    residual = sum((e - y) ** 2 for e, y in pairs)
    mean = sum(y for _, y in pairs) / len(pairs)
    assert loss.total.item() == pytest.approx(residual / len(pairs), rel=1e-10)
    assert loss.metrics["r2"].item() == pytest.approx(1 - residual / sum((y - mean) ** 2 for _, y in pairs), rel=1e-5)


def test_hidden_values_are_never_seen(tiny):
    model = tiny.model()
    objective = MaskedRegion(model, tiny.facts(), skip={"name": "ridge"})
    torch.nn.init.normal_(objective.skip.weight)
    batch = tiny.batch(4)
    hidden = torch.zeros(4, 5, dtype=torch.bool)
    hidden[:, 2] = True
    first = objective.predict(model, batch, hidden)
    changed = batch.signal.clone()
    changed[:, 2] = torch.randn(4, 12)
    assert torch.equal(first, objective.predict(model, batch.with_signal(changed), hidden))
    visible = batch.signal.clone()
    visible[:, 1] += 1
    assert not torch.allclose(first[:, 2], objective.predict(model, batch.with_signal(visible), hidden)[:, 2])


def test_predict_without_a_mask_takes_turns(tiny):
    model = tiny.model()
    objective = MaskedRegion(model, tiny.facts(), predict_groups=2)
    batch = tiny.batch(3)
    even = torch.tensor([True, False, True, False, True]).expand(3, -1)
    want = torch.where(even[..., None], objective.predict(model, batch, even), objective.predict(model, batch, ~even))
    assert torch.equal(objective.predict(model, batch), want)


def test_learns_the_planted_mixture(tiny):
    model = tiny.model(causal=False)
    objective = MaskedRegion(model, tiny.facts(), hide_count=[1, 2])
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], 4e-3)
    g = torch.Generator().manual_seed(0)
    start = objective(model, tiny.batch(64, seed=10_000), torch.Generator().manual_seed(9)).metrics["r2"]
    for step in range(250):
        optimizer.zero_grad()
        objective(model, tiny.batch(32, seed=step), g).total.backward()
        optimizer.step()
    end = objective(model, tiny.batch(64, seed=10_000), torch.Generator().manual_seed(9)).metrics["r2"]
    assert start < 0.1
    assert end > 0.5


def test_single_channels_cost_nothing(tiny):
    model = tiny.model()
    objective = MaskedRegion(model, tiny.facts())
    loss = objective(model, tiny.batch(2, n_valid=[1, 1]), torch.Generator().manual_seed(0))
    assert loss.total == 0
    assert loss.metrics["n_hidden"] == 0
