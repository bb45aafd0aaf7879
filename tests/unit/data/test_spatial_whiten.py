"""Whitening equals numpy's closed form, the filter is scipy's, only allowed spans are looked at, JSON gives it back."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.signal import butter, sosfiltfilt

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import TRANSFORMS, Compose, transform_from_json
from neurofm.data.transforms.spatial_whiten import SpatialWhiten, whitening_matrix
from neurofm.schema.errors import ConfigError, DataError

MIX = np.array([[1.0, 0.6, -0.2], [0.0, 2.0, 0.5], [0.0, 0.0, 0.3]])


@pytest.fixture(scope="module")
def sets(tmp_path_factory, shard_maker):
    """Person 1: trials of three mixed channels on an offset, one test recording with the channels in another order;
    person 2: one channel; person 3: a flat recording, and one with other channels."""
    rng = np.random.default_rng(0)

    def trials(n):
        return [rng.standard_normal((50, 3)).cumsum(axis=0) @ MIX + [4000.0, -3.0, 0.0] for _ in range(n)]

    starts = [2.0 * i for i in range(8)]
    made = [
        shard_maker.Made("a_train", trials(8), rate_hz=50.0, starts_s=starts, part="train", names=["X", "Y", "Z"]),
        shard_maker.Made("a_test", [t[:, ::-1] for t in trials(4)], rate_hz=50.0, starts_s=starts[:4], part="test",
                         names=["Z", "Y", "X"]),
        shard_maker.Made("b", [rng.standard_normal((400, 1)) * 7 + 2], rate_hz=50.0, subject="2"),
        shard_maker.Made("c", [np.full((100, 2), 5.0)], rate_hz=50.0, subject="3"),
        shard_maker.Made("d", [rng.standard_normal((100, 3))], rate_hz=50.0, subject="3"),
    ]  # fmt: skip
    return Dataset(shard_maker.make(tmp_path_factory.mktemp("white"), made))


def fitted(dataset, **choices):
    spans = official_parts(dataset)["train"]
    t = SpatialWhiten(**choices)
    t.fit(dataset, spans, allowed=spans)
    return t


def filtered(x, hz):
    return sosfiltfilt(butter(4, hz, fs=50.0, output="sos"), x.astype(np.float64), axis=0)


@pytest.mark.parametrize("lowpass_hz", [None, 8.0])
@pytest.mark.parametrize("shrinkage", [0.0, 0.05, 1.0])
def test_matrix_is_the_closed_form_of_what_is_fitted(sets, lowpass_hz, shrinkage):
    t = fitted(sets, lowpass_hz=lowpass_hz, shrinkage=shrinkage)
    trials = [sets.read_interval("a_train", i) for i in range(8)]
    # every trial is filtered on its own
    x = np.concatenate([x.astype(np.float64) if lowpass_hz is None else filtered(x, lowpass_hz) for x in trials])
    covariance = np.cov(x.T, bias=True)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 3 * np.eye(3)
    expected = np.linalg.inv(sqrtm(shrunk).real)
    white = (x - x.mean(axis=0)) @ expected
    expected /= white.std()
    known = t.whitening("a_train", 3)
    np.testing.assert_allclose(known.mean, x.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(known.matrix, expected, rtol=1e-6, atol=1e-9)
    out = np.concatenate([t.apply(values, "a_train") for values in trials]).astype(np.float64)
    assert out.std() == pytest.approx(1, rel=1e-5)
    if shrinkage == 0:
        np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(3), atol=1e-4)


def test_a_window_is_filtered_as_scipy_does_and_left_as_it_was(sets):
    t = fitted(sets, lowpass_hz=5.0)
    window = sets.read("a_train", 2.0, 20)
    before = window.copy()
    known = t.whitening("a_train", 3)
    out = t.apply(window, "a_train")
    assert np.array_equal(window, before)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (filtered(window, 5.0) - known.mean) @ known.matrix, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(t.inverse(out, "a_train"), filtered(window, 5.0), rtol=1e-4, atol=1e-2)
    # shorter than scipy's padding
    assert np.isfinite(t.apply(window[:4], "a_train")).all()


def test_subject_holds_for_its_official_test_recording_by_channel_name(sets):
    t = fitted(sets, lowpass_hz=8.0)
    window = sets.read("a_test", 0.0, 50)
    np.testing.assert_allclose(
        t.apply(window, "a_test")[:, ::-1], t.apply(window[:, ::-1], "a_train"), rtol=1e-3, atol=1e-4
    )
    with pytest.raises(DataError, match="never fitted on recording 'a_test'; calibrate"):
        fitted(sets, per="recording").apply(window, "a_test")


def test_what_was_never_fitted_is_refused(sets):
    t = fitted(sets)
    with pytest.raises(DataError, match="never fitted on recording 'b'"):
        t.apply(np.zeros((20, 1), np.float32), "b")
    with pytest.raises(DataError, match="3 channels of 'a_train', the window has 2"):
        t.apply(np.zeros((20, 2), np.float32), "a_train")
    # channels of other names are another setup
    spans = whole(sets, ["c"])
    t.fit(sets, spans, allowed=spans)
    with pytest.raises(DataError, match="never fitted on recording 'd'"):
        t.apply(np.zeros((20, 3), np.float32), "d")


def test_spans_outside_the_part_are_refused(sets):
    split = official_parts(sets)
    with pytest.raises(DataError, match=r"'spatial_whiten': the span .* of 'a_test' is outside the part"):
        SpatialWhiten().fit(sets, split["test"], allowed=split["train"])
    with pytest.raises(DataError, match="outside the part"):
        SpatialWhiten().fit(sets, [*split["train"], Span("b", 0.0, 1.0)], allowed=split["train"])


def test_test_trials_change_nothing(sets, tmp_path, shard_maker):
    """The same training trials beside other test trials give the same matrix."""
    made = [
        shard_maker.Made("a_train", [sets.read_interval("a_train", i) for i in range(8)], rate_hz=50.0,
                         starts_s=[2.0 * i for i in range(8)], part="train", names=["X", "Y", "Z"]),
        shard_maker.Made("a_test", [np.full((50, 3), 1e6)], rate_hz=50.0, part="test", names=["X", "Y", "Z"]),
    ]  # fmt: skip
    other = Dataset(shard_maker.make(tmp_path, made))
    assert fitted(other, lowpass_hz=8.0).state()["a_train"] == fitted(sets, lowpass_hz=8.0).state()["a_train"]


def test_one_channel_is_a_z_score_and_a_flat_recording_becomes_zeros(sets):
    t = SpatialWhiten(shrinkage=0.3)
    spans = whole(sets, ["b", "c"])
    t.fit(sets, spans, allowed=spans)
    x = sets.read_interval("b", 0)
    np.testing.assert_allclose(t.apply(x, "b"), (x - x.mean()) / x.std(), rtol=1e-4, atol=1e-5)
    assert np.abs(t.apply(sets.read_interval("c", 0), "c")).max() == 0


def test_state_round_trip(sets):
    composed = Compose(transforms=[{"name": "spatial_whiten", "lowpass_hz": 8.0, "shrinkage": 0.1}])
    spans = official_parts(sets)["train"]
    composed.fit(sets, spans, allowed=spans)
    again = transform_from_json(json.loads(json.dumps(composed.to_json())))
    window = sets.read("a_test", 0.0, 50)
    assert np.array_equal(again.apply(window, "a_test"), composed.apply(window, "a_test"))
    assert again.to_json() == composed.to_json()


def test_refusals(sets):
    for choices, sentence in (
        ({"per": "person"}, "per is 'person'"),
        ({"shrinkage": 1.5}, "shrinkage is 1.5"),
        ({"lowpass_hz": 0}, "lowpass_hz is 0"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            TRANSFORMS.build("spatial_whiten", **choices)
    with pytest.raises(ConfigError, match="below half the rate, 25 Hz"):
        fitted(sets, lowpass_hz=25.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.floats(0, 1), st.integers(0, 10_000))
def test_the_matrix_is_symmetric_finite_and_gives_unit_variance(n_channels, rank, shrinkage, seed):
    """Also for covariances that lack rank."""
    factor = np.random.default_rng(seed).standard_normal((n_channels, min(rank, n_channels))) * 1e3
    covariance = factor @ factor.T
    matrix = whitening_matrix(covariance, shrinkage)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-9 * np.abs(matrix).max())
    assert np.trace(matrix @ covariance @ matrix.T) / n_channels == pytest.approx(1, rel=1e-6)
