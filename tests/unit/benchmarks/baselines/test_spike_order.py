"""The next unit from rates and order, against counting all the lists that can be."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neurofm.benchmarks.baselines.spike_order import OrderedUnigram
from neurofm.schema.errors import DataError


def test_it_is_the_share_of_all_lists():
    """Three units, two steps, no unit twice in a step: every pattern and its chance, written out."""
    share, n_steps = np.array([0.2, 0.5, 0.3]), 2
    model = OrderedUnigram(n_units=3, n_steps=n_steps)
    model.share, model.again, model.rate = share, np.zeros(3), share
    followed: dict[tuple[int, int], np.ndarray] = {}
    for pattern in product([False, True], repeat=3 * n_steps):
        fired = np.array(pattern).reshape(n_steps, 3)
        chance = np.prod(np.where(fired, share, 1 - share))
        tokens = [(s, u) for s in range(n_steps) for u in range(3) if fired[s, u]]
        for (s, u), (_, after) in zip([(0, -1), *tokens], tokens, strict=False):
            followed.setdefault((u, s), np.zeros(3))[after] += chance
    for (u, s), weight in followed.items():
        said = model.predict(np.array([u]), np.array([s]))[0]
        np.testing.assert_allclose(said, weight / weight.sum(), rtol=1e-12)


def test_order_is_worth_what_a_simulation_says():
    rng = np.random.default_rng(0)
    share = rng.uniform(0.05, 0.3, 6)
    rows = [[(u, s) for s in range(5) for u in range(6) if rng.random() < share[u]] for _ in range(3000)]
    width = max(map(len, rows))
    unit, step, mask = (np.zeros((len(rows), width), int) for _ in range(3))
    for i, row in enumerate(rows):
        for k, (u, s) in enumerate(row):
            unit[i, k], step[i, k], mask[i, k] = u, s, 1
    model = OrderedUnigram(n_units=6, n_steps=5).fit(unit[:2000], step[:2000], mask[:2000])
    np.testing.assert_allclose(model.share, share, atol=0.01)
    ordered, unigram = model.nats(unit[2000:], step[2000:], mask[2000:])
    p = np.bincount(unit[mask > 0], minlength=6) / mask.sum()
    assert unigram == pytest.approx(-(p * np.log(p)).sum(), abs=0.02)
    assert ordered < unigram - 0.05


def test_windows_without_a_spike_are_refused():
    with pytest.raises(DataError, match="with a spike"):
        OrderedUnigram(n_units=2, n_steps=2).fit(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros((1, 1)))
