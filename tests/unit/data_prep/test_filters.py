"""Filters and resampling against mne and scipy on the whole array, for any size of blocks.

"Equal" is max |difference| / max |reference| under float32's rounding, 2⁻²⁴; what streams is compared in float64.
"""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, resample_poly, sosfilt, sosfilt_zi, sosfiltfilt

from data_prep.flow import block_samples, build_stages, run_stages
from data_prep.running.threads import spread, threads
from data_prep.stages import STAGES
from data_prep.stages.base import SignalInfo
from data_prep.stages.iir import reach
from data_prep.stages.resample import anti_alias_kernel
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Recording, Stream

FLOAT32 = 2.0**-24


def channels(n: int) -> tuple[Channel, ...]:
    return tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(n))


def run(stage, x: np.ndarray, rate_hz: float, cuts: list[int] | None = None) -> np.ndarray:
    stage.start(SignalInfo(rate_hz=rate_hz, channels=channels(x.shape[1])))
    out = [stage.push(b) for b in np.split(x, sorted(cuts or []))]
    rest = stage.flush()
    return np.concatenate([*out, *([] if rest is None else [rest])])


def walk(n: int, seed: int = 0, offset: float = 4000.0) -> np.ndarray:
    """An offset, a drift and noise."""
    rng = np.random.default_rng(seed)
    return offset + np.cumsum(rng.standard_normal((n, 2)), axis=0) / 5 + 10 * rng.standard_normal((n, 2))


def assert_equal(y: np.ndarray, oracle: np.ndarray, within: float = FLOAT32) -> None:
    assert y.shape == oracle.shape
    assert np.abs(y - oracle).max() <= within * np.abs(oracle).max()


CUTS = st.lists(st.integers(0, 6000), max_size=10)


@pytest.mark.parametrize(
    ("low", "high"), [(None, 30.0), (1.0, None), (4.0, 40.0), (0.5, 20.0), (0.7, 33.0), (2.0, 5.3)]
)
@settings(max_examples=8, deadline=None)
@given(cuts=CUTS)
def test_fir_is_mnes_on_the_whole_array(low, high, cuts):
    rate, x = 250.0, walk(6000)
    y = run(STAGES.build("filter", low_hz=low, high_hz=high), x, rate, cuts)
    oracle = mne.filter.filter_data(
        x.T.copy(), rate, low, high, pad="reflect_limited", fir_design="firwin", verbose="error"
    ).T
    assert_equal(y, oracle)


@pytest.mark.parametrize("rate", [250.0, 333.0, 1000.0])
@settings(max_examples=8, deadline=None)
@given(cuts=CUTS)
def test_notch_is_mnes_on_the_whole_array(rate, cuts):
    x = walk(6000)
    y = run(STAGES.build("notch", line_hz=50, harmonics=2), x, rate, cuts)
    # mne halves trans_bandwidth between the flanks
    oracle = mne.filter.notch_filter(
        x.T.copy(), rate, [50, 100], notch_widths=1.0, trans_bandwidth=3.0, pad="reflect_limited", verbose="error"
    ).T
    assert_equal(y, oracle)


@pytest.mark.parametrize("rates", [(256.0, 100.0), (1024.0, 200.0), (112.5, 100.0), (100.0, 256.0), (1 / 0.72, 1.0)])
@settings(max_examples=8, deadline=None)
@given(cuts=CUTS, n=st.integers(5900, 6100))
def test_resampling_is_mnes_and_scipys_on_the_whole_array(rates, cuts, n):
    rate, wanted = rates
    x = walk(n)
    y = run(STAGES.build("resample", rate_hz=wanted), x, rate, cuts)
    with pytest.MonkeyPatch.context() as patch:
        # a ratio of large numbers has no matrix and is walked through
        patch.setattr("data_prep.stages.resample.LARGEST_BANK", 0)
        assert_equal(run(STAGES.build("resample", rate_hz=wanted), x, rate, cuts), y, within=1e-12)
    stage = STAGES.build("resample", rate_hz=wanted)
    stage.start(SignalInfo(rate_hz=rate, channels=channels(2)))
    up, down = stage._up, stage._down
    kernel = anti_alias_kernel(up, down, 0.16, 60.0) / up
    # odd reflection is "antireflect" in scipy; the signals are longer than the reflection
    oracle = resample_poly(x, up, down, axis=0, window=kernel, padtype="antireflect")
    assert_equal(y, oracle)
    if n * up % down == 0:
        by_mne = mne.filter.resample(x.T, up, down, method="polyphase", window=kernel, pad="antireflect").T
        assert_equal(y, by_mne)


BANDS = [(0.5, 40.0, 4), (None, 30.0, 2), (0.3, None, 3), (8.0, 12.0, 4), (1.0, None, 1), (49.0, 51.0, 4)]


@pytest.mark.parametrize(("low", "high", "order"), BANDS)
@settings(max_examples=6, deadline=None)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=10), seed=st.integers(0, 3))
def test_zero_phase_iir_is_scipys_on_the_whole_array_edges_included(low, high, order, cuts, seed):
    rate, x = 250.0, walk(40_000, seed)
    edges = [e for e in (low, high) if e is not None]
    kind = "bandpass" if len(edges) == 2 else "lowpass" if low is None else "highpass"
    sos = butter(order, edges if len(edges) == 2 else edges[0], kind, fs=rate, output="sos")
    y = run(STAGES.build("iir", low_hz=low, high_hz=high, order=order), x, rate, cuts)
    assert_equal(y, sosfiltfilt(sos, x, axis=0))


