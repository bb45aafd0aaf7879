"""Scores of link maps by hand and by scikit-learn; baselines against definitions."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from neurofm.benchmarks.baselines.links import cross_correlation, granger, lasso, var_coefficients
from neurofm.benchmarks.links import link_scores
from neurofm.schema.errors import DataError


def test_scores_by_hand():
    truth = np.zeros((3, 3), bool)
    truth[0, 1] = truth[2, 1] = True
    score = np.array([[9.0, 0.8, 0.1], [0.2, 9.0, 0.5], [0.3, 0.5, 9.0]])
    found = link_scores(score, truth)
    assert found.directed == pytest.approx(roc_auc_score([1, 0, 0, 0, 0, 1], [0.8, 0.1, 0.2, 0.5, 0.3, 0.5]))
    assert found.linked == 1.0
    assert found.direction == 0.75  # one right, one tie


def test_scores_of_random_maps_are_chance_and_the_truth_is_perfect():
    rng = np.random.default_rng(0)
    truth = np.triu(rng.random((20, 20)) < 0.3, 1)
    assert link_scores(truth * 1.0, truth) == (1.0, 1.0, 1.0)
    assert link_scores(-(truth * 1.0), truth).directed == 0.0
    noise = np.mean([link_scores(rng.random((20, 20)), truth) for _ in range(200)], axis=0)
    assert np.abs(noise - 0.5).max() < 0.02


def test_what_cannot_be_scored_is_refused():
    both = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    with pytest.raises(DataError, match="both directions"):
        link_scores(np.ones((3, 3)), both)
    with pytest.raises(DataError, match="all pairs or none"):
        link_scores(np.ones((3, 3)), np.zeros((3, 3), bool))
    with pytest.raises(DataError, match="not finite"):
        link_scores(np.full((3, 3), np.nan), np.triu(both))


@pytest.fixture
def runs():
    """Channel 0 acts on channel 1 three samples later; 2 is alone; two recordings."""
    rng = np.random.default_rng(1)
    out = []
    for _ in range(2):
        x = rng.standard_normal((4000, 3))
        x[3:, 1] += 0.5 * x[:-3, 0]
        out.append(x * [1, 5, 100] + 7)
    return out


@pytest.mark.parametrize("method", [granger, var_coefficients, lasso])
def test_baselines_find_the_link_in_any_unit(method, runs):
    score = method(runs, order=4)
    np.fill_diagonal(score, 0)
    assert np.unravel_index(score.argmax(), (3, 3)) == (0, 1)
    assert np.sort(score.ravel())[-2] < 0.2 * score.max()


def test_correlation_finds_the_link_at_its_lag_only(runs):
    assert cross_correlation(runs, max_lag=3)[0, 1] == pytest.approx(0.5 / np.sqrt(1.25), abs=0.03)
    assert cross_correlation(runs, max_lag=2)[0, 1] < 0.05


def test_granger_equals_two_fits(runs):
    order = 2
    z = [(r - r.mean(0)) / r.std(0) for r in runs]
    past = np.concatenate([np.concatenate([r[k : len(r) - order + k] for k in range(order)], axis=1) for r in z])
    now = np.concatenate([r[order:] for r in z])

    def residual(columns):
        fit = np.linalg.lstsq(past[:, columns], now, rcond=None)[0]
        return ((now - past[:, columns] @ fit) ** 2).sum(0)

    full = residual(np.arange(6))
    expected = np.stack([np.log(residual([c for c in range(6) if c % 3 != i]) / full) for i in range(3)])
    np.testing.assert_allclose(granger(runs, order=order), expected, rtol=1e-5, atol=1e-9)
