"""Augmentations do what they say, only in training, by the sample's own generator."""

import numpy as np
import pytest

from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import whole
from neurofm.data.task import Task
from neurofm.data.transforms.augment_mirror import partners
from neurofm.data.transforms.base import TRANSFORMS, transform_from_json
from neurofm.schema.errors import ConfigError, DataError

RATE_HZ = 100.0
NAMES = ["C3", "Cz", "C4", "F7"]


@pytest.fixture(scope="module")
def head(tmp_path_factory, shard_maker):
    rng = np.random.default_rng(0)
    events = [
        {"onset_s": 2.0 * i + 0.5, "kind": "trial", "label": ("left", "right", "feet")[i % 3], "trial": i}
        for i in range(30)
    ]
    made = shard_maker.Made("h_1", [rng.standard_normal((6000, 4))], rate_hz=RATE_HZ, names=NAMES, events=events)
    return shard_maker.make(tmp_path_factory.mktemp("head"), [made])


def built(head, name, **choices):
    t = TRANSFORMS.build(name, **choices)
    d = Dataset(head)
    t.fit(d, whole(d, d.recordings), allowed=whole(d, d.recordings))
    return t


ALL = [
    ("time_mask", {}), ("sign_flip", {}), ("surrogate_phase", {"probability": 1.0}), ("frequency_shift", {"max_hz": 3.0}),
    ("left_right", {}), ("channel_dropout", {"probability": 0.4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "choices"), ALL)
def test_only_in_training_by_the_generator_and_never_in_place(head, name, choices):
    t = built(head, name, **choices)
    x = np.random.default_rng(1).standard_normal((200, 4)).astype(np.float32)
    before = x.copy()
    assert t.apply(x, "h_1") is x
    draws = [t.apply(x, "h_1", rng=np.random.default_rng(s)) for s in range(12)]
    for s, y in enumerate(draws):
        assert y.shape == x.shape
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, t.apply(x, "h_1", rng=np.random.default_rng(s)))
    assert any((y != x).any() for y in draws)
    np.testing.assert_array_equal(x, before)
    again = transform_from_json(t.to_json())
    assert again.to_json() == t.to_json()


def test_time_mask_is_one_stretch_of_all_channels(head):
    t = built(head, "time_mask", max_fraction=0.3)
    for s in range(20):
        zero = (t.apply(np.ones((100, 4), np.float32), "h_1", rng=np.random.default_rng(s)) == 0).all(axis=1)
        assert zero.sum() <= 30
        assert np.abs(np.diff(zero.astype(int))).sum() <= 2


@pytest.mark.parametrize("n", [200, 201])
def test_surrogates_keep_power_and_cross_spectra(head, n):
    x = np.random.default_rng(1).standard_normal((n, 4)).astype(np.float32)
    spectrum = lambda y: np.fft.rfft(y.astype(np.float64), axis=0)  # noqa: E731
    for together in (True, False):
        t = built(head, "surrogate_phase", probability=1.0, together=together)
        y = t.apply(x, "h_1", rng=np.random.default_rng(0))
        np.testing.assert_allclose(np.abs(spectrum(y)), np.abs(spectrum(x)), atol=2e-5 * n)
        cross = [s[:, 0] * s[:, 1].conj() for s in (spectrum(x), spectrum(y))]
        assert np.allclose(*cross, atol=1e-3 * n) == together
        np.testing.assert_allclose(y.mean(0), x.mean(0), atol=1e-6)


def test_frequency_shift_moves_a_line(head):
    t = built(head, "frequency_shift", max_hz=5.0)
    x = np.cos(2 * np.pi * 20 * np.arange(1000) / RATE_HZ)[:, None].repeat(4, 1).astype(np.float32)
    for s in range(6):
        expected = 20 + np.random.default_rng(s).uniform(-5, 5)
        y = t.apply(x, "h_1", rng=np.random.default_rng(s))
        np.testing.assert_allclose(y[:, 0], np.cos(2 * np.pi * expected * np.arange(1000) / RATE_HZ), atol=1e-3)
    with pytest.raises(DataError, match="was not fitted on 'other'"):
        t.apply(x, "other", rng=np.random.default_rng(0))


def test_partners_by_name_and_by_position():
    at = lambda name, x=np.nan, y=0.0: {"name": name, "canonical": "", "kind": "eeg", "x": x, "y": y, "z": 0.0}  # noqa: E731
    rows = [at(n) for n in ("C3", "Cz", "C4", "F7", "AFF1h", "AFF2h", "FP1", "Fp2")]
    assert partners(rows, "r").tolist() == [2, 1, 0, -1, 5, 4, 7, 6]
    rows = [at("MEG1", -0.05), at("MEG2", 0.049), at("MEG3", 0.0, 0.1), at("MEG4", 0.02, 0.05)]
    assert partners(rows, "r").tolist() == [1, 0, 2, -1]
    with pytest.raises(DataError, match="channel 'LA1' has no 10-05 name"):
        partners([at("C3"), at("LA1")], "r")


def test_reflection_takes_the_label_along(head):
    corpus = Corpus(
        path=str(head),
        split={"rule": "everything"},
        transforms=[{"name": "left_right", "swap": {"left": "right"}}],
        task=Task(window_s=1.0, windows="event", label_kind="trial"),
    )
    corpus.fit_transforms("pretrain")
    facts = corpus.facts("pretrain")
    assert facts.classes == ("feet", "left", "right")
    plain = Dataset(head)
    reflected = {True: 0, False: 0}
    for n_workers in (0, 1):
        corpus.n_workers = n_workers
        for batch in corpus.loader("pretrain", facts, batch_size=10, seed=0, training=True):
            for s, trial, target, x in zip(batch.start_s.tolist(), batch.trial.tolist(), batch.target.tolist(), batch.signal,
                                           strict=True):  # fmt: skip
                own, true = plain.read("h_1", s, 100), (1, 2, 0)[trial % 3]
                mirrored = not np.array_equal(x.T, own)
                expected = own[:, [2, 1, 0, 3]] * [1, 1, 1, 0] if mirrored else own
                np.testing.assert_array_equal(x.T, expected.astype(np.float32))
                assert target == ({1: 2, 2: 1, 0: 0}[true] if mirrored else true)
                reflected[mirrored] += 1
    assert min(reflected.values()) > 10
    wrong = Corpus(
        path=str(head),
        split={"rule": "everything"},
        transforms=[{"name": "left_right", "swap": {"lefft": "right"}}],
        task=Task(window_s=1.0, windows="event", label_kind="trial"),
    )
    with pytest.raises(ConfigError, match="swap names the class 'lefft': did you mean 'left'"):
        wrong.loader("pretrain", facts, batch_size=10, seed=0, training=True)


def test_wrong_choices():
    for name, choices in (
        ("time_mask", {"max_fraction": 1.0}), ("sign_flip", {"probability": 2}), ("surrogate_phase", {"strength": 0}),
        ("frequency_shift", {"max_hz": -1}), ("left_right", {"probability": -1}),
        ("left_right", {"swap": {"a": "b", "b": "a"}}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=name):
            TRANSFORMS.build(name, **choices)
