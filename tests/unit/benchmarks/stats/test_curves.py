"""Areas under adaptation curves and their paired comparison, by hand."""

import numpy as np
import pytest

from neurofm.benchmarks.stats.curves import area, areas, compare
from neurofm.schema.errors import DataError


def test_area_is_a_mean_over_doublings():
    assert area({300: 0.2, 600: 0.4, 1200: 0.8}) == pytest.approx((0.3 + 0.6) / 2)
    # unequal steps count by their width in doublings: 1 and 2
    assert area({1: 0.0, 2: 1.0, 8: 1.0}) == pytest.approx((0.5 + 2.0) / 3)
    assert area({300: 0.7}) == 0.7
    assert np.isnan(area({1: 0.1, 2: float("nan")}))


def test_the_first_is_compared_with_each_over_the_same_people():
    curves = {
        "ours": {"a": {1: 0.5, 2: 0.7}, "b": {1: 0.6, 2: 0.8}},
        "other": {"a": {1: 0.4, 2: 0.6}, "b": {1: 0.3, 2: 0.5}},
    }
    gain = compare(areas(curves), "ours")["other"]
    assert gain.value == pytest.approx(0.2)
    assert gain.n == 2
    # t with one degree of freedom: 12.706 · (0.2 / √2) / √2
    assert gain.high - gain.value == pytest.approx(12.7062 * 0.1, rel=1e-4)


def test_different_budgets_or_people_are_refused():
    with pytest.raises(DataError, match="budgets"):
        areas({"ours": {"a": {1: 0.5}}, "other": {"a": {2: 0.5}}})
    with pytest.raises(DataError, match="different people"):
        compare({"ours": {"a": 0.5}, "other": {"b": 0.5}}, "ours")
    with pytest.raises(DataError, match="no budget"):
        area({})
