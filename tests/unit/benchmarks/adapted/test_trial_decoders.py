from __future__ import annotations

import numpy as np
import pytest

from neurofm.benchmarks.adapted import trial_decoders as decoding
from neurofm.benchmarks.baselines.lda import ShrinkageLDA
from neurofm.schema.errors import DataError


def test_classification_scores_by_hand() -> None:
    logits = np.log([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    scores = decoding.classification_scores(logits, ["l", "r", "r", "r"], classes=["l", "r"])
    assert scores.accuracy.value == 0.75
    assert scores.balanced.value == pytest.approx((1 + 2 / 3) / 2)
    assert scores.confusion.tolist() == [[1, 0], [1, 2]]
    assert scores.balanced.low <= scores.balanced.value <= scores.balanced.high
    with pytest.raises(DataError, match="diverged"):
        decoding.classification_scores(np.full((4, 2), np.nan), list("lrrr"), classes=["l", "r"])


def planted_trials(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes that differ by a slow deflection from 0 s on; 100 Hz, −0.4 to 0.6 s."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    pattern = np.random.default_rng(9).normal(size=(4, 5))
    after = np.clip((np.arange(100) / 100 - 0.4) / 0.1, 0, 1)
    return 2.0 * pattern[y][:, :, None] * after + rng.normal(size=(n, 5, 100)) * 2, y


def lda(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    return ShrinkageLDA(rate_hz=100).fit(train, labels).predict(test)


def test_time_resolved_is_at_chance_before_the_planted_onset_only() -> None:
    (a, ya), (b, yb) = planted_trials(120, 0), planted_trials(80, 1)
    curve = decoding.time_resolved(lda, a, ya, b, yb, rate_hz=100, start_s=-0.4, n_draws=400)
    before, after = curve.stop_s <= 1e-9, curve.start_s >= 0.1
    assert (curve.accuracy[after] > 0.8).all()
    assert not curve.above_chance_before(0.0)
    assert curve.accuracy[before].max() < 0.45
    assert (curve.stop_s - curve.start_s) == pytest.approx(0.2)
    # A leak planted before onset is seen
    a[:, 0, :20] += 3 * ya[:, None]
    b[:, 0, :20] += 3 * yb[:, None]
    assert decoding.time_resolved(lda, a, ya, b, yb, rate_hz=100, start_s=-0.4, n_draws=400).above_chance_before(0.0)
    with pytest.raises(DataError, match="shorter windows"):
        curve.above_chance_before(-1.0)
