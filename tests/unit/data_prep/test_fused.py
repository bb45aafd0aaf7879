"""Filters fused into one convolution give what they give one after the other, edges included, however it is cut."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from data_prep.flow import build_stages, run_stages
from data_prep.stages.base import SignalInfo
from data_prep.stages.fused import Fused, fused
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Recording, Stream

RATE = 200.0
ROWS = {
    "notch and high-pass": [{"name": "notch", "line_hz": 50, "harmonics": 1}, {"name": "filter", "low_hz": 1.0}],
    "two notches and a band": [
        {"name": "notch", "line_hz": 50}, {"name": "notch", "line_hz": 60}, {"name": "filter", "low_hz": 1, "high_hz": 40},
    ],
    "long before short": [{"name": "filter", "low_hz": 0.8}, {"name": "filter", "high_hz": 30.0}],
}  # fmt: skip


def signal(n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.array([4000.0, 0.0, -1e5]) + rng.standard_normal((n, 3)).cumsum(axis=0)
    return x + 30 * np.sin(2 * np.pi * 50 * np.arange(n) / RATE)[:, None]


def info() -> SignalInfo:
    return SignalInfo(rate_hz=RATE, channels=tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(3)))


def one_after_the_other(stages, x):
    for s in stages:
        s.start(info())
        x = np.concatenate([s.push(x), s.flush()])
    return x


def in_one(stages, x, cuts):
    stage = Fused(stages)
    stage.start(info())
    parts = [stage.push(b) for b in np.split(x, cuts)]
    rest = stage.flush()
    return np.concatenate([*parts, rest])


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("cuts", [[], [1], [700, 5000, 5001, 5400], list(range(97, 9000, 97))])
def test_it_is_the_stages_one_after_the_other(row, cuts):
    x = signal(9000)
    y, expected = in_one(build_stages(row), x, cuts), one_after_the_other(build_stages(row), x)
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-10 * np.abs(x).max()


@pytest.mark.parametrize("more", [-1, 0, 1, 2, 97])
def test_around_the_length_at_which_both_ends_have_room(more):
    row = ROWS["notch and high-pass"]
    stages = build_stages(row)
    stage = Fused(stages)
    stage.start(info())
    x = signal(4 * round(stage.delay_s * RATE) + more)
    for cuts in ([], [len(x) - 1], [400, 401]):
        y, expected = in_one(stages, x, cuts), one_after_the_other(build_stages(row), x)
        assert np.abs(y - expected).max() <= 1e-10 * np.abs(x).max()


def test_it_begins_anew_and_too_short_is_told_as_by_the_stages():
    stage = Fused(build_stages(ROWS["notch and high-pass"]))
    for seed in (1, 2):
        x = signal(5000, seed)
        stage.start(info())
        y = np.concatenate([stage.push(x), stage.flush()])
        expected = one_after_the_other(build_stages(ROWS["notch and high-pass"]), x)
        assert np.abs(y - expected).max() <= 1e-10 * np.abs(x).max()
    stage.start(info())
    assert stage.flush() is None
    stage.start(info())
    stage.push(signal(100))
    with pytest.raises(DataError, match="too short for a filter"):
        stage.flush()
    assert stage.shortest_s == max(s.shortest_s for s in stage.stages)


def test_only_neighbours_are_fused():
    stages = build_stages(
        [{"name": "quality"}, *ROWS["long before short"], {"name": "rereference"}, {"name": "filter", "low_hz": 1.0}]
    )
    assert [type(s).__name__ for s in fused(stages)] == ["Quality", "Fused", "Rereference", "Filter"]
    assert fused([]) == []


def test_a_flow_is_still_mnes(tmp_path):
    x = signal(12_000) * 1e-6
    raw = mne.io.RawArray(x.T.copy(), mne.create_info(3, RATE, "eeg"), verbose="error")
    raw.notch_filter([50.0], notch_widths=1.0, trans_bandwidth=3.0, verbose="error")
    raw.filter(1.0, None, l_trans_bandwidth=0.5, verbose="error")
    stream = Stream.from_arrays([x * 1e6], rate_hz=RATE, channels=info().channels)
    rec = Recording(dataset="d", subject="s", modality="eeg", streams=(stream,))
    stages = build_stages(
        [{"name": "notch", "line_hz": 50, "harmonics": 1}, {"name": "filter", "low_hz": 1.0, "low_transition_hz": 0.5}]
    )
    y = np.concatenate(list(run_stages(rec, stages).blocks(0, 0, None)))
    theirs = 1e6 * raw.get_data().T
    assert np.abs(y - theirs).max() < 1e-5 * np.ptp(theirs, axis=0).max()
