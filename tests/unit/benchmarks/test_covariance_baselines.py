"""CSP and tangent space against pyriemann and MNE, and on classes that differ in one source's power alone."""

import numpy as np
import pytest

from neurofm.benchmarks.baselines.covariance import (
    SpatialPatterns,
    TangentSpace,
    covariances,
    geometric_mean,
    tangent_vectors,
)
from neurofm.schema.errors import DataError, NeurofmError


def some(n=80, seed=0, gain=2.0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    rhythm = np.sin(2 * np.pi * 12 * np.arange(256) / 128 + rng.uniform(0, 6, (n, 1)))
    x = rng.standard_normal((n, 6, 256))
    x += rng.standard_normal(6)[:, None] * ((1 + (gain - 1) * y)[:, None] * rhythm)[:, None]
    return x, y


@pytest.mark.parametrize("kind", [SpatialPatterns, TangentSpace])
def test_finds_the_source_whose_power_differs(kind):
    x, y = some()
    assert (kind(rate_hz=128.0).fit(x[:40], y[:40]).predict(x[40:]) == y[40:]).mean() > 0.9
    blind, y = some(gain=1.0)
    assert 0.2 < (kind(rate_hz=128.0).fit(blind[:40], y[:40]).predict(blind[40:]) == y[40:]).mean() < 0.8


def test_geometry_is_that_of_pyriemann():
    means = pytest.importorskip("pyriemann.utils.mean")
    tangent = pytest.importorskip("pyriemann.utils.tangentspace")
    each = covariances(some()[0], rate_hz=128.0)
    mean = geometric_mean(each)
    np.testing.assert_allclose(mean, means.mean_riemann(each, tol=1e-10), rtol=1e-6)
    np.testing.assert_allclose(tangent_vectors(each, mean), tangent.tangent_space(each, mean), rtol=1e-6, atol=1e-9)


def test_covariances_are_those_of_pyriemann():
    estimation = pytest.importorskip("pyriemann.estimation")
    from scipy.signal import butter, sosfiltfilt

    x = some(4)[0]
    passed = sosfiltfilt(butter(4, [8, 30], "bandpass", fs=128, output="sos"), x, axis=-1)
    np.testing.assert_allclose(
        covariances(x, rate_hz=128.0), estimation.Covariances("oas").transform(passed), rtol=1e-8
    )


def test_filters_diagonalise_both_classes():
    x, y = some()
    csp = SpatialPatterns(rate_hz=128.0).fit(x, y)
    each = covariances(x, rate_hz=128.0)
    for c in (0, 1):
        turned = csp.filters.T @ each[y == c].mean(0) @ csp.filters
        assert np.abs(turned - np.diag(np.diag(turned))).max() < 1e-8


def test_refuses():
    x, _ = some(4)
    with pytest.raises(DataError, match="2 classes, the training trials have 1"):
        SpatialPatterns(rate_hz=128.0).fit(x, np.zeros(4))
    with pytest.raises(NeurofmError, match="before fit"):
        TangentSpace(rate_hz=128.0).predict(x)
    with pytest.raises(DataError, match="shape"):
        covariances(x[0], rate_hz=128.0)
