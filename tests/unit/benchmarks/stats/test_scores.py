"""Metrics against plain counts, p-values against what they must be, the critical difference against its table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neurofm.benchmarks.decoding.summary import compare, permutation_p
from neurofm.benchmarks.leaderboard import board
from neurofm.benchmarks.stats.intervals import holm, uniform_p
from neurofm.benchmarks.stats.scores import METRICS, Said, check_metrics, default_metrics, noise_ceiling
from neurofm.report.figures_leaderboard import cliques
from neurofm.schema.errors import ConfigError


def answers(n=60, k=3, seed=0):
    rng = np.random.default_rng(seed)
    classes = tuple("abcd"[:k])
    true = np.array(classes)[rng.integers(k, size=n)]
    scores = rng.normal(size=(n, k)) + (true[:, None] == np.array(classes))
    return Said(true=true, predicted=np.array(classes)[scores.argmax(1)], scores=scores, classes=classes)


def test_class_metrics_are_what_counting_gives():
    s = answers()
    right = np.mean(s.true == s.predicted)
    by_chance = sum(np.mean(s.true == c) * np.mean(s.predicted == c) for c in s.classes)
    assert METRICS["kappa"](s) == pytest.approx((right - by_chance) / (1 - by_chance))
    f1 = {}
    for c in s.classes:
        hit = np.sum((s.true == c) & (s.predicted == c))
        f1[c] = 2 * hit / (np.sum(s.true == c) + np.sum(s.predicted == c))
    assert METRICS["macro_f1"](s) == pytest.approx(np.mean(list(f1.values())))
    assert METRICS["weighted_f1"](s) == pytest.approx(sum(f1[c] * np.mean(s.true == c) for c in s.classes))
    areas = []
    for k, c in enumerate(s.classes):
        yes, no = s.scores[s.true == c, k], s.scores[s.true != c, k]
        areas.append(np.mean((yes[:, None] > no) + 0.5 * (yes[:, None] == no)))
    assert METRICS["auroc"](s) == pytest.approx(np.mean(areas))
    two = answers(k=2)
    order = np.argsort(-two.scores[:, 1])
    hits = (two.true[order] == "b").astype(float)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    assert METRICS["auprc"](two) == pytest.approx((precision * hits).sum() / hits.sum())


def test_value_metrics_and_which_fit():
    rng = np.random.default_rng(0)
    true = rng.normal(size=50)
    s = Said(true=true, predicted=true + 0.5 * rng.normal(size=50))
    assert METRICS["r2"](s) == pytest.approx(
        1 - ((s.true - s.predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    )
    assert METRICS["pearson"](s) == pytest.approx(np.corrcoef(s.true, s.predicted)[0, 1])
    assert default_metrics(0) == ["r2", "pearson"]
    assert default_metrics(2) == ["balanced_accuracy", "auroc", "auprc"]
    with pytest.raises(ConfigError, match="is for values"):
        check_metrics(["r2"], values=False)
    with pytest.raises(ConfigError, match="kappa"):
        check_metrics(["kapa"], values=False)


def test_noise_ceiling_is_what_a_perfect_model_reaches():
    rng = np.random.default_rng(0)
    signal = rng.normal(size=20_000)
    repeats = signal + 2 * rng.normal(size=(5, 20_000))
    perfect = np.corrcoef(signal, repeats.mean(0))[0, 1]
    assert noise_ceiling(repeats) == pytest.approx(perfect, abs=0.02)
    assert noise_ceiling(rng.normal(size=(2, 10)) * [[1], [-1]] - rng.normal(size=10) * [[1], [-1]]) >= 0


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    pairs = compare({"a": dict.fromkeys("uvwxyz", 1.0), "b": dict.fromkeys("uvwxyz", 0.0), "c": {"u": 0.5}})
    # six folds all on one side: 2 of 64 patterns
    assert pairs == [("a", "b", 1.0, 2 / 64)]


def test_ties_broken_at_random_give_uniform_p():
    rng = np.random.default_rng(0)
    p = []
    for _ in range(2000):
        draws = rng.integers(0, 4, size=20)
        p.append(uniform_p(draws[0], draws[1:], rng=rng))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert min(p) > 0


def test_ranks_and_critical_difference():
    # Demsar 2006, table 5a: q of five models at .05 is 2.728
    values = {
        m: {str(u): v + 0.001 * u for u in range(10)} for m, v in zip("abcde", (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)
    }
    values["e"].pop("9")
    b = board("t", "balanced_accuracy", values, frozenset({"b"}))
    assert b.models == list("abcde")
    np.testing.assert_allclose(b.ranks, [1, 2, 3, 4, 5])
    assert int(b.complete.sum()) == 9
    assert b.critical_difference == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 9)), abs=2e-3)
    assert board("t", "mse", values, frozenset()).models == list("edcba")
    assert cliques([1, 2, 3, 4, 5], 2.0) == [(0, 2), (1, 3), (2, 4)]
    assert cliques([1, 4, 5], 0.5) == []


def test_shuffled_labels_give_uniform_p_over_two_hundred_runs():
    """By the function that the benchmark's column p comes from: 199 permutations, ties at random."""
    from neurofm.benchmarks.decoding.estimators import Shape, build

    spec = {"class": "sklearn.discriminant_analysis:LinearDiscriminantAnalysis"}
    p = []
    for run in range(200):
        rng = np.random.default_rng([7, run])
        y = np.array(list("ab") * 20)
        x = rng.normal(size=(40, 2, 3)) + 2.0 * (y == "a")[:, None, None]
        train = rng.permutation(y[:20])
        said = build("lda", spec, Shape(2, 3, 1.0, 2), seed=0).fit(x[:20], train).predict(x[20:])
        found = Said(true=rng.permutation(y[20:]), predicted=said, scores=None, classes=("a", "b"))
        # two folds of ten trials: almost every permutation ties with another
        halves = [found.take(np.arange(20) % 2 == k) for k in (0, 1)]
        p.append(permutation_p(halves, "accuracy", n=199))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.10
