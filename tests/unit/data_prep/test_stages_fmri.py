"""Stages for slow data against scipy, numpy and nilearn on the whole array."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import detrend

from data_prep.flow import build_stages, run_stages
from data_prep.regression import regress_out
from data_prep.stages import STAGES
from data_prep.stages.base import SignalInfo
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Recording, Stream

TR = 0.72


def recording(arrays, names=None, kinds=None, regions=None, rate_hz=1 / TR, bad=()):
    n = arrays[0].shape[1]
    names, kinds, regions = names or [f"c{i}" for i in range(n)], kinds or ["bold"] * n, regions or [""] * n
    channels = tuple(
        Channel(name=a, kind=b, region=c, x=float(i), y=0.0, z=1.0, frame="mni", bad=a in bad)
        for i, (a, b, c) in enumerate(zip(names, kinds, regions, strict=True))
    )
    stream = Stream.from_arrays(list(arrays), rate_hz=rate_hz, channels=channels)
    starts = tuple(10000.0 * i for i in range(len(arrays)))
    return Recording(dataset="d", subject="s", modality="fmri", streams=(stream,), interval_start_s=starts)


def staged(given, *stages):
    flow = run_stages(given, build_stages(stages))
    return [np.concatenate([*flow.blocks(i, 0, None)]) for i in range(len(flow.intervals))], flow


@pytest.fixture
def x():
    """Two intervals; the first is longer than a block of the flow (4096 samples)."""
    rng = np.random.default_rng(0)
    return [900 + 10 * rng.standard_normal((n, 3)).cumsum(axis=0) for n in (9001, 40)]


def test_detrend_is_scipys_up_to_the_mean(x):
    y, _ = staged(recording(x), {"name": "detrend"})
    for a, b in zip(x, y, strict=True):
        np.testing.assert_allclose(b - a.mean(axis=0), detrend(a, axis=0), atol=1e-7)


def test_quadratic_detrend_is_polyfit(x):
    y, _ = staged(recording(x), {"name": "detrend", "order": 2})
    for a, b in zip(x, y, strict=True):
        t = np.linspace(-1, 1, len(a))
        expected = a - np.stack([np.polyval(np.polyfit(t, c, 2), t) for c in a.T], axis=1) + a.mean(axis=0)
        np.testing.assert_allclose(b, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["detrend", "regress_out"])
def test_whole_run_stages_say_so_and_refuse_live_use(name):
    stage = STAGES.build(name)
    assert stage.surveys
    assert not stage.causal
    with pytest.raises(ConfigError, match="live"):
        stage.start(SignalInfo(rate_hz=1.0, channels=(Channel(name="a"), Channel(name="m", kind="confound"))))


def test_regress_out_equals_signal_clean_and_the_array_form():
    clean = pytest.importorskip("nilearn.signal").clean
    rng = np.random.default_rng(1)
    x = 10000 + 50 * rng.standard_normal((6000, 4))
    confounds = np.column_stack([1e-4 * rng.standard_normal(6000), 3 + rng.standard_normal(6000)])
    x += 30 * confounds[:, 1:] + 1e5 * confounds[:, :1]
    both = np.hstack([x[:, :2], confounds, x[:, 2:]])
    names, kinds = ["a", "b", "rot_x", "trans_x", "c", "d"], ["bold", "bold", "confound", "misc", "bold", "bold"]
    (y,), flow = staged(recording([both], names, kinds), {"name": "regress_out", "names": ["trans_?"]})
    assert [c.name for c in flow.info.channels] == ["a", "b", "c", "d"]
    np.testing.assert_allclose(y, regress_out(x, confounds), rtol=1e-9)
    np.testing.assert_allclose(y, clean(x, confounds=confounds, standardize=None, detrend=False), rtol=1e-6)
    assert abs(np.corrcoef(y[:, 0], confounds[:, 1])[0, 1]) < 1e-6


def test_regress_out_of_the_global_signal_leaves_bad_channels_out_of_it():
    rng = np.random.default_rng(2)
    x = 100 + rng.standard_normal((500, 3)) + rng.standard_normal((500, 1))
    x[:, 2] = 1e6 * rng.standard_normal(500)
    (y,), _ = staged(recording([x], bad=["c2"]), {"name": "regress_out", "kinds": [], "global_signal": True})
    np.testing.assert_allclose(y, regress_out(x, x[:, :2].mean(axis=1, keepdims=True)), rtol=1e-8, atol=1e-4)
    np.testing.assert_allclose(y[:, :2].mean(axis=1), x[:, :2].mean(), rtol=1e-9)


def test_regressors_that_explain_everything_are_refused():
    x = np.random.default_rng(3).standard_normal((5, 6))
    with pytest.raises(DataError, match="4 regressors for 5 samples"):
        staged(recording([x], kinds=["bold"] * 2 + ["confound"] * 4), {"name": "regress_out"})
    with pytest.raises(DataError, match=r"no channel is a regressor \(kinds: bold\)"):
        staged(recording([x]), {"name": "regress_out"})
    with pytest.raises(DataError, match="4 confounds for 5 usable volumes"):
        regress_out(x, x[:, :4])


@pytest.mark.parametrize("choices", [{"low_hz": 0.01, "high_hz": 0.1}, {"high_hz": 0.1}, {"low_hz": 0.01},
                                     {"low_hz": 0.008, "method": "cosine"}])  # fmt: skip
def test_run_filter_is_nilearns_on_the_whole_run(choices):
    clean = pytest.importorskip("nilearn.signal").clean
    rng = np.random.default_rng(4)
    t = np.arange(5000) * TR
    x = 900 + rng.standard_normal((5000, 2)) + 20 * np.sin(2 * np.pi * 11 / (5000 * TR) * t)[:, None]
    (y,), _ = staged(recording([x]), {"name": "run_filter", **choices})
    how = {"high_pass": choices.get("low_hz"), "low_pass": choices.get("high_hz"), "t_r": TR, "standardize": None}
    expected = clean(x - x.mean(axis=0), detrend=False, filter=choices.get("method", "butterworth"), **how)
    np.testing.assert_allclose(y - x.mean(axis=0), expected, atol=1e-9)
    left = np.abs(np.fft.rfft(y[:, 0] - y[:, 0].mean()))[11] / 5000 * 2
    assert left == pytest.approx(20, rel=0.05) if "low_hz" not in choices else left < 0.5


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "needs low_hz or high_hz"),
        ({"low_hz": 0.1, "high_hz": 0.01}, "not below"),
        ({"low_hz": -1}, "above 0"),
        ({"low_hz": 0.01, "method": "fir"}, "butterworth or cosine"),
        ({"low_hz": 0.01, "high_hz": 0.1, "method": "cosine"}, "no high_hz"),
    ],
)
def test_run_filter_choices(choices, message):
    with pytest.raises(ConfigError, match=message):
        STAGES.build("run_filter", **choices)


def test_run_filter_says_what_does_not_fit():
    x = np.ones((50, 1)) * np.arange(50)[:, None]
    with pytest.raises(DataError, match=r"high_hz 0.3 is not below half the sampling rate \(0.25 Hz\)"):
        staged(recording([x], rate_hz=0.5), {"name": "run_filter", "high_hz": 0.3})
    with pytest.raises(DataError, match="8 volumes is too short"):
        staged(recording([x[:8]], rate_hz=0.5), {"name": "run_filter", "high_hz": 0.1})


def test_parcels_are_means_of_good_voxels():
    x = np.random.default_rng(5).standard_normal((30, 6))
    regions = ["V2", "V1", "", "V2", "V1", "V4"]
    given = recording([x], regions=regions, bad=["c4"])
    (y,), flow = staged(given, {"name": "parcels"})
    assert [c.name for c in flow.info.channels] == ["V2", "V1", "V4"]
    np.testing.assert_allclose(y, np.stack([x[:, [0, 3]].mean(axis=1), x[:, 1], x[:, 5]], axis=1))
    first = flow.info.channels[0]
    assert (first.x, first.z, first.frame, first.kind, first.region) == (1.5, 1.0, "mni", "bold", "V2")
    (y,), flow = staged(given, {"name": "parcels", "min_channels": 2})
    assert [c.name for c in flow.info.channels] == ["V2"]
    with pytest.raises(DataError, match="none of 6 channels has a region with 3"):
        staged(given, {"name": "parcels", "min_channels": 3})


@pytest.mark.parametrize(("tr_s", "wanted"), [(0.72, 0.735), (2.0, 1.0), (4 / 3, 1.0), (0.735, 2.0), (1.5, 1.5)])
def test_another_repetition_time(tr_s, wanted):
    """A slow wave keeps its values at its times."""
    n = 400
    x = 500 + np.sin(2 * np.pi * 0.02 * np.arange(n) * tr_s)[:, None]
    (y,), flow = staged(recording([x], rate_hz=1 / tr_s), {"name": "resample", "tr_s": wanted})
    assert flow.info.rate_hz == pytest.approx(1 / wanted, rel=1e-12)
    assert len(y) == int(np.ceil(n * tr_s / wanted - 1e-9))
    expected = 500 + np.sin(2 * np.pi * 0.02 * np.arange(len(y)) * wanted)
    inner = slice(60, -60)
    np.testing.assert_allclose(y[inner, 0], expected[inner], atol=3e-3)


def test_resample_takes_one_of_rate_and_time():
    for choices in ({}, {"rate_hz": 1.0, "tr_s": 1.0}):
        with pytest.raises(ConfigError, match="one of the two"):
            STAGES.build("resample", **choices)
    with pytest.raises(ConfigError, match="tr_s is 0"):
        STAGES.build("resample", tr_s=0)
