"""Spikes of the miniature trees, to the bit: as a source reads them, and as they come back from shards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Recording, Stream

from .expected import Tree
from .trees import falcon, neuroformer, nlb, nwb
from .trees._nwb import Truth

# for each tree also what tells its recordings apart; a tree of one recording needs nothing
TREES: dict[str, tuple[Callable[[Path], tuple[Tree, dict[str, Truth]]], str]] = {
    "nwb": (nwb.spikes, "subject"),
    "nlb": (partial(nlb.spikes, variant="small"), "part"),
    "nlb_large": (partial(nlb.spikes, variant="large"), "part"),
    "nlb_rtt": (partial(nlb.spikes, variant="rtt"), "part"),
    "falcon_m1": (partial(falcon.spikes, variant="m1"), "subject"),
    "falcon_m2": (partial(falcon.spikes, variant="m2"), "subject"),
    "falcon_h1": (partial(falcon.spikes, variant="h1"), "subject"),
    "falcon_b1": (partial(falcon.spikes, variant="b1"), "subject"),
    "neuroformer": (neuroformer.spikes, ""),
}


def loaded(tree: Tree) -> list[Recording]:
    return [item.load() for item in SOURCES.build(tree.source, **tree.choices).list()]


def by_key(tree: Tree, truth: dict[str, Truth], word: str) -> dict[str, Recording]:
    read = loaded(tree)
    assert len(read) == len(truth)
    found = {getattr(r, word): r for r in read} if word else dict(zip(truth, read, strict=True))
    assert set(found) == set(truth)
    return found


def same(found: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, np.ndarray], *, shift_s: float = 0.0) -> None:
    np.testing.assert_array_equal(found[1], asked[1])
    np.testing.assert_allclose(found[0] + shift_s, asked[0], rtol=0, atol=1e-9)


def counted(asked: tuple[np.ndarray, np.ndarray], start_s: float, n_bins: int, bin_ms: int, n_units: int) -> np.ndarray:
    """Count in whole nanoseconds, where the edge of a bin is no matter of rounding."""
    at = np.round((asked[0] - start_s) * 1e9).astype(np.int64) // (bin_ms * 1_000_000)
    counts = np.zeros((n_bins, n_units))
    inside = (at >= 0) & (at < n_bins)
    np.add.at(counts, (at[inside], asked[1][inside]), 1)
    return counts


@pytest.mark.parametrize("name", TREES)
def test_every_spike_is_read_once(name, tmp_path):
    write, word = TREES[name]
    tree, truth = write(tmp_path)
    for key, recording in by_key(tree, truth, word).items():
        first = recording.first
        assert not isinstance(first, Stream)
        assert len(first.duration_s) == len(truth[key])
        for i, (asked, start_s, d) in enumerate(
            zip(truth[key], recording.interval_start_s, first.duration_s, strict=True)
        ):
            assert len(asked[0])
            same(first.read(i, 0.0, d), asked, shift_s=start_s)
            # pieces add up to the whole, whatever lies on their borders
            borders = [0.0, *np.sort(asked[0][:: max(1, len(asked[0]) // 4)] - start_s), d]
            pieces = [first.read(i, a, b) for a, b in pairwise(borders)]
            same(tuple(np.concatenate(p) for p in zip(*pieces, strict=True)), asked, shift_s=start_s)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("segment_s", [0.7, None])
def test_spikes_come_back_from_shards(name, segment_s, tmp_path):
    write, word = TREES[name]
    tree, truth = write(tmp_path / "in")
    recordings = by_key(tree, truth, word)
    source = {"name": tree.source, **tree.choices}
    prepare(source=source, out=tmp_path / "out", segment_s=segment_s, dask="none", progress=False, strict=True)
    dataset = Dataset(tmp_path / "out", bin_s=0.02, verify="full")
    assert set(dataset.recordings) == {r.recording_id for r in recordings.values()}
    for key, recording in recordings.items():
        rid = recording.recording_id
        assert [c["name"] for c in dataset.channels(rid)] == [c.name for c in recording.first.channels]
        assert [c["region"] for c in dataset.channels(rid)] == [c.region for c in recording.first.channels]
        n_units = len(recording.first.channels)
        np.testing.assert_allclose(dataset.valid(rid), recording.valid, rtol=0, atol=1e-9)
        for i, (asked, (start_s, stop_s)) in enumerate(zip(truth[key], dataset.valid(rid), strict=True)):
            same(dataset.read_events(rid, start_s, stop_s), asked)
            for bin_ms in (5, 10, 20):
                n = int((stop_s - start_s) * 1000 / bin_ms + 1e-6)
                found = dataset.read_binned(rid, start_s, n, bin_ms / 1000)
                np.testing.assert_array_equal(found, counted(asked, start_s, n, bin_ms, n_units))
            whole = dataset.read_interval(rid, i)
            np.testing.assert_array_equal(whole, counted(asked, start_s, len(whole), 20, n_units))
        # reading over all gaps at once gives every spike once
        everything = dataset.read_events(rid, 0.0, 1e4)
        same(everything, tuple(np.concatenate(p) for p in zip(*truth[key], strict=True)))


@pytest.mark.parametrize("variant", ["m1", "m2", "h1"])
def test_bins_and_decoded_values_begin_together(variant, tmp_path):
    """Stamps are ends of bins in M1 and H1 and beginnings in M2: in all, value j belongs to spikes of [20 j, 20 j + 20) ms."""
    tree, values = falcon.decoded(tmp_path / "in", variant=variant)
    prepare(source={"name": "falcon", **tree.choices}, out=tmp_path / "out", dask="none", progress=False, strict=True)
    dataset = Dataset(tmp_path / "out", bin_s=0.02)
    (rid,) = dataset.recordings
    n = len(next(iter(values.values())))
    assert dataset.interval_samples(rid) == [n]
    (recording,) = loaded(tree)
    fitting = [s for s in recording.streams[1:] if len(s.channels) == len(values)]
    found = []
    for stream in fitting:
        read, time_s = dataset.read_stream(rid, 0.0, n * 0.02, stream=stream.name)
        np.testing.assert_allclose(time_s, np.arange(n) * 0.02, atol=1e-9)
        names = [c["name"] for c in dataset.channels(rid, stream=stream.name)]
        order = [next(i for i, c in enumerate(names) if c.endswith(end)) for end in values]
        found.append(np.abs(read[:, order] - np.stack(list(values.values()), axis=1)).max() < 1e-6)
    assert sum(found) == 1


@pytest.mark.parametrize("write", [falcon.write_h1, falcon.write_h1_old_mask, falcon.write_m2])
def test_mask_says_what_is_scored(write, tmp_path):
    """Older files say the contrary, under another name."""
    for recording in loaded(write(tmp_path)):
        (mask,) = [s for s in recording.streams if s.name == "eval_mask"]
        assert isinstance(mask, Stream)
        (n,) = mask.n_samples
        np.testing.assert_array_equal(mask.read(0, 0, n)[:, 0], np.arange(n) % 10 > 0)


def test_clips_of_a_pickle(tmp_path):
    tree, truth = neuroformer.spikes_of_clips(tmp_path / "in")
    prepare(source={"name": "neuroformer", **tree.choices}, out=tmp_path / "out", dask="none", progress=False,
            strict=True)  # fmt: skip
    dataset = Dataset(tmp_path / "out", bin_s=0.01)
    (rid,) = dataset.recordings
    assert len(dataset.valid(rid)) == len(truth["V1AL"]) == 60
    for i, (asked, (start_s, stop_s)) in enumerate(zip(truth["V1AL"], dataset.valid(rid), strict=True)):
        same(dataset.read_events(rid, start_s, stop_s), asked, shift_s=-start_s)
        np.testing.assert_array_equal(dataset.read_interval(rid, i), counted(asked, 0.0, 320, 10, 9))


def test_command_in_the_pickle_of_clips_is_not_run(tmp_path):
    tree = neuroformer.command_in_pickle(tmp_path)
    with pytest.raises(DataError):
        loaded(tree)
    assert not (tmp_path / "executed").exists()


def test_trials_and_cues_are_events(tmp_path):
    tree = nwb.write_trials(tmp_path)
    tree.choices["label"] = "success"
    (recording,) = loaded(tree)
    begun = {}
    for start in (1.0, 4.0, 7.5):
        (trial,) = [e for e in recording.events if abs(e.onset_s - start) < 1e-6]
        assert trial.duration_s == pytest.approx(2.0)
        (cue,) = [e for e in recording.events if abs(e.onset_s - start - 0.5) < 1e-6]
        assert cue.trial == trial.trial
        begun[start] = trial.label
    assert begun[1.0] == begun[7.5] != begun[4.0]
    assert len(recording.events) == 6


def test_movement_is_in_metres(tmp_path):
    """Stored numbers times the file's conversion."""
    tree, _ = nwb.spikes(tmp_path)
    (recording,) = [r for r in loaded(tree) if r.subject == "A"]
    (hand,) = recording.streams[1:]
    assert isinstance(hand, Stream)
    assert (hand.rate_hz, hand.unit) == (pytest.approx(100.0), "meters")
    t = np.arange(1000) / 100
    np.testing.assert_allclose(hand.read(0, 0, 1000), np.c_[np.sin(t), np.cos(t)] * 0.1, atol=1e-9)


