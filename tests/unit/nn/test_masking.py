from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurofm.nn.masking import on_grid, random_channels, random_segments, random_tokens
from neurofm.schema.errors import ConfigError


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


ratios = st.floats(0.01, 0.99)


@settings(max_examples=60, deadline=None)
@given(n_valid=st.lists(st.integers(1, 12), min_size=1, max_size=5), ratio=ratios, seed=st.integers(0, 1000))
def test_channels_hide_the_share_and_respect_padding(n_valid, ratio, seed):
    valid = torch.arange(12) < torch.tensor(n_valid)[:, None]
    hidden = random_channels(valid, ratio=ratio, generator=generator(seed))
    assert not (hidden & ~valid).any()
    for n, row in zip(n_valid, hidden, strict=True):
        expected = min(max(round(ratio * n), 1), n - 1)
        assert abs(int(row.sum()) - expected) <= (1 if ratio * n % 1 == 0.5 else 0)
        assert int(row.sum()) < n
        assert row.any() == (n > 1)


@settings(max_examples=60, deadline=None)
@given(
    n_valid=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    T=st.integers(2, 6),
    ratio=ratios,
    seed=st.integers(0, 1000),
)
def test_tokens_keep_one_hidden_and_one_visible(n_valid, T, ratio, seed):
    valid = torch.arange(5) < torch.tensor(n_valid)[:, None]
    hidden = random_tokens(valid, T, ratio=ratio, generator=generator(seed))
    assert hidden.shape == (len(n_valid), T, 5)
    grid = valid[:, None].expand_as(hidden)
    assert not (hidden & ~grid).any()
    assert hidden.flatten(1).any(1).all()
    assert (grid & ~hidden).flatten(1).any(1).all()


@settings(max_examples=60, deadline=None)
@given(B=st.integers(1, 4), T=st.integers(2, 30), block=st.integers(1, 6), ratio=ratios, seed=st.integers(0, 1000))
def test_segments_come_in_blocks(B, T, block, ratio, seed):
    hidden = random_segments(B, T, ratio=ratio, block=block, generator=generator(seed))
    if block < T:
        assert hidden.any(1).all()
        assert not hidden.all(1).any()
    for row in hidden:
        # the grid of blocks is shared, so the inner runs are whole multiples of the block
        edges = [i for i in range(1, T) if row[i] != row[i - 1]]
        assert all((b - a) % block == 0 for a, b in pairwise(edges))


def test_the_same_seed_gives_the_same_mask_and_another_another():
    valid = torch.ones(8, 16, dtype=torch.bool)
    first, again, other = (random_channels(valid, ratio=0.5, generator=generator(s)) for s in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_every_channel_is_hidden_equally_often():
    hidden = random_channels(torch.ones(4000, 8, dtype=torch.bool), ratio=0.25, generator=generator(0))
    assert (hidden.float().mean(0) - 0.25).abs().max() < 0.04  # 6 standard errors


def test_spread_over_the_grid():
    valid = torch.tensor([[True, True, False]])
    assert on_grid(torch.tensor([[True, False, True]]), valid, n_segments=2).tolist() == [[[True, False, False]] * 2]
    by_segment = on_grid(torch.tensor([[[True], [False]]]), valid, n_segments=2)
    assert by_segment.tolist() == [[[True, True, False], [False, False, False]]]


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0])
def test_an_impossible_share_is_refused(ratio):
    with pytest.raises(ConfigError, match="ratio"):
        random_channels(torch.ones(1, 3, dtype=torch.bool), ratio=ratio)
