"""Representational geometry: closed forms, invariances, and what each metric must not see."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from neurofm.analysis.geometry import compare_rdms, geotopology, noise_ceiling, rdm, rsa, upper
from neurofm.analysis.shape_distance import bures, moments, shape_distance
from neurofm.schema.errors import ConfigError, DataError


def network(seed, n_conditions=8, n_units=5):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((n_conditions, n_units, n_units))
    return rng.standard_normal((n_conditions, n_units)), root @ root.transpose(0, 2, 1) / n_units + 0.1 * np.eye(
        n_units
    )


def turned(net, seed=0):
    q = np.linalg.qr(np.random.default_rng(seed).standard_normal((net[0].shape[1],) * 2))[0]
    return net[0] @ q, q.T @ net[1] @ q


def test_bures_of_diagonal_matrices():
    assert bures(np.diag([1.0, 4.0]), np.diag([9.0, 16.0])) == pytest.approx(8.0)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_rotation_makes_no_distance(alpha):
    net = network(0)
    assert shape_distance(net, turned(net), alpha=alpha) < 1e-4
    # a silent unit more is no difference either
    wider = (np.pad(net[0], ((0, 0), (0, 1))), np.pad(net[1], ((0, 0), (0, 1), (0, 1))))
    assert shape_distance(wider, turned(net), alpha=alpha) < 1e-3


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_distance_is_a_metric(alpha):
    a, b, c = (network(s, n_units=3) for s in range(3))
    ab, ba = shape_distance(a, b, alpha=alpha), shape_distance(b, a, alpha=alpha)
    assert ab == pytest.approx(ba, rel=1e-6)
    assert ab > 0.1
    assert ab <= shape_distance(a, c, alpha=alpha) + shape_distance(c, b, alpha=alpha) + 1e-6


def test_what_alpha_sees():
    means, covariances = network(0)
    other = network(1)
    assert shape_distance((means, covariances), (means, other[1]), alpha=2.0) < 1e-6
    assert shape_distance((means, covariances), (other[0], covariances), alpha=0.0) < 1e-4
    # equal covariances I: the distance is that of centred means, 2-Wasserstein
    one = np.broadcast_to(np.eye(5), (8, 5, 5))
    a, b = means - means.mean(0), other[0] - other[0].mean(0)
    expected = (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a.T @ b, compute_uv=False).sum()
    assert shape_distance((means, one), (other[0], one)) == pytest.approx(np.sqrt(expected / 8), rel=1e-6)


def test_moments():
    x = np.random.default_rng(0).standard_normal((3, 50, 4))
    means, covariances = moments(x)
    np.testing.assert_allclose(covariances[1], np.cov(x[1].T), atol=2e-6)
    np.testing.assert_allclose(means[2], x[2].mean(0))
    with pytest.raises(DataError, match="two repeats"):
        moments(x[:, :1])


def test_rdm_and_rsa_against_scipy():
    x, y = np.random.default_rng(0).standard_normal((2, 9, 20))
    np.testing.assert_allclose(rdm(x), squareform(pdist(x, "correlation")), atol=1e-12)
    np.testing.assert_allclose(rdm(x, metric="euclidean"), squareform(pdist(x, "sqeuclidean")) / 20, atol=1e-12)
    assert compare_rdms(rdm(x), rdm(y)) == pytest.approx(spearmanr(upper(rdm(x)), upper(rdm(y))).statistic)


def test_crossvalidated_distance_has_no_bias():
    rng = np.random.default_rng(0)
    found = np.mean([upper(rdm(rng.standard_normal((2, 6, 30)), metric="crossvalidated")) for _ in range(300)])
    plain = np.mean([upper(rdm(rng.standard_normal((6, 30)), metric="euclidean")) for _ in range(20)])
    assert abs(found) < 0.02
    assert plain > 1.5


def test_permutation_p():
    x = np.random.default_rng(0).standard_normal((12, 30))
    near = x + 0.3 * np.random.default_rng(1).standard_normal(x.shape)
    agreement, p = rsa(rdm(x), rdm(near), n_permutations=199)
    assert agreement > 0.7
    assert p == pytest.approx(1 / 200)
    many = [
        rsa(rdm(x), rdm(np.random.default_rng(s).standard_normal(x.shape)), n_permutations=99)[1] for s in range(2, 22)
    ]
    assert np.mean(np.array(many) < 0.1) < 0.35


def test_geotopology():
    m = squareform(np.arange(1.0, 11.0))
    np.testing.assert_array_equal(upper(geotopology(m, low=0, high=0)) > 0, np.arange(1, 11) > 1)
    graded = upper(geotopology(m, low=0.0, high=1.0))
    np.testing.assert_allclose(graded, np.arange(10) / 9)
    # distances among the far ones are forgotten, ranks among the near ones are not
    far = m.copy()
    far[m >= 8] *= 5
    np.testing.assert_allclose(geotopology(m, low=0.1, high=0.5), geotopology(far, low=0.1, high=0.5))
    with pytest.raises(ConfigError, match="low <= high"):
        geotopology(m, low=0.9, high=0.1)


def test_noise_ceiling():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((10, 40))
    people = [rdm(truth + 0.8 * rng.standard_normal(truth.shape)) for _ in range(5)]
    low, high = noise_ceiling(people)
    model = np.mean([compare_rdms(rdm(truth), p) for p in people])
    assert low < high
    assert low - 0.1 < model < high + 0.05


def test_bad_input():
    with pytest.raises(DataError, match="same response"):
        rdm(np.ones((4, 3)))
    with pytest.raises(ConfigError, match="euclidean"):
        rdm(np.ones((4, 3)), metric="euclid")
    with pytest.raises(DataError, match="same ones"):
        shape_distance(network(0), network(1, n_conditions=7))