def test_behaviour_of_trials_lies_on_their_clock(tmp_path):
    """There is behaviour during trials only: each trial gets its own samples, and each event of the trial its place."""
    tree, truth = nlb.spikes(tmp_path)
    train = by_key(tree, truth, "part")["train"]
    (hand,) = [s for s in train.streams if s.name == "hand_vel"]
    assert [c.name for c in hand.channels] == ["x", "y"]
    for i, (start_s, stop_s) in enumerate(train.valid):
        t = start_s + np.arange(2000) / 1000
        np.testing.assert_allclose(hand.read(i, 0, 2000), np.c_[np.sin(t), np.cos(t)], atol=1e-9)
        onsets = [e.onset_s - start_s for e in train.events if e.kind == "move_onset" and start_s <= e.onset_s < stop_s]
        assert onsets == pytest.approx([0.8])
    test = by_key(tree, truth, "part")["test"]
    assert [e.onset_s for e in test.events if e.kind == "move_onset"] == pytest.approx([0.25, 1.05, 1.85])


def test_held_out_units_are_told_and_keep_their_names(tmp_path):
    """Units 2 and 5 of the training file are held out; unit i of the test file is held-in unit i."""
    tree, truth = nlb.spikes(tmp_path)
    read = by_key(tree, truth, "part")
    train, test = read["train"].first.channels, read["test"].first.channels
    assert [bool(c.reason) for c in train] == [False, False, True] * 2
    assert not any(c.bad for c in train)
    held_in = [c for c in train if not c.reason]
    assert [(c.canonical, c.region) for c in test] == [(c.canonical, c.region) for c in held_in]
    assert len({c.canonical for c in train}) == 6


def test_running_speed_is_beside_the_counts(tmp_path):
    tree, _ = neuroformer.spikes(tmp_path)
    (recording,) = loaded(tree)
    for file in ("behavior_speed", "phi", "th"):
        (path,) = tmp_path.glob(f"**/{file}_dt_0.05.npy")
        (stream,) = [s for s in recording.streams[1:] if s.name == file.removeprefix("behavior_")]
        assert isinstance(stream, Stream)
        assert stream.rate_hz == pytest.approx(20)
        np.testing.assert_array_equal(stream.read(0, 0, 400)[:, 0], np.load(path))


def test_selection_counts_cells_from_one(tmp_path):
    tree, _ = neuroformer.spikes(tmp_path)
    (recording,) = loaded(Tree(source=tree.source, choices={**tree.choices, "selection": "selection"}, recordings=[]))
    assert [i for i, c in enumerate(recording.first.channels) if not c.bad] == list(range(0, 12, 2))
