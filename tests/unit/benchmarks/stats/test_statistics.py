from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from neurofm.benchmarks.stats import intervals as statistics
from neurofm.benchmarks.stats.metrics import accuracy, balanced_accuracy
from neurofm.schema.errors import ConfigError, DataError


def test_sign_flip_equals_enumeration_and_scipy() -> None:
    d = np.array([0.02, 0.01, -0.005, 0.03, 0.012, 0.004, 0.02])
    sums = [abs(sum(s * x for s, x in zip(signs, d, strict=True))) for signs in itertools.product((1, -1), repeat=7)]
    expected = np.mean([s >= abs(d.sum()) - 1e-12 for s in sums])
    assert statistics.sign_flip_p(d) == expected
    reference = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert statistics.sign_flip_p(d) == pytest.approx(reference.pvalue)


def test_sign_flip_extremes_and_ties() -> None:
    assert statistics.sign_flip_p(np.full(7, 0.1)) == 2 / 2**7
    assert statistics.sign_flip_p(np.full(7, 0.1), alternative="greater") == 1 / 2**7
    assert statistics.sign_flip_p(np.full(7, 0.1), alternative="less") == 1.0
    assert statistics.sign_flip_p(np.zeros(5)) == 1.0
    assert statistics.sign_flip_p(np.random.default_rng(0).normal(1.0, size=40)) < 1e-3
    with pytest.raises(ConfigError):
        statistics.sign_flip_p([1.0], alternative="bigger")  # type: ignore[arg-type]


def test_sign_flip_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(1)
    p = np.array([statistics.sign_flip_p(rng.normal(size=7)) for _ in range(800)])
    for alpha in (0.05, 0.1, 0.5):
        assert np.mean(p <= alpha) == pytest.approx(alpha, abs=0.05)


def test_t_interval_equals_scipy_and_one_unit_says_nothing() -> None:
    x = np.array([0.1, 0.3, 0.2, 0.5])
    low, high = stats.t.interval(0.95, 3, loc=x.mean(), scale=stats.sem(x))
    assert statistics.t_interval(x)[:4] == pytest.approx((x.mean(), low, high, 4))
    assert statistics.t_interval([0.3]).low == -np.inf


def test_paired_interval_is_that_of_the_differences() -> None:
    a, b = np.array([0.6, 0.5, 0.7, 0.65]), np.array([0.5, 0.45, 0.6, 0.5])
    result = statistics.paired_interval(a, b)
    assert (result.low, result.high) == pytest.approx(statistics.t_interval(a - b)[1:3])
    assert result.excludes_zero
    assert result.p == 2 / 16
    assert not statistics.paired_interval(a, a[::-1]).excludes_zero
    with pytest.raises(DataError, match="same subjects"):
        statistics.paired_interval(a, b[:3])


def test_bootstrap_of_a_mean_approaches_the_normal_interval() -> None:
    x = np.random.default_rng(2).normal(size=400)
    result = statistics.bootstrap_mean(x, n_draws=4000)
    half = 1.96 * x.std() / 20
    assert (result.low, result.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.012)
    assert result == statistics.bootstrap_mean(x, n_draws=4000)


def test_stratified_draws_keep_every_class_count() -> None:
    strata = np.array([0] * 5 + [1] * 30)
    counts = set()

    def score(index: np.ndarray) -> float:
        counts.add((int((strata[index] == 0).sum()), len(index)))
        return 0.0

    statistics.bootstrap(35, score, strata=strata, n_draws=50)
    assert counts == {(5, 35)}


@pytest.mark.parametrize(("n", "method", "least"), [(7, "t", 0.93), (60, "bootstrap", 0.91)])
def test_stated_coverage_is_reached(n: int, method: str, least: float) -> None:
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(400):
        x = rng.normal(0.3, 1.0, size=n)
        interval = statistics.t_interval(x) if method == "t" else statistics.bootstrap_mean(x, n_draws=300)
        covered.append(interval.low <= 0.3 <= interval.high)
    assert least <= np.mean(covered) <= 0.99


def test_bootstrap_of_seven_is_too_narrow_as_documented() -> None:
    rng = np.random.default_rng(4)
    covered = [
        (lambda i: i.low <= 0 <= i.high)(statistics.bootstrap_mean(rng.normal(size=7), n_draws=300)) for _ in range(400)
    ]
    assert 0.8 < np.mean(covered) < 0.93


def test_binomial_equals_scipy_and_the_published_control_limits() -> None:
    assert statistics.binomial_p(47, 74, chance=0.25) == pytest.approx(stats.binom.sf(46, 74, 0.25))
    # SelfRegulationSCP2 (180 trials) and EyesOpenShut (42): the smallest scores that flag a leak
    assert statistics.binomial_p(112, 180, chance=0.5) < 0.001 <= statistics.binomial_p(110, 180, chance=0.5)
    assert statistics.binomial_p(32, 42, chance=0.5) < 0.001 <= statistics.binomial_p(31, 42, chance=0.5)
    low, high = stats.beta.ppf(0.025, 47, 28), stats.beta.ppf(0.975, 48, 27)
    assert statistics.binomial_interval(47, 74)[1:3] == pytest.approx((low, high))
    with pytest.raises(DataError):
        statistics.binomial_p(5, 4, chance=0.5)


def test_permutation_chance_of_unrelated_labels_is_the_closed_form() -> None:
    rng = np.random.default_rng(5)
    true, said = rng.permutation(np.repeat(np.arange(4), 25)), rng.permutation(np.repeat(np.arange(4), 25))
    chance = statistics.permutation_chance(true, said, accuracy, n_draws=2000)
    # Number of fixed points of a random matching: mean n/4, variance close to n · 1/4 · 3/4
    assert chance.mean == pytest.approx(0.25, abs=0.005)
    assert chance.high - chance.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 * 0.75 / 99), abs=0.03)
    assert chance.p > 0.01
    assert statistics.permutation_chance(true, true, balanced_accuracy, n_draws=199).p == 1 / 200


def test_permutation_p_is_valid_over_many_null_data_sets() -> None:
    rng = np.random.default_rng(6)
    p = [statistics.permutation_chance(rng.integers(0, 2, 20), rng.integers(0, 2, 20), accuracy, n_draws=99, seed=k).p
         for k in range(120)]  # fmt: skip
    assert np.mean(np.array(p) <= 0.05) <= 0.1


def test_bootstrap_by_class_is_the_bootstrap_of_trials() -> None:
    rng = np.random.default_rng(3)
    true = np.repeat([0, 1, 2], [40, 25, 9])
    said = np.where(rng.random(74) < 0.6, true, (true + 1) % 3)
    slow = statistics.bootstrap(74, lambda i: balanced_accuracy(true[i], said[i]), strata=true, n_draws=4000)
    n = np.bincount(true)
    fast = statistics.bootstrap_by_class(np.bincount(true[said == true], minlength=3), n)
    assert fast.value == pytest.approx(slow.value, abs=1e-12)
    assert fast[1:3] == pytest.approx(slow[1:3], abs=0.012)
    with pytest.raises(DataError, match="not possible"):
        statistics.bootstrap_by_class([3], [2])
