from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from neurofm.benchmarks.baselines import chance
from neurofm.benchmarks.baselines.lda import ShrinkageLDA, slow_features
from neurofm.schema.errors import ConfigError, DataError, NeurofmError


def test_slow_features_keep_2_hz_and_remove_20_hz() -> None:
    t = np.arange(400) / 400
    slow, fast = np.sin(2 * np.pi * 2 * t), np.sin(2 * np.pi * 20 * t)
    kept = slow_features((slow + fast)[None, None], rate_hz=400)[0]
    assert kept.shape == (25,)
    np.testing.assert_allclose(kept[3:-3], slow[::16][3:-3], atol=0.05)


def test_rates_of_100_and_400_hz_give_the_same_features() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(400) / 400
    x = sum(rng.normal() * np.sin(2 * np.pi * f * t + rng.normal()) for f in (1, 2, 3, 5))[None, None]
    a, b = slow_features(x, rate_hz=400), slow_features(x[..., ::4], rate_hz=100)
    np.testing.assert_allclose(a[:, 3:-3], b[:, 3:-3], atol=0.12 * np.abs(a).max())


def test_lda_is_scikit_learns_on_these_features() -> None:
    rng = np.random.default_rng(1)
    y = np.array(list("abc") * 20)
    x = rng.normal(size=(60, 3, 100)) + (y == "b")[:, None, None]
    model = ShrinkageLDA(rate_hz=100).fit(x[:45], y[:45])
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    reference.fit(slow_features(x[:45], rate_hz=100), y[:45])
    test = slow_features(x[45:], rate_hz=100)
    assert model.predict(x[45:]).tolist() == reference.predict(test).tolist()
    np.testing.assert_allclose(model.logits(x[45:]), reference.predict_log_proba(test))


def test_lda_refuses_what_it_cannot_do() -> None:
    x = np.random.default_rng(2).normal(size=(6, 2, 40))
    with pytest.raises(DataError, match="single class"):
        ShrinkageLDA(rate_hz=100).fit(x, np.zeros(6))
    with pytest.raises(ConfigError, match="half the rate"):
        slow_features(x, rate_hz=15)
    with pytest.raises(DataError, match="finite trials"):
        slow_features(np.full((2, 1, 10), np.nan), rate_hz=100)
    with pytest.raises(NeurofmError, match="before fit"):
        ShrinkageLDA(rate_hz=100).predict(x)


def test_majority() -> None:
    assert chance.majority(["r", "f", "f"], 2).tolist() == ["f", "f"]
    with pytest.raises(DataError):
        chance.majority([], 3)
