"""Statistics equal numpy's, only allowed spans are looked at, and JSON gives the same transform back."""

import json

import numpy as np
import pytest

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import TRANSFORMS, Compose, transform_from_json
from neurofm.data.transforms.standardize import MAX_BLOCKS, Standardize
from neurofm.schema.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def noise(tmp_path_factory, shard_maker):
    """Signals on a large offset (as an EEG amplifier gives), one channel flat."""
    rng = np.random.default_rng(0)
    made = []
    for i in (1, 2):
        x = rng.standard_normal((9001, 3)) * [1.0, 20.0, 0.0] + [4200.0, -3.0, 4100.3]
        made.append(shard_maker.Made(f"n_sub-{i}", [x[:5000], x[5000:]], rate_hz=50.0, starts_s=[0.0, 200.0],
                                     subject=str(i), names=["C3", "Cz", "C4"]))  # fmt: skip
    return make(tmp_path_factory, shard_maker, made)


def make(factory, shard_maker, made):
    return Dataset(shard_maker.make(factory.mktemp("noise"), made, segment_s=30.0))


def test_statistics_equal_numpy(noise):
    spans = [Span("n_sub-1", 10.0, 90.0), Span("n_sub-1", 210.0, 230.02)]
    t = Standardize()
    t.fit(noise, spans, allowed=spans)
    x = np.concatenate([noise.read("n_sub-1", 10.0, 4000), noise.read("n_sub-1", 210.0, 1001)]).astype(np.float64)
    s = t.statistics("n_sub-1")
    np.testing.assert_allclose(s.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(s.sd[:2], x.std(axis=0)[:2], rtol=1e-9)
    assert s.sd[2] == 1.0  # flat: becomes zeros, not magnified rounding
    z = t.apply(noise.read("n_sub-1", 0.0, 50), "n_sub-1")
    assert z.dtype == np.float32
    assert np.abs(z[:, 2]).max() == 0
    np.testing.assert_allclose(t.inverse(z, "n_sub-1"), noise.read("n_sub-1", 0.0, 50), rtol=1e-6)


def test_spans_outside_the_part_are_refused(noise):
    allowed = [Span("n_sub-1", 0.0, 20.0), Span("n_sub-1", 20.0, 50.0)]
    Standardize().fit(noise, [Span("n_sub-1", 10.0, 40.0)], allowed=allowed)
    for bad in (Span("n_sub-1", 40.0, 50.02), Span("n_sub-2", 0.0, 1.0)):
        with pytest.raises(DataError, match=r"transform 'standardize': the span .* outside the part"):
            Standardize().fit(noise, [bad], allowed=allowed)
    with pytest.raises(DataError, match="outside the part"):
        Compose(transforms=[{"name": "clip"}]).fit(noise, [Span("n_sub-2", 0.0, 1.0)], allowed=allowed)


def test_never_fitted_says_calibrate(noise):
    with pytest.raises(DataError, match="never fitted on recording 'n_sub-2'; calibrate it"):
        Standardize().apply(np.zeros((5, 3), np.float32), "n_sub-2")


def test_subject_statistics_hold_for_the_official_test_recording(trials):
    d = Dataset(trials)
    train = official_parts(d)["train"]
    t = Standardize(per="subject")
    t.fit(d, train, allowed=train)
    x = np.concatenate([d.read_interval(train[0].recording_id, i) for i in range(24)]).astype(np.float64)
    for r in d.recordings:
        np.testing.assert_allclose(t.statistics(r).mean, x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(t.statistics(r).sd, x.std(axis=0), rtol=1e-12)


def test_subject_statistics_follow_channel_names(tmp_path, shard_maker):
    x = np.arange(40.0).reshape(20, 2)
    made = [
        shard_maker.Made("r1", [x], names=["A", "B"]),
        shard_maker.Made("r2", [x[:, ::-1]], names=["B", "A"]),
        shard_maker.Made("r3", [x], names=["A", "Z"]),
    ]
    d = Dataset(shard_maker.make(tmp_path, made))
    t = Standardize(per="subject")
    t.fit(d, whole(d, ["r1"]), allowed=whole(d, ["r1"]))
    np.testing.assert_allclose(t.statistics("r2").mean, x.mean(axis=0)[::-1])
    with pytest.raises(DataError, match="never fitted on recording 'r3'"):
        t.statistics("r3")


def test_calibration_noise_is_a_chunk_of_the_allowed_spans(noise):
    spans = [Span("n_sub-1", 0.0, 60.0)]  # 3000 samples: blocks of one
    t = Standardize(noise_range_s=(2.0, 10.0))
    t.fit(noise, spans, allowed=spans)
    x = noise.read("n_sub-1", 0.0, 3000).astype(np.float64)
    sums = np.concatenate([[0.0], x[:, 1].cumsum()])
    possible = np.sort(np.concatenate([(sums[n:] - sums[:-n]) / n for n in range(99, 503)]))
    seen = set()
    for i in range(200):
        s = t._for("n_sub-1", 3, keyed_generator(0, i))
        near = np.searchsorted(possible, s.mean[1])
        assert np.abs(possible[max(near - 1, 0) : near + 1] - s.mean[1]).min() < 1e-9
        seen.add(float(s.mean[1]))
    assert len(seen) > 150
    assert t._for("n_sub-1", 3, None) is t.statistics("n_sub-1")
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    with pytest.raises(DataError, match="fit it again on 'n_sub-1'"):
        again.apply(np.zeros((5, 3), np.float32), "n_sub-1", rng=keyed_generator(0))


def test_long_recordings_are_summed_in_blocks(noise):
    spans = whole(noise, ["n_sub-1"])
    t = Standardize(noise_range_s=(1.0, 1e9), noise_probability=1.0)
    t.fit(noise, spans, allowed=spans)
    assert len(t._sums["n_sub-1"].n) <= MAX_BLOCKS + 1 < 9001
    for i in range(100):
        s = t._for("n_sub-1", 3, keyed_generator(1, i))
        assert np.isfinite(s.mean).all()
        assert (s.sd > 0).all()


@pytest.mark.parametrize("name", TRANSFORMS.names())
def test_json_gives_the_same_transform(name, noise):
    t = TRANSFORMS.build(name)
    spans = [Span("n_sub-1", 0.0, 60.0)]
    t.fit(noise, spans, allowed=spans)
    x = noise.read("n_sub-1", 3.0, 64)
    kept = x.copy()
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    for key in (None, 7):
        a, b = (v.apply(x, "n_sub-1", rng=None if key is None else keyed_generator(key)) for v in (t, again))
        np.testing.assert_array_equal(a, b)
        assert a.shape == x.shape
        assert a.dtype == np.float32
    np.testing.assert_array_equal(x, kept)


def test_compose(noise):
    t = Compose(transforms=[Standardize(), {"name": "clip", "limit": 1.0}, {"name": "channel_dropout"}])
    spans = [Span("n_sub-1", 0.0, 60.0)]
    t.fit(noise, spans, allowed=spans)
    x = noise.read("n_sub-1", 3.0, 64)
    expected = np.clip(t.transforms[0].apply(x, "n_sub-1"), -1, 1)
    np.testing.assert_array_equal(t.apply(x, "n_sub-1"), expected)
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    np.testing.assert_array_equal(again.apply(x, "n_sub-1"), expected)
    assert not t.is_transductive
    assert Compose(transforms=[Standardize(transductive=True)]).is_transductive
    with pytest.raises(ConfigError, match="must be the first"):
        Compose(transforms=[{"name": "clip"}, Standardize()])
    with pytest.raises(ConfigError, match="unknown transform 'standardise': did you mean 'standardize'"):
        Compose(transforms=[{"name": "standardise"}])
    with pytest.raises(ConfigError, match="no argument 'limitt': did you mean 'limit'"):
        Compose(transforms=[{"name": "clip", "limitt": 1.0}])


def test_transductive_fit_sees_the_whole_recording(noise):
    spans = [Span("n_sub-1", 0.0, 1.0)]
    t = Standardize(transductive=True)
    t.fit(noise, spans, allowed=spans)
    x = np.concatenate([noise.read_interval("n_sub-1", i) for i in (0, 1)]).astype(np.float64)
    np.testing.assert_allclose(t.statistics("n_sub-1").mean, x.mean(axis=0), rtol=1e-12)
