"""Stages against scipy and mne on the whole array, and block by block against one push."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import firwin, resample_poly

from data_prep.flow import build_stages, run_stages
from data_prep.stages import STAGES
from data_prep.stages.base import SignalInfo
from data_prep.stages.quality import runs_of
from data_prep.stages.resample import anti_alias_kernel, ratio_of
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Recording, Stream


def channels(n: int, kind: str = "eeg", unit: str = "uV") -> tuple[Channel, ...]:
    return tuple(Channel(name=f"c{i}", kind=kind, unit=unit) for i in range(n))


def run(
    stage, x: np.ndarray, rate_hz: float, cuts: list[int] | None = None, chans=None
) -> tuple[np.ndarray, SignalInfo]:
    info = stage.start(SignalInfo(rate_hz=rate_hz, channels=chans or channels(x.shape[1])))
    out = [stage.push(b) for b in np.split(x, cuts or [])]
    rest = stage.flush()
    return np.concatenate([*out, *([] if rest is None else [rest])]), info


def recording(arrays: list[np.ndarray], rate_hz: float = 100.0, chans=None, **rest) -> Recording:
    stream = Stream.from_arrays(arrays, rate_hz=rate_hz, channels=chans or channels(arrays[0].shape[1]))
    starts = tuple(100.0 * i for i in range(len(arrays)))
    return Recording(dataset="d", subject="s", modality="eeg", streams=(stream,), interval_start_s=starts, **rest)


def staged(rec: Recording, *stages: dict) -> tuple[list[np.ndarray], object]:
    flow = run_stages(rec, build_stages(stages))
    return [np.concatenate([*flow.blocks(i, 0, None)]) for i in range(len(flow.intervals))], flow


STREAMING = [
    {"name": "resample", "rate_hz": 100},
    {"name": "resample", "rate_hz": 64},
    {"name": "resample", "rate_hz": 300},
    {"name": "resample", "rate_hz": 61.7381},
    {"name": "filter", "low_hz": 2, "high_hz": 30},
    {"name": "filter", "high_hz": 20},
    {"name": "notch", "line_hz": 50, "transition_hz": 3},
    {"name": "rereference"},
    {"name": "demean", "baseline_s": 0.5},
]


@pytest.mark.parametrize("entry", STREAMING, ids=lambda e: "-".join(str(v) for v in e.values()))
@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 1500), max_size=12), seed=st.integers(0, 5))
def test_block_by_block_equals_the_whole(entry, cuts, seed):
    x = 4000 + 10 * np.random.default_rng(seed).standard_normal((1500, 3))
    (stage,) = build_stages([entry])
    whole, _ = run(stage, x, 256.0)
    parts, _ = run(stage, x, 256.0, sorted(cuts))
    assert parts.shape == whole.shape
    assert np.abs(parts - whole).max() <= 1e-9 * 4000


@settings(max_examples=80, deadline=None)
@given(
    n=st.integers(1, 700),
    rates=st.sampled_from([(112.5, 100), (400, 100), (256, 100), (128, 100), (1000, 250), (100, 256), (1 / 0.72, 1.0)]),
)
def test_resample_is_scipys_polyphase_and_its_length_is_exact(n, rates):
    rate, wanted = rates
    x = np.random.default_rng(n).standard_normal((n, 2))
    stage = STAGES.build("resample", rate_hz=wanted)
    y, info = run(stage, x, rate)
    ratio = ratio_of(rate, wanted)
    up, down = ratio.numerator, ratio.denominator
    assert info.rate_hz == wanted
    assert len(y) == -(-n * up // down)
    # oracle: scipy on the signal lengthened by hand, with the same kernel, cut back
    kernel = anti_alias_kernel(up, down, 0.16, 60.0) / up
    pad = -(-(len(kernel) // 2) // up)
    pad = -(-pad // down) * down
    left = [2 * x[0] - x[k] if k < n else None for k in range(pad, 0, -1)]
    right = [2 * x[-1] - x[n - 1 - k] if k < n else None for k in range(1, pad + 1)]
    far_left, far_right = (2 * x[0] - x[-1], 2 * x[-1] - x[0]) if n > 1 else (x[0], x[-1])
    longer = np.stack(
        [far_left if v is None else v for v in left] + [*x] + [far_right if v is None else v for v in right]
    )
    oracle = resample_poly(longer, up, down, axis=0, window=kernel)
    skip = pad * up // down
    assert np.abs(y - oracle[skip : skip + len(y)]).max() < 1e-9


def test_resample_keeps_a_sine_in_place_and_drops_what_would_alias():
    t_in, t_out = np.arange(4000) / 400, np.arange(1000) / 100
    stage = STAGES.build("resample", rate_hz=100)
    for hz in (3.0, 20.0, 41.0):
        y, _ = run(stage, np.sin(2 * np.pi * hz * t_in)[:, None], 400.0)
        assert np.abs(y[100:-100, 0] - np.sin(2 * np.pi * hz * t_out)[100:-100]).max() < 2e-3
    y, _ = run(stage, np.sin(2 * np.pi * 60 * t_in)[:, None], 400.0)
    assert np.abs(y[100:-100]).max() < 2e-3


def test_resample_has_sane_edges_on_an_offset():
    x = 4200 + np.random.default_rng(0).standard_normal((128, 1))
    y, _ = run(STAGES.build("resample", rate_hz=100), x, 128.0)
    assert np.abs(y - 4200).max() < 6


@pytest.mark.parametrize("rates", [(600.614990234375, 512.0), (2034.5051, 200.0), (399.99961, 100.0), (99.3012, 256.0)])
def test_rates_whose_ratio_is_of_no_small_integers_are_resampled_on_the_clock(rates):
    """Oracles: the sine itself an hour later, the exact count, and scipy with the nearest large ratio on a short span."""
    rate, wanted = rates
    assert ratio_of(rate, wanted) is None
    n = 40_000
    t_in = np.arange(n) / rate
    stage = STAGES.build("resample", rate_hz=wanted)
    hz = 0.3 * min(rates)
    y, info = run(stage, np.sin(2 * np.pi * hz * t_in)[:, None], rate, [7, 5000, 5001, 23_456])
    assert info.rate_hz == wanted
    assert len(y) == int(np.ceil(n * wanted / rate))
    t_out = np.arange(len(y)) / wanted
    inner = slice(200, -200)
    assert np.abs(y[inner, 0] - np.sin(2 * np.pi * hz * t_out)[inner]).max() < 2e-3
    if wanted < rate:  # what would alias is gone
        y, _ = run(stage, np.sin(2 * np.pi * 0.6 * wanted * t_in)[:, None], rate)
        assert np.abs(y[inner]).max() < 2e-3
    near = Fraction(wanted / rate).limit_denominator(4000)
    x = np.cumsum(np.random.default_rng(0).standard_normal((3000, 2)), axis=0)
    kernel = anti_alias_kernel(near.numerator, near.denominator, 0.16, 60.0) / near.numerator
    oracle = resample_poly(x, near.numerator, near.denominator, axis=0, window=kernel, padtype="antireflect")
    y, _ = run(stage, x, rate)
    n = min(len(y), len(oracle))
    assert np.abs(y[:n] - oracle[:n]).max() < 5e-3 * np.ptp(x)
    y, _ = run(stage, np.full((3000, 1), 4200.0), rate)
    assert np.abs(y - 4200).max() < 1e-6 * 4200, "an offset comes out as itself"


def test_filter_is_scipys_convolution_with_reflected_edges():
    x = np.random.default_rng(0).standard_normal((900, 2))
    y, _ = run(STAGES.build("filter", high_hz=20.0), x, 200.0)
    kernel = firwin(int(np.ceil(3.3 / 5 * 200)) | 1, 22.5, window="hamming", fs=200)
    half = len(kernel) // 2
    padded = np.pad(x, ((half, half), (0, 0)), mode="reflect", reflect_type="odd")
    oracle = np.stack([np.convolve(c, kernel, mode="valid") for c in padded.T], axis=1)
    assert np.abs(y - oracle).max() < 1e-12


def test_filter_removes_an_offset_exactly():
    y, _ = run(STAGES.build("filter", low_hz=1.0), np.full((2000, 1), 4200.0), 100.0)
    assert np.abs(y).max() < 1e-8


def test_filter_rejects_trials_shorter_than_itself():
    with pytest.raises(DataError, match="too short"):
        run(STAGES.build("filter", low_hz=0.5), np.zeros((50, 1)), 100.0)


def test_filter_rejects_an_edge_beyond_nyquist():
    with pytest.raises(DataError, match="high_hz 60"):
        run(STAGES.build("filter", high_hz=60), np.zeros((50, 1)), 100.0)


def test_notch_stops_the_line_and_its_harmonics_only():
    t = np.arange(20_000) / 1000
    for hz, gain in ((50, 0), (100, 0), (150, 0), (200, 1), (45, 1), (10, 1)):
        y, _ = run(STAGES.build("notch", line_hz=50, harmonics=3), np.sin(2 * np.pi * hz * t)[:, None], 1000.0)
        assert np.sqrt(2) * y[3000:-3000].std() == pytest.approx(gain, abs=0.01)


def test_rereference_uses_good_channels_of_each_kind():
    chans = (*channels(3, "ecog"), *(replace(c, name=f"d{c.name}") for c in channels(1, "dbs")), Channel(name="m"))
    chans = (replace(chans[0], bad=True), *chans[1:])
    x = np.random.default_rng(0).standard_normal((40, 5))
    y, info = run(STAGES.build("rereference"), x, 100.0, chans=chans)
    mean = (x[:, 1] + x[:, 2]) / 2
    assert np.allclose(y[:, :3], x[:, :3] - mean[:, None])
    assert np.array_equal(y[:, 3:], x[:, 3:])
    assert [c.reference for c in info.channels] == ["average"] * 3 + [""] * 2


def test_demean_takes_each_interval_by_itself():
    arrays = [np.random.default_rng(i).standard_normal((n, 2)) + 100 * i for i, n in enumerate((30, 9000, 7))]
    out, _ = staged(recording(arrays), {"name": "demean"})
    assert all(np.allclose(o, a - a.mean(axis=0)) for o, a in zip(out, arrays, strict=True))


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_unit_repair_undoes_any_power_of_1000(factor):
    x = np.random.default_rng(0).standard_normal((3000, 4)) * 35
    out, flow = staged(recording([x * factor], chans=channels(4, "ecog")), {"name": "unit_repair"})
    assert np.allclose(out[0], x, rtol=1e-12)
    assert flow.figures.get("unit_factor_ecog", 1.0) == pytest.approx(1 / factor)
    assert all(("implausible" in c.reason) == (factor != 1) and not c.bad for c in flow.info.channels)


def test_unit_repair_is_not_misled_by_drift_artifacts_and_dead_channels():
    rng = np.random.default_rng(0)
    x = 10 * rng.standard_normal((4000, 6)) + np.linspace(0, 1e5, 4000)[:, None]
    x[1000:1100] += 1e7
    x[:, 0] = 0
    _, flow = staged(recording([x]), {"name": "unit_repair"})
    assert "unit_factor_eeg" not in flow.figures


def test_unit_repair_rejects_what_no_factor_explains_or_when_told_to():
    x = np.random.default_rng(0).standard_normal((3000, 2))
    with pytest.raises(DataError, match="standard deviation of"):
        staged(recording([x * 1e30]), {"name": "unit_repair"})
    with pytest.raises(DataError, match="unit"):
        staged(recording([x * 1e7]), {"name": "unit_repair", "policy": "reject"})


def test_quality_marks_flat_and_missing_channels_and_cuts_gaps():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 4))
    x[:, 1] = 7.0
    x[100:700, 2] = np.nan
    x[400:410, 0] = np.inf
    out, flow = staged(recording([x]), {"name": "quality", "min_piece_s": 1.0})
    assert [c.bad for c in flow.info.channels] == [False, True, True, False]
    assert "flat at 7" in flow.info.channels[1].reason
    assert "60.0 %" in flow.info.channels[2].reason
    assert [len(o) for o in out] == [400, 590]
    assert [i.start_s for i in flow.intervals] == [0.0, 4.1]
    assert all(np.isfinite(o).all() for o in out)
    assert np.array_equal(np.concatenate(out)[:, 0], np.delete(x[:, 0], slice(400, 410)))
    assert flow.figures["gaps"] == 1
    assert flow.figures["dropped"] == pytest.approx(0.01)


def test_quality_drops_short_pieces_but_never_whole_trials():
    x = np.random.default_rng(0).standard_normal((50, 2))
    holed = x.copy()
    holed[2] = np.nan
    out, flow = staged(recording([x, holed, x]), {"name": "quality"})
    assert [len(o) for o in out] == [50, 50]
    assert [i.source for i in flow.intervals] == [0, 2]


def test_quality_rejects_when_nothing_is_left():
    with pytest.raises(DataError, match="all 2 channels are bad"):
        staged(recording([np.zeros((50, 2))]), {"name": "quality"})
    with pytest.raises(DataError, match="no finite value"):
        staged(recording([np.full((50, 2), np.nan)]), {"name": "quality"})


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_quality_names_a_single_channel_in_another_unit_and_leaves_it_alone(factor):
    rng = np.random.default_rng(0)
    x = 20 * rng.standard_normal((3000, 6)) * [1, 0.3, 3, 1, 5, 0.2]
    drifting = x + [[0, 0, 0, 1e5, 0, 0]] * np.linspace(0, 1, 3000)[:, None]  # a drift is no scale
    x[:, 2] *= factor
    out, flow = staged(recording([x]), {"name": "unit_repair"}, {"name": "quality"})
    assert [bool(c.reason) for c in flow.info.channels] == [False, False, True, False, False, False]
    assert "times the median of its kind (eeg); check its unit" in flow.info.channels[2].reason
    assert not any(c.bad for c in flow.info.channels)
    assert flow.figures["odd_scale"] == 1
    assert np.array_equal(out[0], x)
    _, flow = staged(recording([drifting]), {"name": "quality"})
    assert flow.figures["odd_scale"] == 0
    # two channels have no usual size, and cells are not alike
    _, flow = staged(recording([x[:, 1:3]]), {"name": "quality"})
    assert "odd_scale" not in flow.figures
    _, flow = staged(recording([x], chans=channels(6, "calcium", "dF/F")), {"name": "quality"})
    assert "odd_scale" not in flow.figures


def test_stages_after_a_gap_see_each_piece_by_itself():
    x = np.random.default_rng(0).standard_normal((4000, 2))
    x[2000:2010] = np.nan
    out, flow = staged(recording([x], 400.0), {"name": "quality"}, {"name": "resample", "rate_hz": 100})
    alone, _ = run(STAGES.build("resample", rate_hz=100), x[2010:], 400.0)
    assert np.allclose(out[1], alone)
    assert flow.intervals[1].start_s == pytest.approx(2010 / 400)


def test_a_pause_of_all_channels_is_a_gap_and_makes_none_of_them_bad():
    """A recorder that stops for a third of the time; one channel lacks a tenth of what the others have."""
    x = np.random.default_rng(0).standard_normal((9000, 3))
    x[3000:6000] = np.nan
    x[6000:6600, 2] = np.nan
    _, flow = staged(recording([x]), {"name": "quality"})
    assert [c.reason for c in flow.info.channels] == ["", "", "10.0 % of the samples are missing"]
    assert [(i.start_s, i.length_s) for i in flow.intervals] == [(0.0, 30.0), (60.0, 30.0)]
    assert flow.figures["missing"] == 0
    _, flow = staged(recording([x[:, :1]]), {"name": "quality"})
    assert flow.figures["gaps"] == 1


@given(st.lists(st.booleans(), max_size=40))
def test_runs_of(mask):
    again = np.zeros(len(mask), bool)
    for a, b in runs_of(np.array(mask, bool)):
        assert b > a
        again[a:b] = True
    assert again.tolist() == mask


def test_wrong_names_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="'resample'"):
        build_stages([{"name": "resampel", "rate_hz": 1}])
    with pytest.raises(ConfigError, match="rate_hz"):
        build_stages([{"name": "resample", "rate": 1}])


@pytest.mark.parametrize("n_samples", [(0,), ()])
def test_empty_recordings_are_refused(n_samples):
    empty = [np.zeros((n, 2)) for n in n_samples] or [np.zeros((0, 2))]
    with pytest.raises(DataError, match="length zero"):
        run_stages(recording(empty), [])


def test_duplicate_channel_names_are_refused():
    with pytest.raises(DataError, match="'c0' occurs 2 times"):
        run_stages(recording([np.zeros((9, 2))], chans=channels(1) * 2), [])


def test_a_file_shorter_than_its_header_is_refused():
    rec = recording([np.zeros((100, 2))])
    short = replace(rec.signal, n_samples=(120,))
    with pytest.raises(DataError, match="shorter than its header"):
        staged(rec.with_signal(short))
