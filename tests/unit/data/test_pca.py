"""Components equal scikit-learn's and numpy's, only allowed spans are looked at, and JSON gives the same transform back."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.splits.spans import Span
from neurofm.data.transforms.base import Compose, transform_from_json
from neurofm.data.transforms.pca import Pca
from neurofm.schema.errors import ConfigError, DataError

MIX = np.array([[9.0, 2.0, 0.5, 1.0], [0.0, 4.0, -1.0, 2.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.1]])


@pytest.fixture(scope="module")
def sets(tmp_path_factory, shard_maker):
    """Person 1: training trials, and a test recording with the channels in another order; 2: more voxels than trials;
    3: a flat recording."""
    rng = np.random.default_rng(0)
    mixed = [rng.standard_normal((40, 4)) @ MIX + [4000.0, -3.0, 0.0, 7.0] for _ in range(9)]
    starts = [2.0 * i for i in range(9)]
    made = [
        shard_maker.Made("a_train", mixed[:6], rate_hz=50.0, starts_s=starts[:6], part="train", names=list("WXYZ")),
        shard_maker.Made("a_test", [x[:, ::-1] for x in mixed[6:]], rate_hz=50.0, starts_s=starts[:3], part="test",
                         names=list("ZYXW")),
        shard_maker.Made("b", [rng.standard_normal((12, 30)) + 5], rate_hz=50.0, subject="2"),
        shard_maker.Made("c", [np.full((20, 3), 5.0)], rate_hz=50.0, subject="3"),
    ]  # fmt: skip
    return Dataset(shard_maker.make(tmp_path_factory.mktemp("pca"), made))


def fitted(dataset, spans, **choices):
    t = Pca(**choices)
    t.fit(dataset, spans, allowed=spans)
    return t


def train(dataset):
    return official_parts(dataset)["train"]


def stored(dataset, recording, n):
    return np.concatenate([dataset.read_interval(recording, i) for i in range(n)]).astype(np.float64)


@pytest.mark.parametrize("whiten", [False, True])
def test_scores_and_reconstruction_are_scikit_learns(sets, whiten):
    x = stored(sets, "a_train", 6)
    t, theirs = fitted(sets, train(sets), n_components=2, whiten=whiten), PCA(n_components=2).fit(x)
    scores = theirs.transform(x) / (np.sqrt(theirs.explained_variance_ * (len(x) - 1) / len(x)) if whiten else 1.0)
    ours = t.scores(x, "a_train")
    signs = np.sign((ours * scores).sum(axis=0))
    np.testing.assert_allclose(ours, scores * signs, atol=1e-9 * np.abs(scores).max())
    if whiten:
        np.testing.assert_allclose(ours.var(axis=0), 1, rtol=1e-9)
    back = theirs.inverse_transform(theirs.transform(x))
    once = t.apply(x.astype(np.float32), "a_train")
    assert once.dtype == np.float32
    np.testing.assert_allclose(t.inverse(once, "a_train"), back, rtol=2e-6, atol=1e-3)
    if not whiten:
        np.testing.assert_allclose(once, back, rtol=1e-6, atol=1e-3)


def test_fewer_samples_than_channels_is_as_exact(sets):
    spans = whole(sets, ["b"])
    x = stored(sets, "b", 1)
    t, theirs = fitted(sets, spans, n_components=5), PCA(n_components=5, svd_solver="full").fit(x)
    np.testing.assert_allclose(
        t.apply(x.astype(np.float32), "b"), theirs.inverse_transform(theirs.transform(x)), atol=1e-5
    )
    # no more components than there are: 12 centred samples span 11
    everything = fitted(sets, spans, n_components=99)
    assert len(everything.axes("b", 30).variance) == 11
    np.testing.assert_allclose(everything.apply(x.astype(np.float32), "b"), x, atol=1e-5)


def test_a_share_of_variance_keeps_the_fewest_that_explain_it(sets):
    x = stored(sets, "a_train", 6)
    shares = PCA().fit(x).explained_variance_ratio_.cumsum()
    for share in (shares[0] - 1e-6, shares[0] + 1e-6, shares[1] - 1e-6, 1.0):
        kept = len(fitted(sets, train(sets), variance=float(share)).axes("a_train", 4).variance)
        assert kept == np.searchsorted(shares, share - 1e-12) + 1


def test_a_test_recording_takes_what_the_training_recordings_gave(sets):
    t = fitted(sets, train(sets), n_components=2)
    x = sets.read_interval("a_test", 0)
    np.testing.assert_array_equal(t.apply(x, "a_test"), t.apply(x[:, ::-1].copy(), "a_train")[:, ::-1])
    with pytest.raises(DataError, match="never fitted on recording 'a_test'; calibrate it"):
        fitted(sets, train(sets), n_components=2, per="recording").apply(x, "a_test")


def test_what_is_outside_the_part_changes_nothing_and_is_refused(sets, tmp_path, shard_maker):
    with pytest.raises(DataError, match=r"transform 'pca': the span .* outside the part"):
        Pca(n_components=1).fit(sets, whole(sets, ["a_test"]), allowed=train(sets))
    with pytest.raises(DataError, match="outside the part"):
        Pca(n_components=1).fit(sets, [Span("a_train", 0.0, 0.8), Span("b", 0.0, 0.1)], allowed=train(sets))
    # the same training part, quite another test part
    rng = np.random.default_rng(1)
    made = [
        shard_maker.Made("a_train", [sets.read_interval("a_train", i) for i in range(6)], rate_hz=50.0,
                         starts_s=[2.0 * i for i in range(6)], part="train", names=list("WXYZ")),
        shard_maker.Made("a_test", [1e6 * rng.standard_normal((40, 4))], rate_hz=50.0, part="test", names=list("WXYZ")),
    ]  # fmt: skip
    other = Dataset(shard_maker.make(tmp_path / "other", made))
    a, b = (fitted(d, train(d), n_components=2).axes("a_train", 4) for d in (sets, other))
    for k in range(3):
        np.testing.assert_allclose(a[k], b[k], rtol=1e-4, atol=1e-4)


def test_it_is_saved_with_the_model(sets):
    t = Compose(transforms=[{"name": "pca", "n_components": 2}, {"name": "clip", "limit": 1e5}])
    t.fit(sets, train(sets), allowed=train(sets))
    again = transform_from_json(json.loads(json.dumps(t.to_json())))
    x = sets.read_interval("a_test", 1)
    np.testing.assert_array_equal(again.apply(x, "a_test"), t.apply(x, "a_test"))


def test_a_flat_recording_becomes_its_mean(sets):
    t = fitted(sets, whole(sets, ["c"]), n_components=2)
    np.testing.assert_array_equal(t.apply(np.full((4, 3), 6.0, np.float32), "c"), np.full((4, 3), 5.0))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"n_components": 0}, "1 or more"),
        ({"variance": 1.5}, "up to 1"),
        ({"n_components": 1, "per": "session"}, "per is 'session'"),
    ],
)
def test_wrong_choices(choices, said):
    with pytest.raises(ConfigError, match=said):
        Pca(**choices)


def test_another_number_of_channels_is_refused(sets):
    t = fitted(sets, train(sets), n_components=2)
    with pytest.raises(DataError, match="fitted on 4 channels of 'a_train', the window has 3"):
        t.apply(np.zeros((5, 3), np.float32), "a_train")
