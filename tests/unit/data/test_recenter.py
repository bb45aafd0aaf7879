"""Alignment equals pyriemann's and numpy's means, is fitted on what is allowed alone, and brings people together."""

import json

import numpy as np
import pytest
from pyriemann.geometry.distance import distance_riemann
from pyriemann.geometry.mean import mean_riemann
from scipy.linalg import inv, sqrtm

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.transforms.base import TRANSFORMS, transform_from_json
from neurofm.data.transforms.recenter import Recenter
from neurofm.schema.errors import ConfigError, DataError

MIX = np.array([[1.0, 0.6, -0.2], [0.0, 2.0, 0.5], [0.3, 0.0, 0.7]])


@pytest.fixture(scope="module")
def people(tmp_path_factory, shard_maker):
    """Two people who mix the same sources; trials of one second, a test recording with the channels in another order."""
    rng = np.random.default_rng(0)
    made = []
    for person, mix in (("1", MIX), ("2", 50 * MIX.T + 3 * np.eye(3))):

        def trials(n, mix=mix):
            return [rng.standard_normal((100, 3)) * [1, 2, 3] @ mix + 40.0 for _ in range(n)]

        starts = [2.0 * i for i in range(12)]
        made.append(shard_maker.Made(f"p{person}_train", trials(12), rate_hz=100.0, starts_s=starts, part="train",
                                     subject=person, names=["X", "Y", "Z"]))  # fmt: skip
        made.append(shard_maker.Made(f"p{person}_test", [t[:, ::-1] * 7 for t in trials(4)], rate_hz=100.0, starts_s=starts[:4],
                                     part="test", subject=person, names=["Z", "Y", "X"]))  # fmt: skip
    return Dataset(shard_maker.make(tmp_path_factory.mktemp("recenter"), made))


def fit(dataset, **choices):
    spans = official_parts(dataset)["train"]
    t = Recenter(**choices)
    t.fit(dataset, spans, allowed=spans)
    return t


def covariances(dataset, recording, shrinkage=0.05):
    made = []
    for i in range(12):
        x = dataset.read_interval(recording, i).astype(np.float64)
        s = np.cov(x.T, bias=True)
        made.append((1 - shrinkage) * s + shrinkage * np.trace(s) / 3 * np.eye(3))
    return np.array(made)


@pytest.mark.parametrize("mean", ["euclidean", "riemannian"])
def test_matrix_is_the_inverse_root_of_the_mean(people, mean):
    t = fit(people, mean=mean)
    s = covariances(people, "p1_train")
    r = s.mean(0) if mean == "euclidean" else mean_riemann(s)
    expected = inv(np.real(sqrtm(r)))
    np.testing.assert_allclose(t._fitted["p1_train"], expected, rtol=1e-5, atol=1e-8)
    # the test recording, never fitted on, takes the matrix of its person in its own order of channels
    np.testing.assert_allclose(t._fitted["p1_test"], expected[::-1, ::-1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("mean", ["euclidean", "riemannian"])
def test_people_come_together_and_the_mean_is_the_identity(people, mean):
    t = fit(people, mean=mean, shrinkage=0.0)
    means = []
    for p in ("1", "2"):
        x = [t.apply(people.read_interval(f"p{p}_train", i), f"p{p}_train").astype(np.float64) for i in range(12)]
        s = np.array([np.cov(v.T, bias=True) for v in x])
        means.append(s.mean(0) if mean == "euclidean" else mean_riemann(s))
        np.testing.assert_allclose(means[-1], np.eye(3), atol=1e-4)
    before = [covariances(people, f"p{p}_train").mean(0) for p in ("1", "2")]
    assert distance_riemann(*means) < 1e-3 < 5 < distance_riemann(*before)


def test_only_the_calibration_is_looked_at(people):
    spans = official_parts(people)
    with pytest.raises(DataError, match="outside the part it may be fitted on"):
        Recenter().fit(people, spans["test"], allowed=spans["train"])
    few = [s for s in spans["train"] if s.recording_id == "p1_train"][:3]
    t = Recenter(shrinkage=0.0)
    t.fit(people, few, allowed=few)
    s = np.array([np.cov(people.read_interval("p1_train", i).astype(np.float64).T, bias=True) for i in range(3)])
    np.testing.assert_allclose(t._fitted["p1_test"][::-1, ::-1], inv(np.real(sqrtm(s.mean(0)))), rtol=1e-5)
    with pytest.raises(DataError, match="never fitted on recording 'p2_train'"):
        t.apply(np.zeros((10, 3), np.float32), "p2_train")


def test_json_gives_it_back(people):
    t = fit(people, mean="riemannian")
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    x = people.read_interval("p2_test", 0)
    np.testing.assert_array_equal(again.apply(x, "p2_test"), t.apply(x, "p2_test"))
    assert TRANSFORMS.build("recenter", mean="euclidean").learns


def test_refusals(people, tmp_path, shard_maker):
    with pytest.raises(ConfigError, match="did you mean 'riemannian'"):
        Recenter(mean="riemanian")
    with pytest.raises(ConfigError, match="shrinkage is 2"):
        Recenter(shrinkage=2)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((300, 3))
    d = Dataset(shard_maker.make(tmp_path, [shard_maker.Made("r", [x - x.mean(1, keepdims=True)], rate_hz=100.0)]))
    spans = whole(d, ["r"])
    with pytest.raises(DataError, match="has no inverse"):
        Recenter(shrinkage=0.0).fit(d, spans, allowed=spans)
    Recenter().fit(d, spans, allowed=spans)
