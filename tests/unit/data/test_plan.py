"""The plan is pure, loses nothing, repeats nothing, and keeps groups apart."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.data.loading.plan import EMPTY, bucket, plan_epoch, plan_hash, slice_of
from neurofm.schema.errors import ConfigError


def test_pure_and_different_per_epoch():
    make = lambda epoch, seed=1: plan_epoch(100, seed=seed, epoch=epoch, batch_size=10)  # noqa: E731
    np.testing.assert_array_equal(make(3), make(3))
    assert (make(3) != make(4)).any()
    assert (make(3) != make(3, seed=2)).any()
    assert plan_hash(make(3), "x") == plan_hash(make(3), "x") != plan_hash(make(3), "y")


def test_order_is_stable_over_releases():
    assert plan_epoch(8, seed=0, epoch=0, batch_size=4).tolist() == ORDER


ORDER = [[2, 1, 0, 6], [7, 4, 5, 3]]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 200), batch_size=st.integers(1, 16), groups=st.integers(1, 4), seed=st.integers(0, 9),
    last=st.sampled_from(["drop", "keep", "repeat"]), shuffle=st.booleans(),
)  # fmt: skip
def test_every_window_once(n, batch_size, groups, seed, last, shuffle):
    key = np.random.default_rng(seed).integers(0, groups, n)
    plan = plan_epoch(n, seed=seed, epoch=2, batch_size=batch_size, last=last, groups=key, shuffle=shuffle)
    used = plan[plan != EMPTY]
    counts = np.bincount(used, minlength=n)
    for batch in plan:
        assert len(set(key[batch[batch != EMPTY]])) == 1
    if last == "drop":
        assert counts.max(initial=0) <= 1
        assert len(plan) == sum(np.bincount(key) // batch_size)
        assert EMPTY not in plan
    elif last == "keep":
        assert (counts == 1).all()
    else:
        assert (counts >= 1).all()
        assert EMPTY not in plan


@settings(max_examples=40, deadline=None)
@given(per_rank=st.integers(1, 5), world=st.integers(1, 6), n=st.integers(1, 120))
def test_ranks_share_a_batch_without_loss(per_rank, world, n):
    plan = plan_epoch(n, seed=0, epoch=0, batch_size=per_rank * world, last="drop")
    for batch in plan:
        parts = [slice_of(batch, rank=r, world_size=world) for r in range(world)]
        assert {len(p) for p in parts} == {per_rank}
        assert sorted(np.concatenate(parts)) == sorted(batch)


def test_a_rank_without_windows_still_steps():
    batch = plan_epoch(2, seed=0, epoch=0, batch_size=4, last="keep", shuffle=False)[0]
    assert [slice_of(batch, rank=r, world_size=4).tolist() for r in range(4)] == [[0], [1], [0], [0]]


def test_weights_mix():
    weights = np.repeat([0.25, 3.0], 100)
    counts = []
    for epoch in range(4):
        plan = plan_epoch(200, seed=0, epoch=epoch, batch_size=5, weights=weights)
        n = np.bincount(plan.ravel(), minlength=200)
        counts.append(plan.shape)
        assert n[:100].sum() == pytest.approx(25, abs=1)
        assert (n[100:] >= 3).all() or plan.size < 325
        assert n[100:].max() <= 4
    assert set(counts) == {(65, 5)}


def test_buckets_pad_less_than_a_tenth():
    for n in range(1, 251):
        same = [m for m in range(1, 251) if bucket(m) == bucket(n)]
        assert 1 - min(same) / max(same) < 0.1


def test_wrong_choices():
    with pytest.raises(ConfigError, match="last is 'drpo': did you mean 'drop'"):
        plan_epoch(5, seed=0, epoch=0, batch_size=2, last="drpo")
    with pytest.raises(ConfigError, match="batch_size is 0"):
        plan_epoch(5, seed=0, epoch=0, batch_size=0)
