"""Windows lie where they should, to the sample."""

import numpy as np
import pytest

from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.splits.spans import Span
from neurofm.data.windows import (
    event_windows,
    labels_in,
    random_windows,
    sliding,
    trial_windows,
    windows_hash,
)
from neurofm.schema.errors import DataError


def test_sliding_stays_inside_and_starts_on_samples(ramps, shard_maker):
    d = Dataset(ramps)
    windows = sliding(d, whole(d, d.recordings), window_s=4.0, stride_s=1.5)
    per = {r: [w for w in windows if w.recording_id == r] for r in d.recordings}
    assert len(per["sim_sub-1"]) == (200 - 40) // 15 + 1 + (150 - 40) // 15 + 1
    for w in windows:
        assert d.read(w.recording_id, w.start_s, w.n_samples)[0, 0] == np.float32(w.start_s)


def test_sliding_span_over_a_gap_and_off_grid(ramps):
    d = Dataset(ramps)
    windows = sliding(d, [Span("sim_sub-1", 18.03, 32.0)], window_s=1.0)
    assert [round(w.start_s, 6) for w in windows] == [18.1, 30.0, 31.0]
    jittered = sliding(d, [Span("sim_sub-2", 0.0, 2.5)], window_s=1.0, jitter=True)
    assert [w.slack_samples for w in jittered] == [9, 5]


def test_short_span_names_both(ramps):
    with pytest.raises(DataError, match=r"span 0 to 3 s of 'sim_sub-2' holds no window of 5 s .*3 s long"):
        sliding(Dataset(ramps), [Span("sim_sub-2", 0, 3)], window_s=5)
    with pytest.raises(DataError, match="holds no window of 5 s"):
        random_windows(Dataset(ramps), [Span("sim_sub-2", 0, 3)], window_s=5, n_windows=1, seed=0)


def test_random_windows_are_uniform_and_keyed(ramps):
    d = Dataset(ramps)
    spans = [Span("sim_sub-1", 0, 45), Span("sim_sub-2", 39, 40)]
    windows = random_windows(d, spans, window_s=1.0, n_windows=6000, seed=1)
    starts = {(w.recording_id, round(w.start_s * 10)) for w in windows}
    assert starts == {("sim_sub-1", i) for i in [*range(191), *range(300, 441)]} | {("sim_sub-2", 390)}
    assert windows == random_windows(d, spans, window_s=1.0, n_windows=6000, seed=1)
    assert windows_hash(windows) != windows_hash(random_windows(d, spans, window_s=1.0, n_windows=6000, seed=2))


def test_trials_carry_their_label(trials):
    d = Dataset(trials)
    spans = official_parts(d)["train"]
    windows = trial_windows(d, spans, classes=["a", "b", "c"])
    assert [w.target for w in windows] == [i % 3 for i in range(24)]
    assert [w.trial for w in windows] == list(range(24))
    assert {w.n_samples for w in windows} == {20}
    part = trial_windows(d, spans, window_s=0.5, offset_s=0.25)
    assert (part[1].start_s, part[1].n_samples, part[1].target) == (2.25, 10, None)
    assert labels_in(d, spans) == ["a", "b", "c"]
    with pytest.raises(DataError, match="label 'c' is not one of the classes"):
        trial_windows(d, spans, classes=["a", "b"])
    with pytest.raises(DataError, match=r"holds no window of 0.9 s at offset 0.25 s"):
        trial_windows(d, spans, window_s=0.9, offset_s=0.25)


def test_event_windows(trials):
    d = Dataset(trials)
    spans = official_parts(d)["train"]
    windows = event_windows(d, spans, window_s=0.5, offset_s=-0.3, classes=["a", "b", "c"])
    assert [round(w.start_s, 6) for w in windows[:3]] == [0.1, 2.1, 4.1]
    assert [w.target for w in windows[:3]] == [0, 1, 2]
    with pytest.raises(DataError, match="sticks out"):
        event_windows(d, spans, window_s=0.7)
    with pytest.raises(DataError, match="no usable event of kind 'moves': did you mean 'move'"):
        event_windows(d, spans, window_s=0.2, kind="moves")
    assert event_windows(d, [Span(spans[0].recording_id, 0.0, 0.5)], window_s=0.1)[0].trial == 0
