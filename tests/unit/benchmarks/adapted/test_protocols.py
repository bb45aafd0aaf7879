from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurofm.benchmarks.adapted import protocols
from neurofm.schema.errors import ConfigError, DataError


@given(st.integers(5, 60), st.integers(3, 20), st.integers(0, 3))
def test_tiles_cover_every_volume_once_from_inside_their_window(n: int, window: int, margin: int) -> None:
    if window > n or window - 2 * margin < 1:
        with pytest.raises(ConfigError):
            protocols.tile(n, window, margin)
        return
    starts, owner = protocols.tile(n, window, margin)
    volume = np.arange(n)
    place = volume - starts[owner]
    assert ((place >= 0) & (place < window)).all()
    assert starts[-1] + window <= n
    # Away from the span's ends no volume is scored from a window's margin
    inner = (volume >= margin) & (volume < n - margin)
    assert ((place[inner] >= margin) & (place[inner] < window - margin)).all()


def test_the_hidden_region_is_nan_for_the_whole_window_and_the_rest_is_intact() -> None:
    test = np.random.default_rng(0).normal(size=(40, 6))
    seen = []

    def predict(values: np.ndarray, hidden: int) -> np.ndarray:
        seen.append(hidden)
        assert np.isnan(values[:, :, hidden]).all()
        assert np.isfinite(np.delete(values, hidden, axis=2)).all()
        values[:] = 0  # a careless model must not damage what others see
        return np.zeros(values.shape[:2])

    scores = protocols.masked_region_scores(predict, test, window=10)
    assert seen == [0, 3]
    assert scores.times.tolist() == list(range(1, 39))
    np.testing.assert_array_equal(scores.true, test[1:39][:, [0, 3]])
    assert (scores.r2 <= 0).all()


def test_an_oracle_scores_one_and_lands_on_the_right_volumes() -> None:
    test = np.random.default_rng(1).normal(size=(47, 4))
    test[:, 0] = test[:, 1]
    scores = protocols.masked_region_scores(lambda v, h: v[:, :, 1], test, targets=[0], window=10, margin=2)
    assert scores.mean_r2 == pytest.approx(1.0)


@pytest.mark.parametrize("answer", [lambda v, h: np.zeros(3), lambda v, h: np.full(v.shape[:2], np.nan)])
def test_a_wrong_shape_or_nan_answer_is_refused(answer) -> None:
    with pytest.raises(DataError):
        protocols.masked_region_scores(answer, np.random.default_rng(2).normal(size=(20, 4)))


def test_next_volume_gets_only_the_past() -> None:
    # The value is its own time stamp, so what a model sees can be read off
    test = np.repeat(np.arange(30.0)[:, None], 2, axis=1)

    def predict(history: np.ndarray) -> np.ndarray:
        assert (np.diff(history[:, :, 0], axis=1) == 1).all()
        return history[:, -1] + 1

    scores = protocols.next_volume_scores(predict, test, context=3, batch=7)
    assert scores.mean_r2 == 1.0
    assert scores.times[0] == 3
    later = protocols.next_volume_scores(predict, test, context=3, warm_up=8)
    assert later.times[0] == 8
    with pytest.raises(ConfigError, match="warm_up"):
        protocols.next_volume_scores(predict, test, context=3, warm_up=2)
