"""Scores of spike predictions, against numbers worked out by hand and the published definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import poisson
from sklearn.metrics import r2_score

from neurofm.benchmarks.population.metrics import bits_per_spike, poisson_nll, psth, psth_r2, r2_uniform, r2_weighted
from neurofm.schema.errors import DataError


def test_bits_per_spike_by_hand():
    """Two bins, one unit, counts 0 and 2, rates 1/2 and 3/2; the constant rate is 1, so NLLs differ by 2 ln(3/2)."""
    rates, counts = np.array([[0.5], [1.5]]), np.array([[0.0], [2.0]])
    assert poisson_nll(rates, counts) == pytest.approx(0.5 + 1.5 - 2 * math.log(1.5) + math.log(2))
    assert bits_per_spike(rates, counts) == pytest.approx(math.log(1.5) / math.log(2))


def test_nll_is_that_of_the_distribution():
    rng = np.random.default_rng(0)
    rates, counts = rng.uniform(0.1, 4, (50, 3)), rng.poisson(2, (50, 3))
    assert poisson_nll(rates, counts) == pytest.approx(-poisson.logpmf(counts, rates).sum(), rel=1e-12)


def test_null_model_scores_exactly_nothing():
    counts = np.random.default_rng(0).poisson(0.3, (40, 10, 4)).astype(float)
    constant = np.broadcast_to(counts.mean((0, 1)), counts.shape)
    assert bits_per_spike(constant, counts) == pytest.approx(0.0, abs=1e-12)
    # a null given from elsewhere is used
    assert bits_per_spike(constant, counts, null=constant[0, 0] * 2) > 0.1


def test_zero_rates_are_floored_and_not_infinite():
    counts = np.array([[1.0], [0.0]])
    found = bits_per_spike(np.zeros((2, 1)), counts)
    assert np.isfinite(found)
    assert found < -20


def test_unobserved_counts_do_not_count():
    rng = np.random.default_rng(0)
    rates, counts = rng.uniform(0.1, 1, (30, 2)), rng.poisson(0.5, (30, 2)).astype(float)
    longer = np.concatenate([counts, np.full((5, 2), np.nan)])
    assert bits_per_spike(np.concatenate([rates, np.ones((5, 2))]), longer) == pytest.approx(
        bits_per_spike(rates, counts)
    )


@pytest.mark.parametrize("bad", [-0.1, np.nan, np.inf])
def test_impossible_rates_are_an_error(bad):
    with pytest.raises(DataError, match="1 of 2 rates"):
        bits_per_spike(np.array([[0.5], [bad]]), np.ones((2, 1)))


def test_no_spike_is_an_error():
    with pytest.raises(DataError, match="no spike"):
        bits_per_spike(np.ones((3, 1)), np.zeros((3, 1)))


def test_r2_of_both_kinds():
    rng = np.random.default_rng(0)
    true = rng.standard_normal((100, 2)) * [1, 5]
    said = true + rng.standard_normal((100, 2))
    assert r2_uniform(true, said) == pytest.approx(r2_score(true, said))
    assert r2_weighted(true, said) == pytest.approx(r2_score(true, said, multioutput="variance_weighted"))
    # what is masked is not scored
    true[::2] = np.nan
    assert r2_weighted(true, said) == pytest.approx(r2_score(true[1::2], said[1::2], multioutput="variance_weighted"))


def test_psth():
    trials = [np.full((3, 1), 1.0), np.full((2, 1), 3.0), np.full((3, 1), 5.0)]
    found = psth(trials, ["a", "a", "b"])
    np.testing.assert_array_equal(found["a"], np.full((2, 1), 2.0))
    np.testing.assert_array_equal(found["b"], np.full((3, 1), 5.0))


def test_psth_r2_of_truth_is_one_and_of_the_mean_zero():
    counts = [np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]), np.array([[5.0], [0.0]])]
    conditions = ["a", "a", "b"]
    means = psth(counts, conditions)
    assert psth_r2([means[c] for c in conditions], counts, conditions) == pytest.approx(1.0)
    flat = np.mean([v for m in means.values() for v in m])
    assert psth_r2([np.full((2, 1), flat)] * 3, counts, conditions) == pytest.approx(0.0)
