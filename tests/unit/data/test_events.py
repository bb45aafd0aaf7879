"""Spikes through the shard contract: stored as they are, read back to the bit, counted in bins without drift."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.parts import whole
from neurofm.data.storage.events import bin_counts
from neurofm.data.task import Task
from neurofm.data.windows import sliding
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts
from neurofm.schema.recording import Channel, EventStream, Recording, Stream


class Toy(Source):
    """Recordings that are in memory."""

    name = id = "toy"
    modalities = ("spikes",)

    def __init__(self, *recordings: Recording) -> None:
        self.recordings = recordings

    def list(self) -> list[Item]:
        return [
            Item(key=r.recording_id, fingerprint="1", open=lambda r=r: r, subject=r.subject) for r in self.recordings
        ]


def units(n: int, bad: tuple[int, ...] = ()) -> tuple[Channel, ...]:
    return tuple(Channel(name=f"u{i}", kind="unit", bad=i in bad, reason="noise" * (i in bad)) for i in range(n))


def spikes(events, duration_s, *, n_units=3, starts_s=(0.0,), bad=(), further=(), subject="1") -> Recording:
    stream = EventStream.from_arrays(events, duration_s=duration_s, channels=units(n_units, bad))
    return Recording(
        dataset="toy", subject=subject, modality="spikes", streams=(stream, *further), interval_start_s=tuple(starts_s)
    )


def prep(folder: Path, *recordings: Recording, **choices) -> Path:
    prepare(source=Toy(*recordings), out=folder, dask="none", progress=False, **{"segment_s": 1.0, **choices})
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 99),
    duration_s=st.lists(st.floats(0.01, 9), min_size=1, max_size=3),
    segment_s=st.sampled_from([None, 0.1, 0.7, 1.0, 60.0]),
    grid_s=st.sampled_from([0.0, 0.001, 0.1]),
    first_s=st.sampled_from([0.0, 0.1, 1234.567]),
    rate=st.sampled_from([0.0, 3.0, 60.0]),
    shard_bytes=st.sampled_from([1, 1 << 28]),
)
def test_round_trip(tmp_path_factory, seed, duration_s, segment_s, grid_s, first_s, rate, shard_bytes):
    rng = np.random.default_rng(seed)
    events, starts_s = [], []
    for i, d in enumerate(duration_s):
        t = rng.uniform(0, d, rng.poisson(rate * d))
        t = np.rint(t / grid_s) * grid_s if grid_s else t
        if segment_s:
            t = np.concatenate([t, segment_s * np.arange(1, 4)])  # on the borders of segments
        t = np.sort(t[t < d])
        events.append((t, rng.integers(0, 3, len(t)).astype(np.int32)))
        starts_s.append(first_s + 20.0 * i)
    folder = tmp_path_factory.mktemp("events")
    prep(folder / "d", spikes(events, duration_s, starts_s=starts_s), segment_s=segment_s, shard_bytes=shard_bytes)
    dataset = Dataset(folder / "d")
    clock = np.concatenate([start + t for start, (t, _) in zip(starts_s, events, strict=True)])
    unit = np.concatenate([u for _, u in events])
    time_s, got = dataset.read_events("toy_sub-1", 0.0, 1e6)
    np.testing.assert_array_equal(time_s, clock)
    np.testing.assert_array_equal(got, unit)
    # any span, also one whose ends are spikes or lie on borders
    for a, b in rng.choice(np.concatenate([clock, starts_s, rng.uniform(0, 60, 4) + first_s]), (6, 2)):
        inside = (clock >= a) & (clock < b)
        time_s, got = dataset.read_events("toy_sub-1", a, b)
        np.testing.assert_array_equal(time_s, clock[inside])
        np.testing.assert_array_equal(got, unit[inside])


@pytest.mark.parametrize("bin_s", [0.001, 0.005, 0.02, 0.1])
@pytest.mark.parametrize("first_s", [0.0, 0.3, 7200.1])
def test_spikes_on_a_grid_are_never_binned_wrong(tmp_path, bin_s, first_s):
    n = 3000
    t = bin_s * np.arange(n)  # one spike at the beginning of every bin
    folder = prep(tmp_path / "d", spikes([(t, np.zeros(n, int))], [n * bin_s], starts_s=[first_s]), segment_s=0.7)
    dataset = Dataset(folder, bin_s=bin_s)
    np.testing.assert_array_equal(dataset.read_binned("toy_sub-1", first_s, n, bin_s)[:, 0], np.ones(n))
    for k in (1, 7, 699, 1400, 2997):
        got = dataset.read_binned("toy_sub-1", first_s + k * bin_s, 3, bin_s)
        np.testing.assert_array_equal(got, [[1, 0, 0]] * 3)
        np.testing.assert_array_equal(dataset.read("toy_sub-1", first_s + k * bin_s, 3), got)
    assert dataset.interval_samples("toy_sub-1") == [n]


def test_times_that_are_sums_of_tenths():
    t = np.cumsum(np.full(10_000, 0.1))  # drifts to 1000.0000000001588
    counts = bin_counts(t, np.zeros(10_000, int), start_s=0.0, n_bins=10_002, bin_s=0.1, n_units=1)[:, 0]
    np.testing.assert_array_equal(counts, [0, *[1] * 10_000, 0])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), bin_s=st.sampled_from([0.003, 0.02, 0.25]), start_s=st.floats(0, 5))
def test_counts_are_those_of_a_loop(seed, bin_s, start_s):
    rng = np.random.default_rng(seed)
    t, u = np.sort(rng.uniform(0, 10, 300)), rng.integers(0, 4, 300)
    expected = np.zeros((40, 4))
    for time, unit in zip(t, u, strict=True):
        for k in range(40):
            expected[k, unit] += start_s + k * bin_s <= time < start_s + (k + 1) * bin_s
    got = bin_counts(t, u, start_s=start_s, n_bins=40, bin_s=bin_s, n_units=4)
    np.testing.assert_array_equal(got, expected)


def poisson(seed=0, duration_s=30.0, n_units=5, rate=40.0):
    rng = np.random.default_rng(seed)
    t = np.sort(np.rint(rng.uniform(0, duration_s, int(rate * duration_s)) * 1000) / 1000)
    t = t[t < duration_s]
    return t, rng.integers(0, n_units, len(t))


def test_batches_hold_bins_events_and_streams(tmp_path):
    t, u = poisson()
    position = np.arange(30 * 25, dtype=np.float64)[:, None] / 25
    position[100:110] = np.nan
    hand = Stream.from_arrays([position], rate_hz=25.0, channels=(Channel(name="x"),), name="hand", role="covariate")
    folder = prep(tmp_path / "d", spikes([(t, u)], [30.0], n_units=5, bad=(1,), further=(hand,)), segment_s=4.0)
    dataset = Dataset(folder, bin_s=0.02)
    windows = sliding(dataset, whole(dataset, ["toy_sub-1"]), window_s=0.7)
    assert len(windows) == 42
    facts = Facts(rate_hz=50.0, window_s=0.7, max_channels=5, channels=("toy_sub-1/u0", "toy_sub-1/u3"))
    loader = WindowLoader(dataset, windows, batch_size=5, shuffle=False, streams=["hand"], facts=facts)
    column = {0: 0, 2: 1, 3: 2, 4: 3}
    good, covered = u != 1, np.zeros(len(t), int)
    n_samples = 0
    for batch in loader:
        assert batch.rate_hz == 50
        assert batch.channel_ids[0].tolist() == [1, 0, 2, 0]
        values, time_s, mask = batch.streams["hand"]
        for i, start in enumerate(batch.start_s.tolist()):
            mine = (t >= start - 1e-9) & (t < start + 0.7 - 1e-9)
            covered += mine
            a, b = batch.events.offsets[i : i + 2].tolist()
            np.testing.assert_allclose(batch.events.time_s[a:b], t[mine & good] - start, atol=1e-6)
            assert batch.events.unit[a:b].tolist() == [column[x] for x in u[mine & good]]
            assert batch.signal[i].sum() == b - a
            own = mask[i].numpy()
            n_samples += int(own.sum())
            np.testing.assert_allclose(values[i, own, 0], start + time_s[i, own], atol=1e-5)
    assert (covered[t < 29.4 - 1e-9] == 1).all()  # windows share no spike and lose none
    assert n_samples == 735 - 10  # 25 Hz · 29.4 s, ten samples missing


def test_bins_must_be_named(tmp_path):
    folder = prep(tmp_path / "d", spikes([poisson()], [30.0], n_units=5))
    with pytest.raises(ConfigError, match=r"list of events \(spikes\).*data.bin_s=0.02"):
        sliding(Dataset(folder), whole(Dataset(folder), ["toy_sub-1"]), window_s=1.0)
    with pytest.raises(DataError, match="not inside one valid interval"):
        Dataset(folder).read_binned("toy_sub-1", 29.5, 30, 0.02)
    with pytest.raises(ConfigError, match="bin_s is 0"):
        Dataset(folder, bin_s=0)


def test_a_bin_that_is_not_whole_is_left_out(tmp_path):
    folder = prep(tmp_path / "d", spikes([(np.array([0.1, 0.99]), np.zeros(2, int))] * 2, [0.99999, 0.01],
                                         starts_s=[0.0, 2.0], n_units=1))  # fmt: skip
    dataset = Dataset(folder, bin_s=0.02)
    assert dataset.interval_samples("toy_sub-1") == [49, 0]
    dataset.preload()
    assert dataset.read("toy_sub-1", 0.0, 49).sum() == 1


def test_same_bytes_resume_and_tables(tmp_path):
    recordings = [spikes([poisson(s)], [30.0], n_units=5, subject=str(s)) for s in range(3)]
    prep(tmp_path / "a", *recordings)
    calls = []

    def killed(r):
        calls.append(r)
        if r.subject == "2":
            raise KeyboardInterrupt
        return r

    class Killed(Toy):
        def list(self):
            return [Item(key=r.recording_id, fingerprint="1", open=lambda r=r: killed(r), subject=r.subject)
                    for r in recordings]  # fmt: skip

    with pytest.raises(KeyboardInterrupt):
        prepare(source=Killed(), out=tmp_path / "b", dask="none", progress=False, segment_s=1.0)
    prep(tmp_path / "b", *recordings)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    dataset = Dataset(tmp_path / "a", verify="full")
    row = dataset._stream("toy_sub-0", None)
    assert (row["name"], row["regular"], row["n_channels"], row["role"]) == ("spikes", False, 5, "signal")
    assert np.isnan(row["rate_hz"])
    assert [c["name"] for c in dataset.channels("toy_sub-0")] == [f"u{i}" for i in range(5)]
    assert dataset.recordings["toy_sub-0"]["valid"] == [[0.0, 30.0]]


def test_spikes_beside_a_regular_signal(tmp_path):
    t, u = poisson(duration_s=10.0)
    lfp = Stream.from_arrays([np.random.default_rng(0).standard_normal((1000, 2))], rate_hz=100.0,
                             channels=(Channel(name="a"), Channel(name="b")))  # fmt: skip
    beside = EventStream.from_arrays([(t, u)], duration_s=[10.0], channels=units(5), role="covariate")
    both = Recording(dataset="toy", subject="1", modality="ieeg", streams=(lfp, beside))
    dataset = Dataset(prep(tmp_path / "d", both, segment_s=0.3))
    time_s, unit = dataset.read_events("toy_sub-1", 0.0, 10.0, stream="spikes")
    np.testing.assert_allclose(time_s, t, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(unit, u)
    assert dataset.read("toy_sub-1", 2.0, 100).shape == (100, 2)
    with pytest.raises(DataError, match="'signal' of 'toy_sub-1' is a regular signal"):
        dataset.read_events("toy_sub-1", 0.0, 1.0)


@pytest.mark.parametrize(
    ("time_s", "unit", "sentence"),
    [
        ([0.2, 0.1], [0, 0], "times are not sorted"),
        ([-0.1, 0.1], [0, 0], "a time lies outside"),
        ([0.1, np.nan], [0, 0], "not a finite number"),
        ([0.1, 0.2], [0, 3], "unit 0 to 3, expected 0 to 2"),
    ],
)
def test_wrong_events_are_a_sentence(tmp_path, time_s, unit, sentence):
    wrong = EventStream(channels=units(3), duration_s=(1.0,), read=lambda i, a, b: (np.array(time_s), np.array(unit)))
    with pytest.raises(DataError, match=sentence):
        prep(tmp_path / "d", Recording(dataset="toy", subject="1", modality="spikes", streams=(wrong,)))


def test_no_units_no_time_twice_a_name(tmp_path):
    for stream, sentence in (
        (EventStream(channels=(), duration_s=(1.0,), read=None), "unit table is empty"),
        (EventStream(channels=units(1), duration_s=(0.0,), read=None), "0.0 s long"),
        (EventStream(channels=units(1), duration_s=(1.6e9,), read=None), "18519 days long"),
        (EventStream(channels=units(1) * 2, duration_s=(1.0,), read=None), "'u0' occurs 2 times"),
    ):
        with pytest.raises(DataError, match=sentence):
            prep(tmp_path / "d", Recording(dataset="toy", subject="1", modality="spikes", streams=(stream,)))


def test_stages_of_regular_signals_do_not_apply(tmp_path):
    with pytest.raises(ConfigError, match="stage 'resample' is of regular signals, and 'toy_sub-1' holds events"):
        prep(tmp_path / "d", spikes([poisson()], [30.0], n_units=5), stages=[{"name": "resample", "rate_hz": 10}])


def test_unit_rate_marks_and_says_why(tmp_path):
    t = np.arange(0, 100, 0.5)
    u = np.where(np.arange(200) % 100 == 0, 1, 0)
    folder = prep(tmp_path / "d", spikes([(t, u)], [100.0]), stages=[{"name": "unit_rate", "min_hz": 0.1}])
    rows = Dataset(folder).channels("toy_sub-1", include_bad=True)
    assert [(c["bad"], c["reason"]) for c in rows] == [
        (False, ""), (True, "fires at 0.02 Hz"), (True, "fires at 0 Hz")
    ]  # fmt: skip
    assert Dataset(folder).read_events("toy_sub-1", 0, 100)[1].tolist() == [0] * 198
    with pytest.raises(DataError, match="all 3 units are bad"):
        prep(tmp_path / "e", spikes([(t, u)], [100.0]), stages=[{"name": "unit_rate", "min_hz": 5}])
    wave = Stream.from_arrays([np.zeros((10, 1))], rate_hz=10.0, channels=(Channel(name="a"),))
    regular = Recording(dataset="toy", subject="1", modality="eeg", streams=(wave,))
    with pytest.raises(ConfigError, match="is of events"):
        prep(tmp_path / "f", regular, stages=[{"name": "unit_rate"}])


def test_a_corpus_of_spikes(tmp_path):
    folder = prep(
        tmp_path / "d", *(spikes([poisson(s, n_units=4 + s)], [30.0], n_units=4 + s, subject=str(s)) for s in range(2))
    )
    corpus = Corpus(
        path=str(folder),
        split={"rule": "everything"},
        bin_s=0.02,
        transforms=[{"name": "standardize"}],
        n_workers=1,
        task=Task(window_s=0.5),
    )
    corpus.fit_transforms("pretrain")
    facts = corpus.facts("pretrain")
    assert (facts.rate_hz, facts.window_samples, facts.max_channels) == (50.0, 25, 5)
    batches = list(corpus.loader("pretrain", facts, batch_size=8, seed=0, training=False))
    assert sum(len(b) for b in batches) == 120
    values = torch.cat([b.signal[:, :4] for b in batches if b.signal.shape[1] == 4])
    torch.testing.assert_close(values.mean(dim=(0, 2)), torch.zeros(4), atol=1e-5, rtol=0)
    n = sum(len(b.events.time_s) for b in batches)
    assert n == sum(len(poisson(s)[0]) for s in range(2))
