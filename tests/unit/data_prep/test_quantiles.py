"""Streaming quantiles against exact ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.stages.quantiles import Quantiles

N = 400_000
rng = np.random.default_rng(0)
SIGNALS = {
    "normal": rng.standard_normal(N),
    "offset": 4000 + 10 * rng.standard_normal(N),
    "far offset": 1e7 + rng.standard_normal(N),
    "heavy tails": rng.standard_t(2, N),
    "skewed": np.exp(2 * rng.standard_normal(N)),
    "drift": np.linspace(0, 1e4, N) + rng.standard_normal(N),
    "sawtooth": np.arange(N) % 977 + rng.standard_normal(N),
    "sine": np.sin(np.arange(N) / 999.0),
    "artefact first": np.concatenate([1e6 * rng.standard_normal(N // 100), rng.standard_normal(N - N // 100)]),
    "artefact last": np.concatenate([rng.standard_normal(N - N // 100), 1e6 * rng.standard_normal(N // 100)]),
    "gain changes": np.concatenate([rng.standard_normal(N // 2), 20 * rng.standard_normal(N - N // 2)]),
    "flat first": np.concatenate([np.full(N // 5, 4000.0), rng.standard_normal(N - N // 5)]),
    "sorted": np.sort(rng.standard_normal(N)),
    "falling": np.sort(rng.standard_normal(N))[::-1],
}


@pytest.mark.parametrize("name", SIGNALS)
def test_error_is_under_a_thousandth_of_the_interquartile_range(name):
    x = np.stack([SIGNALS[name], -SIGNALS[name]], axis=1)
    q = Quantiles(2)
    for block in np.array_split(x, 37):
        q.add(block)
    wanted = (
        [0.05, 0.25, 0.5, 0.75, 0.95] if name not in ("heavy tails", "skewed", "gain changes") else [0.25, 0.5, 0.75]
    )
    exact = np.quantile(x, wanted, axis=0)
    iqr = np.subtract(*np.quantile(x, [0.75, 0.25], axis=0))
    assert (np.abs(q.at(wanted) - exact) / iqr).max() < 1e-3


def test_in_a_hole_of_the_distribution_the_rank_is_still_right():
    x = np.concatenate([rng.standard_normal(N // 2), 1000 * rng.standard_normal(N - N // 2)])[:, None]
    q = Quantiles(1)
    q.add(x)
    for wanted in (0.25, 0.5, 0.75):
        assert abs((x < q.at(wanted)).mean() - wanted) < 1e-4


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 5000), cuts=st.lists(st.integers(0, 5000), max_size=8), bins=st.sampled_from([8, 256, 8192]))
def test_blocks_do_not_matter_and_few_samples_are_exact(n, cuts, bins):
    x = np.random.default_rng(n).standard_normal((n, 2))
    q, whole = Quantiles(2, bins), Quantiles(2, bins)
    for block in np.split(x, sorted(cuts)):
        q.add(block)
    whole.add(x)
    wanted = [0.0, 0.25, 0.5, 0.9]
    assert np.array_equal(q.at(wanted), whole.at(wanted))
    assert q.n == n
    if n < 2 * bins:
        assert np.allclose(q.at(wanted), np.quantile(x, wanted, axis=0), atol=1e-12)


def test_memory_grows_with_the_logarithm():
    q = Quantiles(1, 64)
    for _ in range(1000):
        q.add(np.random.default_rng(0).standard_normal((640, 1)))
    assert sum(v is not None for v in q._levels) <= 14


def test_digital_signals_and_nothing():
    x = np.random.default_rng(0).integers(-20, 21, (100_000, 1)) * 0.5
    q = Quantiles(1)
    q.add(x)
    assert np.allclose(q.at([0.2, 0.5, 0.8]), np.quantile(x, [0.2, 0.5, 0.8], axis=0))
    assert np.isnan(Quantiles(2).at(0.5)).all()
