"""Planted faults are found and nothing else; the measures against numpy on the whole array."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from data_prep.flow import build_stages, run_stages
from data_prep.stages import STAGES
from data_prep.stages.bad_channels import robust_z
from data_prep.stages.base import SignalInfo
from data_prep.stages.measures import Measures
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Recording, Stream

RATE = 256.0


def channels(n: int, kind: str = "eeg") -> tuple[Channel, ...]:
    return tuple(Channel(name=f"{kind}{i}", kind=kind, unit="uV") for i in range(n))


def brain(n: int = 60_000, n_channels: int = 16, seed: int = 0) -> np.ndarray:
    """Slow common sources seen by all, a little noise in each, amplitudes that differ somewhat."""
    rng = np.random.default_rng(seed)
    low = butter(4, 30, fs=RATE, output="sos")
    sources = sosfiltfilt(low, rng.standard_normal((n, 4)), axis=0)
    x = sources @ rng.uniform(0.5, 1, (4, n_channels)) + 0.15 * rng.standard_normal((n, n_channels))
    return 4000 + 20 * x * rng.uniform(0.9, 1.1, n_channels)


def judged(x: np.ndarray, chans=None, lengths=None, **choices):
    chans = chans or channels(x.shape[1])
    arrays = np.split(x, np.cumsum(lengths or []))
    starts = tuple(1000.0 * i for i in range(len(arrays)))
    stream = Stream.from_arrays(arrays, rate_hz=RATE, channels=chans)
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=starts)
    flow = run_stages(rec, build_stages([{"name": "bad_channels", **choices}]))
    assert np.array_equal(np.concatenate([np.concatenate([*flow.blocks(i, 0, None)]) for i in range(len(arrays))]), x)
    return {c.name: c.reason for c in flow.info.channels if c.bad}, flow.figures


@pytest.mark.parametrize("seed", range(5))
def test_good_channels_are_good(seed):
    bad, figures = judged(brain(seed=seed))
    assert bad == {}
    assert figures["spread_eeg"] > 0


def planted(fault: str) -> np.ndarray:
    x, rng = brain(), np.random.default_rng(9)
    n = len(x)
    if fault == "flat":
        x[n // 3 :, 5] = x[n // 3, 5]
    elif fault == "clipped":
        x[:, 5] = np.clip(x[:, 5], np.quantile(x[:, 5], 0.02), None)
    elif fault == "deviating":
        x[:, 5] = 4000 + 12 * (x[:, 5] - 4000)
    elif fault == "weak":
        x[:, 5] = 4000 + 0.02 * (x[:, 5] - 4000)
    elif fault == "noisy":
        x[:, 5] += 25 * rng.standard_normal(n) * (np.arange(n) % 2 * 2 - 1)
    elif fault == "uncorrelated":
        alone = sosfiltfilt(butter(4, 30, fs=RATE, output="sos"), rng.standard_normal(n))
        x[:, 5] = 4000 + alone * x[:, 0].std() / alone.std()
    return x


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("flat", "flat in 66.2 %"),
        ("clipped", "clipped in 1.6 %"),
        ("deviating", "amplitude"),
        ("weak", "amplitude"),
        ("noisy", "noise above 50 Hz"),
        ("uncorrelated", "correlates with no other"),
    ],
)
def test_planted_faults_are_found(fault, words):
    bad, figures = judged(planted(fault))
    assert list(bad) == ["eeg5"]
    assert words in bad["eeg5"]
    assert figures[f"bad_{'deviating' if fault == 'weak' else fault}"] == 1


def test_faults_are_found_in_trials_too():
    bad, _ = judged(planted("noisy"), lengths=[400] * 140)
    assert list(bad) == ["eeg5"]
    assert judged(brain(), lengths=[400] * 140)[0] == {}
    # shorter than the filter that tells noise apart
    assert judged(brain(2000), lengths=[20] * 99, min_correlation=None)[0] == {}


@pytest.mark.parametrize("fault", ["flat", "clipped", "deviating", "noisy", "uncorrelated"])
def test_each_criterion_can_be_left_out(fault):
    choices = {"max_flat": None, "max_clipped": None, "max_deviation": None, "max_noise": None, "min_correlation": None}
    own = {"flat": "max_flat", "clipped": "max_clipped", "deviating": "max_deviation", "noisy": "max_noise"}
    assert judged(planted(fault), **choices)[0] == {}
    del choices[own.get(fault, "min_correlation")]
    assert list(judged(planted(fault), **choices)[0]) == ["eeg5"]


def test_a_moment_in_which_the_amplifier_stood_still_is_no_channels_fault():
    x = brain()
    x[10_000:50_000] = x[10_000]
    assert judged(x, max_clipped=None, max_deviation=None, max_noise=None)[0] == {}
    # …nor after a filter, which leaves rounding in the place of nothing
    stream = Stream.from_arrays([x], rate_hz=RATE, channels=channels(16))
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,))
    stages = [{"name": "filter", "low_hz": 1.0}, {"name": "bad_channels", "max_clipped": None, "max_deviation": None}]
    assert not any(c.bad for c in run_stages(rec, build_stages(stages)).info.channels)


def test_kinds_are_judged_each_by_itself():
    x = np.concatenate([brain(n_channels=6), 4000 + 30 * (brain(n_channels=6, seed=1) - 4000)], axis=1)
    chans = (*channels(6), *channels(6, "seeg"))
    assert judged(x, chans)[0] == {}
    # contacts in the depth need not be alike
    alone = 4000 + 20 * np.random.default_rng(0).standard_normal((60_000, 6))
    assert judged(alone, channels(6, "seeg"))[0] == {}
    assert len(judged(alone[:, :5], channels(5), max_uncorrelated=1.0)[0]) == 0
    with pytest.raises(DataError, match="all 6 channels are bad"):
        judged(alone, channels(6))


def test_what_the_source_marked_bad_does_not_decide():
    x = brain()
    x[:, :6] = 4000 + 50 * (x[:, :6] - 4000)
    chans = channels(16)
    marked = tuple(
        Channel(name=c.name, kind="eeg", unit="uV", bad=i < 6, reason="hand" * (i < 6)) for i, c in enumerate(chans)
    )
    bad, _ = judged(x, marked)
    assert bad == {f"eeg{i}": "hand" for i in range(6)}


def test_missing_values_are_refused():
    x = brain(3000)
    x[7, 0] = np.nan
    with pytest.raises(DataError, match="'quality' first"):
        judged(x)


def test_known_channels_need_no_survey():
    stage = STAGES.build("bad_channels", known=["eeg1"])
    assert not stage.surveys
    info = stage.start(SignalInfo(rate_hz=RATE, channels=channels(3)))
    assert [c.bad for c in info.channels] == [False, True, False]


def test_measures_are_those_of_the_whole_array():
    x = planted("clipped")[:30_000]
    measures = Measures(SignalInfo(rate_hz=RATE, channels=channels(16)), window_s=1.0, least=0.4)
    for block in np.split(x, [1, 100, 9999, 20_000]):
        measures.push(block, 0)
    got = measures.result()
    assert np.allclose(got.spread, 0.7413 * np.subtract(*np.quantile(x, [0.75, 0.25], axis=0)), rtol=1e-3)
    stage = STAGES.build("filter", high_hz=50)
    stage.start(SignalInfo(rate_hz=RATE, channels=channels(16)))
    low = np.concatenate([stage.push(x), stage.flush()])
    part = [np.subtract(*np.quantile(v, [0.75, 0.25], axis=0)) for v in (x - low, low)]
    assert np.allclose(got.noise, part[0] / part[1], rtol=3e-3)
    least = x[:, 5].min()
    assert got.clipped[5] == pytest.approx(
        sum(x[i, 5] == least and least in x[[max(i - 1, 0), min(i + 1, len(x) - 1)], 5] for i in range(len(x))) / len(x)
    )
    windows = low[: len(low) // 256 * 256].reshape(-1, 256, 16)
    best = [np.quantile(np.delete(np.abs(np.corrcoef(w.T)), 3, axis=1)[3], 0.98) for w in windows]
    measures = Measures(SignalInfo(rate_hz=RATE, channels=channels(16)), window_s=1.0, least=float(np.median(best)))
    measures.push(x, 0)
    assert measures.result().uncorrelated[3] == pytest.approx(0.5, abs=0.02)


def test_robust_z():
    assert robust_z(np.array([1.0, 1.0, 1.0, 1.0, 9.0])).tolist() == pytest.approx([0, 0, 0, 0, 80])
    assert robust_z(np.zeros(5)).tolist() == [0] * 5
    z = robust_z(np.array([np.nan, 1.0, 2.0, 3.0, 4.0, 100.0]))
    assert z[0] == 0
    assert z[-1] == pytest.approx((100 - 3) / (0.7413 * 2))
    assert robust_z(np.array([10, 10.01, 10.02, 10.03, 10.5])).max() < 0.6


def test_choices_are_checked():
    for choices in ({"max_flat": -1}, {"window_s": 0}, {"max_noise": float("nan")}):
        with pytest.raises(ConfigError, match="bad_channels"):
            STAGES.build("bad_channels", **choices)
