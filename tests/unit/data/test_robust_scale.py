"""Quartiles are numpy's, artefacts do not pull them, only allowed spans are looked at, JSON gives the transform back."""

import json

import numpy as np
import pytest
from sklearn.preprocessing import RobustScaler

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.splits.spans import Span
from neurofm.data.transforms import robust_scale
from neurofm.data.transforms.base import transform_from_json
from neurofm.data.transforms.robust_scale import RobustScale
from neurofm.schema.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def meg(tmp_path_factory, shard_maker):
    """Two runs of a person, sensors of different units on offsets, bursts of 200 times the amplitude, one sensor flat."""
    rng = np.random.default_rng(0)

    def run():
        x = rng.standard_normal((6000, 3)) * [1.0, 300.0, 0.0] + [4000.0, -2.0, 17.0]
        x[100:112, :2] *= 200
        return x

    made = [
        shard_maker.Made("m_1", [run()], rate_hz=100.0, part="train", names=["A", "B", "C"]),
        shard_maker.Made("m_2", [run()[:, ::-1]], rate_hz=100.0, part="test", names=["C", "B", "A"]),
    ]
    return Dataset(shard_maker.make(tmp_path_factory.mktemp("meg"), made, segment_s=30.0))


def fitted(dataset, spans, **choices):
    t = RobustScale(**choices)
    t.fit(dataset, spans, allowed=spans)
    return t


def test_it_is_scikit_learns_within_the_clamp(meg):
    span = Span("m_1", 0.0, 40.0)
    t = fitted(meg, [span])
    theirs = RobustScaler().fit(meg.read("m_1", 0.0, 4000).astype(np.float64))
    x = meg.read("m_1", 0.0, 4000)
    z = t.apply(x, "m_1")
    assert z.dtype == np.float32
    np.testing.assert_allclose(z[:, :2], np.clip(theirs.transform(x), -20, 20)[:, :2], rtol=1e-5, atol=1e-3)
    assert np.abs(z).max() == 20, "a burst is clamped"
    assert np.abs(z[:, 2]).max() == 0, "a flat sensor becomes zeros, not magnified rounding"
    calm = slice(200, 4000)
    np.testing.assert_allclose(t.inverse(z, "m_1")[calm], x[calm], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(
        fitted(meg, [span], clamp=None).apply(x, "m_1")[:, :2], theirs.transform(x)[:, :2], rtol=1e-5, atol=1e-3
    )


def test_spans_outside_the_part_are_refused(meg):
    with pytest.raises(DataError, match=r"transform 'robust_scale': the span .* outside the part"):
        RobustScale().fit(meg, whole(meg, ["m_2"]), allowed=official_parts(meg)["train"])


def test_a_person_s_test_run_takes_the_training_runs_quartiles(meg):
    train = official_parts(meg)["train"]
    x = meg.read("m_2", 0.0, 50)
    t = fitted(meg, train, per="subject")
    np.testing.assert_array_equal(t.apply(x, "m_2"), t.apply(x[:, ::-1].copy(), "m_1")[:, ::-1])
    with pytest.raises(DataError, match="never fitted on recording 'm_2'; calibrate it"):
        fitted(meg, train).apply(x, "m_2")


def test_long_parts_are_thinned_evenly(meg, monkeypatch):
    spans = whole(meg, ["m_1"])
    exact = fitted(meg, spans).quartiles("m_1", 3)
    monkeypatch.setattr(robust_scale, "MAX_SAMPLES", 1700)
    monkeypatch.setattr("neurofm.data.transforms.fitting.READ_SAMPLES", 97)
    thinned = fitted(meg, spans).quartiles("m_1", 3)
    x = meg.read("m_1", 0.0, 6000)[::4].astype(np.float64)
    np.testing.assert_allclose(thinned.median, np.median(x, axis=0), rtol=1e-9)
    np.testing.assert_allclose(thinned.range[:2], exact.range[:2], rtol=0.1)


def test_json_gives_it_back(meg):
    t = fitted(meg, whole(meg, ["m_1"]), clamp=5.0)
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    x = meg.read("m_1", 0.5, 300)
    np.testing.assert_array_equal(again.apply(x, "m_1"), t.apply(x, "m_1"))


@pytest.mark.parametrize("choices", [{"clamp": 0}, {"per": "day"}])
def test_wrong_choices(choices):
    with pytest.raises(ConfigError, match=next(iter(choices))):
        RobustScale(**choices)