def test_zero_phase_iir_has_the_same_bits_for_any_blocks():
    x = walk(30_000)
    whole = run(STAGES.build("iir", low_hz=1.0), x, 250.0)
    assert np.array_equal(whole, run(STAGES.build("iir", low_hz=1.0), x, 250.0, [1, 2, 777, 9000, 29_999]))


def test_zero_phase_iir_looks_ahead_until_its_answer_is_forgotten():
    for low, high, order in BANDS:
        edges = [e for e in (low, high) if e is not None]
        kind = "bandpass" if len(edges) == 2 else "lowpass" if low is None else "highpass"
        sos = butter(order, edges if len(edges) == 2 else edges[0], kind, fs=250.0, output="sos")
        impulse = np.zeros(100_000)
        impulse[0] = 1.0
        answer = np.abs(sosfilt(sos, impulse))
        assert answer[reach(sos) :].max() < 1e-7


@settings(max_examples=20, deadline=None)
@given(cuts=CUTS)
def test_causal_iir_is_scipys_to_the_bit(cuts):
    x = walk(6000)
    stage = STAGES.build("iir", low_hz=1.0, high_hz=40.0, phase="causal")
    sos = butter(4, (1.0, 40.0), "bandpass", fs=250.0, output="sos")
    oracle = np.stack([sosfilt(sos, c, zi=sosfilt_zi(sos) * c[0])[0] for c in x.T], axis=1)
    assert np.array_equal(run(stage, x, 250.0, cuts), oracle)


def test_causal_iir_does_not_see_the_future_and_says_so():
    x = walk(3000)
    causal = STAGES.build("iir", low_hz=1.0, phase="causal")
    y = run(causal, x, 250.0)
    changed = x.copy()
    changed[2000:] += 1e3
    assert np.array_equal(run(causal, changed, 250.0)[:2000], y[:2000])
    assert causal.causal
    assert causal.delay_s == 0
    assert not STAGES.build("iir", low_hz=1.0).causal


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "iir", "low_hz": 1.0, "high_hz": 40.0},
        {"name": "filter", "low_hz": 1.0},
        {"name": "notch", "line_hz": 50},
        {"name": "resample", "rate_hz": 100},
    ],
    ids=lambda e: e["name"],
)
def test_delay_is_how_long_a_sample_is_held_at_most(entry):
    (stage,) = build_stages([entry])
    x = walk(60_000)
    info = stage.start(SignalInfo(rate_hz=250.0, channels=channels(2)))
    done = seen = 0
    for block in np.split(x, range(250, 60_000, 250)):
        done += len(stage.push(block))
        seen += len(block)
        assert seen / 250.0 - done / info.rate_hz <= stage.delay_s + 1.0 + 2 / info.rate_hz
    rest = stage.flush()
    assert done + len(rest) == round(60_000 * info.rate_hz / 250)


@pytest.mark.parametrize(
    "entry", [{"name": "iir", "low_hz": 1.0}, {"name": "filter", "low_hz": 1.0}, {"name": "resample", "rate_hz": 100}]
)
def test_a_stage_begins_each_interval_anew(entry):
    rate = 250.0
    arrays = [walk(n, seed) for seed, n in enumerate((9000, 2 * block_samples(rate) + 5, 3000))]
    stream = Stream.from_arrays(arrays, rate_hz=rate, channels=channels(2))
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=(0.0, 100.0, 200.0))
    flow = run_stages(rec, build_stages([entry]))
    for i, x in enumerate(arrays):
        alone = run(build_stages([entry])[0], x, rate)
        assert_equal(np.concatenate([*flow.blocks(i, 0, None)]), alone, within=1e-11)


def test_iir_refuses_what_it_cannot_do():
    with pytest.raises(DataError, match="too short"):
        run(STAGES.build("iir", low_hz=1.0), np.zeros((12, 1)), 100.0)
    with pytest.raises(DataError, match="low_hz 60"):
        run(STAGES.build("iir", low_hz=60.0), np.zeros((99, 1)), 100.0)
    for choices in (
        {},
        {"low_hz": 5, "high_hz": 4},
        {"low_hz": 0},
        {"low_hz": 1, "phase": "linear"},
        {"low_hz": 1, "order": 0},
    ):
        with pytest.raises(ConfigError, match="iir"):
            STAGES.build("iir", **choices)
    assert len(run(STAGES.build("iir", low_hz=1.0), np.zeros((16, 1)), 100.0)) == 16


@pytest.mark.parametrize("entry", [{"name": "filter", "low_hz": 1.0}, {"name": "resample", "rate_hz": 100}])
def test_threads_change_no_bit(entry):
    x = np.tile(walk(20_000), (1, 20))
    alone = run(build_stages([entry])[0], x, 250.0, [9000])
    with threads(3):
        assert np.array_equal(run(build_stages([entry])[0], x, 250.0, [9000]), alone)


def test_what_fails_in_a_thread_fails():
    def work(part: int) -> None:
        raise DataError(f"part {part}")

    with threads(2), pytest.raises(DataError, match="part 0"):
        spread(work, range(3))


def test_a_piece_too_short_for_the_filter_costs_only_itself():
    arrays = [walk(n, seed) for seed, n in enumerate((300, 5000, 20))]
    stream = Stream.from_arrays(arrays, rate_hz=100.0, channels=channels(2))
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=(0.0, 10.0, 70.0))
    flow = run_stages(rec, build_stages([{"name": "filter", "low_hz": 0.5}]))
    assert [(i.source, i.start_s) for i in flow.intervals] == [(1, 10.0)]
    assert flow.figures["too_short_s"] == 3.2
    alone = run(build_stages([{"name": "filter", "low_hz": 0.5}])[0], arrays[1], 100.0)
    assert_equal(np.concatenate([*flow.blocks(0, 0, None)]), alone, within=1e-11)
