"""Scores per person and intervals over people, against plain counts."""

import numpy as np
import pytest

from neurofm.benchmarks.stats.intervals import bootstrap, t_interval
from neurofm.benchmarks.stats.people import by_person, interval_over_people
from neurofm.benchmarks.stats.scores import FROM_COUNTS, METRICS, Said, bounds_of


def said(rng, n, p_right, classes=("a", "b", "c")):
    """Answers that are right with probability p (one for all, or one each)."""
    true = rng.choice(classes, n)
    other = rng.choice(classes, n)
    return Said(true=true, predicted=np.where(rng.random(n) < p_right, true, other), classes=classes)


@pytest.mark.parametrize("metric", FROM_COUNTS)
def test_metrics_from_counts(metric):
    rng = np.random.default_rng(1)
    for n in (5, 40):
        s = said(rng, n, 0.5)
        labels = np.unique([*s.true, *s.predicted])
        counts = np.array([[((s.true == a) & (s.predicted == b)).sum() for b in labels] for a in labels])
        np.testing.assert_allclose(FROM_COUNTS[metric](counts), METRICS[metric](s), atol=1e-12)


def test_folds_of_one_person_count_once():
    rng = np.random.default_rng(2)
    folds = {
        f"{p} {k}": (said(rng, 20, 0.2 + 0.2 * p), np.array([f"p{p}"] * 20)) for p in range(4) for k in range(5)
    }  # fmt: skip
    means = [np.mean([METRICS["accuracy"](folds[f"{p} {k}"][0]) for k in range(5)]) for p in range(4)]
    assert list(by_person(folds, "accuracy").values()) == pytest.approx(means)
    assert interval_over_people(folds, "accuracy")[:3] == pytest.approx(t_interval(means)[:3])
    assert interval_over_people(folds, "accuracy").n == 4


def test_people_are_drawn_with_all_their_examples():
    rng = np.random.default_rng(3)
    who = np.repeat([f"p{i:02d}" for i in range(12)], 50)
    s = said(rng, 600, np.repeat(rng.uniform(0, 1, 12), 50))
    found = interval_over_people({"all": (s, who)}, "balanced_accuracy")
    assert found.value == pytest.approx(METRICS["balanced_accuracy"](s))
    assert found.n == 12
    # people differ, so that examples drawn one by one would give an interval that is far too narrow
    each = bootstrap(600, lambda i: METRICS["balanced_accuracy"](s.take(i)), n_draws=200)
    assert found.high - found.low > 2 * (each.high - each.low)
    # where counts give the metric and where they do not, the same people are drawn
    slow = interval_over_people({"all": (s, who)}, "accuracy", n_draws=50)
    plain = [METRICS["accuracy"](s.take(np.flatnonzero(who == p))) for p in sorted(set(who))]
    assert slow.value == pytest.approx(np.mean(plain))


def test_few_people_and_bounds():
    rng = np.random.default_rng(4)
    who = np.repeat(["x", "y", "z"], 30)
    s = said(rng, 90, np.repeat([0.4, 1.0, 1.0], 30))
    found = interval_over_people({"all": (s, who)}, "accuracy")
    assert found.low < found.value < found.high <= 1.0
    means = [1.0, 1.0, 0.8]
    assert t_interval(means).high > 1
    assert t_interval(means, bounds=bounds_of("accuracy")).high == 1.0
    assert t_interval(means, bounds=bounds_of("accuracy")).low == t_interval(means).low
    # one unit says nothing of the mean: its ends stay open
    assert t_interval([0.5], bounds=bounds_of("accuracy")).high == np.inf
    one_class = np.repeat(["x", "y"], 3)
    area = Said(
        true=np.array(list("aaabbb")), predicted=np.array(list("ababab")), scores=rng.random((6, 2)), classes=("a", "b")
    )
    assert all(np.isnan(v) for v in by_person({"all": (area, one_class)}, "auroc").values())
    assert np.isfinite(interval_over_people({"all": (area, one_class)}, "auroc").value)
