"""Padding is last, zero, and marked as such."""

import numpy as np
import pytest
import torch

from neurofm.data.loading.collate import About, Sample, collate
from neurofm.data.windows import Window
from neurofm.schema.errors import DataError


def sample(t, c, rate_hz=10.0, target=None):
    about = About(rate_hz, np.full((c, 3), 0.1, np.float32), np.arange(1, c + 1), 1, 3)
    return Sample(Window("r", 0.0, t, target), 7, 0.5, np.full((t, c), 2.0, np.float32), about)


def test_padding():
    b = collate([sample(4, 2), sample(3, 5)])
    assert b.signal.shape == (2, 5, 4)
    assert b.channel_mask.tolist() == [[True, True, False, False, False], [True] * 5]
    assert b.time_mask.tolist() == [[True] * 4, [True, True, True, False]]
    real = b.channel_mask[:, :, None] & b.time_mask[:, None, :]
    assert torch.equal(b.signal, 2.0 * real)
    assert b.channel_ids.tolist() == [[1, 2, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert torch.equal(b.positions.isnan().all(-1), ~b.channel_mask)
    assert b.start_s.tolist() == [0.5, 0.5]
    assert b.sample_id.tolist() == [7, 7]
    assert b.target is None


def test_targets():
    assert collate([sample(2, 1, target=3), sample(2, 1, target=0)]).target.tolist() == [3, 0]
    assert collate([sample(2, 1, target=0.5)]).target.dtype == torch.float32
    with pytest.raises(DataError, match="some windows of a batch have a target"):
        collate([sample(2, 1, target=3), sample(2, 1)])


def test_one_rate_per_batch():
    with pytest.raises(DataError, match=r"rates of \[10.0, 12.0\] Hz"):
        collate([sample(2, 1), sample(2, 1, rate_hz=12.0)])
