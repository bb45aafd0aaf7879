"""Dynamic connectomes: planted networks, courses and animals are found, also where cells are missing."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.analysis.dynamic_connectome import affinities, communities, derivatives, factorise
from neurofm.schema.errors import ConfigError, DataError

pytest.importorskip("tensorly")


def planted(seed=0):
    """Two networks of five cells each, active one after the other, in four animals."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(10, 1)
    pair = np.stack([(i < 5) & (j < 5), (i >= 5) & (j >= 5)], axis=1).astype(float)
    course = np.stack([np.linspace(1, 0, 20), np.linspace(0, 1, 20) ** 2], axis=1)
    animal = rng.uniform(0.5, 2, (4, 2))
    return np.einsum("ar,pr,tr->apt", animal, pair, course), pair, course, animal


@pytest.mark.parametrize("missing", [False, True])
def test_planted_networks_are_found(missing):
    tensor, pair, course, animal = planted()
    if missing:
        i, j = np.triu_indices(10, 1)
        for a in range(4):
            tensor[a][(i == a) | (j == a)] = np.nan
    found = factorise(tensor, rank=2)
    assert found.explained > 0.99
    first = int(found.network[0][0, 1] < 0.5)
    for mine, true in zip((first, 1 - first), range(2), strict=True):
        np.testing.assert_allclose(found.network[mine][np.triu_indices(10, 1)], pair[:, true], atol=0.1)
        np.testing.assert_allclose(found.course[mine], course[:, true], atol=0.05)
        np.testing.assert_allclose(found.animal[mine], animal[:, true], rtol=0.1)
    groups = communities(found.network.sum(0), n_groups=2)
    assert len(set(groups[:5])) == len(set(groups[5:])) == 1
    assert groups[0] != groups[9]


def test_affinity_by_a_plain_loop():
    x = np.cumsum(np.random.default_rng(0).standard_normal((60, 3)), axis=0)
    d = derivatives(x, rate_hz=2.0)
    found = affinities(x, rate_hz=2.0, block_s=10.0)
    assert found.shape == (3, 3)
    for p, (i, j) in enumerate(zip(*np.triu_indices(3, 1), strict=True)):
        for b in range(3):
            part = slice(20 * b, 20 * b + 20)
            assert found[p, b] == pytest.approx(np.maximum(d[part, i] * d[part, j], 0).mean())


def test_scale_of_a_trace_does_not_matter():
    x = np.cumsum(np.random.default_rng(0).standard_normal((60, 3)), axis=0)
    np.testing.assert_allclose(affinities(x, rate_hz=2.0), affinities(x * [1, 50, 0.1] + 7, rate_hz=2.0))


def test_bad_input():
    tensor = planted()[0]
    with pytest.raises(DataError, match="none below 0"):
        factorise(-tensor, rank=2)
    tensor[:, 3] = np.nan
    with pytest.raises(DataError, match="in no animal"):
        factorise(tensor, rank=2)
    with pytest.raises(ConfigError, match="block_s"):
        affinities(np.ones((10, 3)), rate_hz=1.0, block_s=9.0)
