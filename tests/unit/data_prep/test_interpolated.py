"""Interpolation in disguise: straight stretches and long holes are told, measured traces are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.stages.base import SignalInfo
from data_prep.stages.interpolated import Interpolated, straight
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel


def run(x, *, n_blocks=3, **choices):
    stage = Interpolated(**choices)
    info = SignalInfo(rate_hz=3.0, channels=tuple(Channel(name=str(i)) for i in range(x.shape[1])))
    for block in np.array_split(x, n_blocks):
        stage.observe(block, info)
    verdict = stage.conclude(info)
    out = stage.start(info)
    return out.channels, np.concatenate([stage.push(b) for b in np.array_split(x, n_blocks)]), verdict


def traces():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 4))
    # a line of 80 samples, as float32 files hold it; and a hole
    x[300:380, 1] = np.float32(np.linspace(-2, 3, 80))
    x[100:160, 2] = np.nan
    x[500:520, 3] = np.nan
    return x


def test_what_was_filled_in_is_marked():
    x = traces()
    channels, out, verdict = run(x)
    assert [c.bad for c in channels] == [False, True, True, False]
    assert "straight lines" in channels[1].reason
    assert channels[2].reason == "6.0 % of the recording are missing at a stretch"
    assert verdict.figures == {"interpolated_channels": 2.0}
    # holes of the bad are filled, those of the good are the business of stage quality
    assert np.isfinite(out[:, 2]).all()
    np.testing.assert_array_equal(out[:, 3], x[:, 3])
    np.testing.assert_array_equal(out[:, 0], x[:, 0])


def test_blocks_do_not_matter():
    one, many = run(traces(), n_blocks=1), run(traces(), n_blocks=17)
    assert one[0] == many[0]
    np.testing.assert_array_equal(one[1], many[1])


def test_window_by_window():
    x = np.random.default_rng(0).standard_normal(200)
    x[50:110] = 0.3 * np.arange(60) - 4
    # windows begin at every half: of those inside the line only 50 is straight
    np.testing.assert_array_equal(np.flatnonzero(straight(x, 50)), [2])
    # a flat trace is for stage quality
    assert not straight(np.ones(200), 50).any()


def test_short_recordings_are_rejected():
    with pytest.raises(DataError, match="1000 samples, fewer than min_samples, 1200"):
        run(traces(), min_samples=1200)
    with pytest.raises(ConfigError, match="window is 2"):
        Interpolated(window=2)
