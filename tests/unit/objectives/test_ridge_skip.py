"""The closed-form path against explicit ridge solutions in numpy, and what it may never see."""

import numpy as np
import pytest
import torch

from neurofm.objectives.ridge_skip import EPSILON, RidgeSkip
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

N, T = 5, 80
FACTS = Facts(rate_hz=1.0, window_s=8.0, max_channels=N, channels=tuple("abcde"))


def batch(x, name="r", ids=None):
    x = torch.as_tensor(x, dtype=torch.float32)[None]
    n = x.shape[1]
    return NeuralBatch(
        signal=x,
        channel_mask=torch.ones(1, n, dtype=torch.bool),
        time_mask=torch.ones(1, x.shape[2], dtype=torch.bool),
        rate_hz=1.0,
        channel_ids=torch.arange(1, n + 1)[None] if ids is None else torch.tensor([ids]),
        recording_id=[name],
    )


def people(n=3, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(N, 3))
    out = []
    for _ in range(n):
        sources = rng.normal(size=(3, T)).cumsum(1) * 0.2
        out.append((mixing + 0.2 * rng.normal(size=(N, 3))) @ sources + 0.3 * rng.normal(size=(N, T)))
    return [np.float32(x).astype(float) for x in out]


def features(x, lags):
    index = np.arange(x.shape[1])
    return np.concatenate([x[:, np.clip(index + lag, 0, x.shape[1] - 1)] for lag in lags]).T


def ridge(f, y, diagonal):
    return np.linalg.solve(f.T @ f + np.diag(diagonal), f.T @ y)


def test_population_and_new_subject_equal_explicit_ridge():
    lags, alpha, gamma = (-1, 0, 1), 0.4, 1.5
    own_penalty = np.repeat([30.0, 7.0, 30.0], N)
    data, new = people(), people(1, seed=9)[0]
    skip = RidgeSkip(
        FACTS, lags=lags, penalty=(50.0,) * 3, penalty_own=(30.0, 7.0, 30.0), penalty_alone=3.0, pooled_share=alpha,
        adaptive_power=gamma, penalty_first=10.0,
    )  # fmt: skip
    skip.solve([batch(x, str(i)) for i, x in enumerate(data)], new_subject=False)
    population = skip.weight.clone()
    skip.solve([batch(new, "new")], new_subject=True)
    for r in range(N):
        keep = np.arange(3 * N) % N != r
        fs = [features(x, lags)[:, keep] for x in data]
        solo = np.mean([ridge(f, x[r], np.full(keep.sum(), 3.0)) for f, x in zip(fs, data, strict=True)], axis=0)
        f, y = np.concatenate(fs), np.concatenate([x[r] for x in data])
        first = alpha * ridge(f, y, np.full(keep.sum(), 10.0)) + (1 - alpha) * solo
        shape = (np.abs(first) + EPSILON) ** -gamma
        shape /= np.exp(np.log(shape).mean())
        w0 = alpha * ridge(f, y, 50.0 * shape) + (1 - alpha) * solo
        g = features(new, lags)[:, keep]
        w = w0 + np.linalg.solve(g.T @ g + np.diag(own_penalty[keep] * shape), g.T @ (new[r] - g @ w0))
        got0 = population[r].T.reshape(-1).double().numpy()[keep]
        got = skip.weight[r].T.reshape(-1).double().numpy()[keep]
        assert np.abs(got0 - w0).max() < 1e-5 * np.abs(w0).max()
        assert np.abs(got - w).max() < 1e-5 * np.abs(w).max()


def test_autoregression_with_other_penalties_on_its_own_past():
    lags = (0, -1)
    data = people()
    skip = RidgeSkip(
        FACTS, lags=lags, horizon=1, exclude_self=False, penalty=(40.0, 80.0), penalty_self=(1.0, 2.0),
        penalty_own=(40.0, 80.0), pooled_share=1.0, adaptive_power=0.0,
    )  # fmt: skip
    skip.solve([batch(x, str(i)) for i, x in enumerate(data)], new_subject=False)
    f = np.concatenate([features(x, lags)[:-1] for x in data])
    for r in range(N):
        y = np.concatenate([x[r, 1:] for x in data])
        diagonal = np.repeat([40.0, 80.0], N)
        diagonal[[r, N + r]] = [1.0, 2.0]
        expected = ridge(f, y, diagonal)
        assert np.abs(skip.weight[r].T.reshape(-1).numpy() - expected).max() < 1e-5 * np.abs(expected).max()
    said = skip(batch(data[0]).signal, torch.ones(1, N, dtype=torch.bool), batch(data[0]))[0].detach().numpy()
    assert np.allclose(said[2], features(data[0], lags) @ skip.weight[2].T.reshape(-1).numpy(), atol=1e-5)


def test_from_scratch_is_the_persons_own_ridge():
    x = people(1)[0]
    skip = RidgeSkip(FACTS, penalty_alone=3.0)
    skip.solve([batch(x)], new_subject=True)
    keep = np.arange(3 * N) % N != 1
    expected = ridge(features(x, (-1, 0, 1))[:, keep], x[1], np.full(keep.sum(), 3.0))
    assert np.abs(skip.weight[1].T.reshape(-1).numpy()[keep] - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_channel_never_sees_itself_nor_hidden_ones():
    skip = RidgeSkip(FACTS)
    torch.nn.init.normal_(skip.weight)
    skip.weight[torch.arange(N), torch.arange(N)] = 0
    one = batch(people(1)[0])
    visible = torch.tensor([[True, True, False, True, True]])
    before = skip(one.signal, visible, one)
    changed = one.signal.clone()
    changed[:, 2] += 100
    assert torch.equal(skip(changed, visible, one), before)
    own = skip(changed, torch.ones(1, N, dtype=torch.bool), one)[:, 2]
    assert torch.equal(own, skip(one.signal, torch.ones(1, N, dtype=torch.bool), one)[:, 2])


def test_channels_are_found_by_name():
    x = people(1)[0]
    skip = RidgeSkip(FACTS)
    torch.nn.init.normal_(skip.weight)
    skip.weight[torch.arange(N), torch.arange(N)] = 0
    order = [3, 0, 4, 1, 2]
    straight = batch(x)
    shuffled = batch(x[order], ids=[o + 1 for o in order])
    seen = torch.ones(1, N, dtype=torch.bool)
    a, b = skip(straight.signal, seen, straight), skip(shuffled.signal, seen, shuffled)
    assert torch.allclose(a[:, order], b, atol=1e-5)


@pytest.mark.parametrize(
    "choices", [{"penalty": (1.0,)}, {"horizon": 1}, {"pooled_share": 2.0}, {"penalty": (0.0, 1.0, 1.0)}]
)
def test_wrong_choices_are_named(choices):
    with pytest.raises(ConfigError, match="skip 'ridge'"):
        RidgeSkip(FACTS, **choices)
