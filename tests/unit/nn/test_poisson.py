"""Poisson loss and bits per spike against values computed by hand."""

import math

import torch

from neurofm.nn.poisson import bits_per_spike, poisson_nll
from neurofm.nn.ragged import pad_rows, row_of


def test_loss_by_hand():
    log_rate = torch.tensor([0.0, math.log(2.0), math.log(0.5)], dtype=torch.float64)
    count = torch.tensor([1.0, 3.0, 0.0]).double()
    # 1 − 0; 2 − 3 ln 2; 0.5 − 0; with ln k!: + 0, + ln 6, + 0
    want = torch.tensor([1.0, 2 - 3 * math.log(2), 0.5], dtype=torch.float64)
    torch.testing.assert_close(poisson_nll(log_rate, count), want, rtol=1e-12, atol=0)
    full = want + torch.tensor([0.0, math.log(6), 0.0], dtype=torch.float64)
    torch.testing.assert_close(poisson_nll(log_rate, count, full=True), full, rtol=1e-12, atol=1e-12)


def test_against_scipy():
    from scipy.stats import poisson

    rate, count = torch.rand(50).double() * 5 + 0.1, torch.randint(0, 9, (50,)).double()
    want = -torch.from_numpy(poisson.logpmf(count.numpy(), rate.numpy()))
    torch.testing.assert_close(poisson_nll(rate.log(), count, full=True), want, rtol=1e-10, atol=1e-12)


def test_bits_per_spike_by_hand():
    count = torch.tensor([0.0, 2.0])
    null, everywhere = torch.tensor([1.0, 1.0]), torch.ones(2, dtype=torch.bool)
    # model 0.5 and 2: NLL 0.5 + (2 − 2 ln 2); null: 1 + 1; two spikes
    got = bits_per_spike(torch.tensor([0.5, 2.0]).log(), count, null, everywhere)
    assert abs(float(got) - (2 - 2.5 + 2 * math.log(2)) / (2 * math.log(2))) < 1e-6
    assert float(bits_per_spike(null.log(), count, null, everywhere)) == 0
    # a rate of zero where there is a spike is a large loss, not an infinite one
    assert math.isfinite(float(bits_per_spike(torch.tensor([-torch.inf, -torch.inf]), count, null, everywhere)))


def test_rows_are_laid_out():
    offsets = torch.tensor([0, 2, 2, 5])
    row = row_of(offsets)
    assert row.tolist() == [0, 0, 2, 2, 2]
    padded, mask = pad_rows(torch.arange(5) + 1, row, 3)
    assert padded.tolist() == [[1, 2, 0], [0, 0, 0], [3, 4, 5]]
    assert mask.sum(1).tolist() == [2, 0, 3]
    empty, nothing = pad_rows(torch.zeros(0), torch.zeros(0, dtype=torch.long), 2)
    assert empty.shape == nothing.shape == (2, 1)
