from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, r2_score

from neurofm.benchmarks.stats import metrics
from neurofm.schema.errors import DataError


def test_r2_equals_scikit_learn_and_a_loop() -> None:
    rng = np.random.default_rng(0)
    true, said = rng.normal(size=(80, 5)) + 3, rng.normal(size=(80, 5))
    loop = []
    for k in range(5):
        mean = sum(true[:, k]) / 80
        loop.append(1 - sum((a - b) ** 2 for a, b in zip(true[:, k], said[:, k], strict=True))
                    / sum((a - mean) ** 2 for a in true[:, k]))  # fmt: skip
    assert metrics.r2_per_region(true, said) == pytest.approx(loop, abs=1e-12)
    assert metrics.r2(true, said) == pytest.approx(r2_score(true, said, multioutput="uniform_average"), abs=1e-12)


def test_r2_is_around_the_scored_spans_own_mean() -> None:
    # A prediction of the training mean must not be credited for a drift between training and test
    true = np.random.default_rng(1).normal(size=(50, 1)) + 100.0
    assert metrics.r2(true, np.full((50, 1), true.mean())) == pytest.approx(0.0)
    assert metrics.r2(true, np.zeros((50, 1))) < -1000


def test_flat_regions_are_nan_and_left_out_of_the_mean() -> None:
    rng = np.random.default_rng(2)
    true = np.column_stack([rng.normal(size=30), np.full(30, 0.1)])
    per_region = metrics.r2_per_region(true, true + 0.1)
    assert np.isnan(per_region[1])
    assert metrics.r2(true, true + 0.1) == per_region[0]
    with pytest.raises(DataError, match="no region varies"):
        metrics.r2(true[:, 1:], true[:, 1:])


@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_r2_does_not_depend_on_unit_or_offset(scale: float, offset: float) -> None:
    rng = np.random.default_rng(3)
    true, said = rng.normal(size=(40, 3)), rng.normal(size=(40, 3))
    before, after = (
        metrics.r2_per_region(true, said),
        metrics.r2_per_region(true * scale + offset, said * scale + offset),
    )
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_pearson_equals_scipy() -> None:
    rng = np.random.default_rng(4)
    true, said = rng.normal(size=(60, 4)), rng.normal(size=(60, 4))
    expected = [stats.pearsonr(true[:, k], said[:, k]).statistic for k in range(4)]
    assert metrics.pearson_per_region(true, said) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(metrics.pearson_per_region(true, np.ones_like(true))).all()


def test_balanced_accuracy_equals_scikit_learn_and_counts_foreign_labels_as_mistakes() -> None:
    rng = np.random.default_rng(5)
    true, said = rng.integers(0, 4, 74), rng.integers(0, 4, 74)
    assert metrics.balanced_accuracy(true, said) == pytest.approx(balanced_accuracy_score(true, said))
    assert metrics.balanced_accuracy(["a", "a", "b"], ["a", "x", "b"]) == pytest.approx(0.75)


def test_confusion_is_in_the_order_of_labels_and_drops_nothing() -> None:
    matrix = metrics.confusion(["a", "a", "b"], ["b", "a", "b"], labels=["b", "a", "c"])
    assert matrix.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    with pytest.raises(DataError, match="'c' is not among"):
        metrics.confusion(["a", "c"], ["a", "a"], labels=["a", "b"])


@pytest.mark.parametrize("score", [metrics.r2, metrics.accuracy, metrics.pearson_per_region])
def test_unequal_empty_or_infinite_input_is_refused(score) -> None:
    with pytest.raises(DataError, match="must be equal"):
        score(np.zeros(3), np.zeros(4))
    with pytest.raises(DataError, match="nothing to score"):
        score(np.zeros(0), np.zeros(0))


def test_nan_predictions_are_never_scored() -> None:
    with pytest.raises(DataError, match="1 of the predictions"):
        metrics.r2(np.arange(4.0), np.array([0, 1, np.nan, 3]))
