"""Shards read from beginning to end, locally and at a URL: every window once, the right numbers, few requests."""

import shutil

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurofm.data.dataset import Dataset
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.loading.plan import EMPTY, plan_stream
from neurofm.data.splits.parts import whole
from neurofm.data.storage import files
from neurofm.data.windows import sliding
from neurofm.schema.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def six(tmp_path_factory, shard_maker):
    """Six people of 60 s, in segments of 6 s: a tar each."""
    made = [shard_maker.Made(f"s_{i}", [shard_maker.ramp(600, 2 + i % 2)], subject=str(i)) for i in range(6)]
    return shard_maker.make(tmp_path_factory.mktemp("six"), made)


@pytest.fixture
def remote(six, request):
    """The same at a memory:// URL."""
    fs = fsspec.filesystem("memory")
    root = "/six-" + "".join(c for c in request.node.name if c.isalnum())
    fs.put(str(six), root, recursive=True)
    yield f"memory:/{root}"
    fs.rm(root, recursive=True)


def loader_of(path, *, reader="stream", **choices):
    d = Dataset(path, reader=reader)
    windows = sliding(d, whole(d, d.recordings), window_s=2.0, stride_s=1.5, jitter=True)
    return d, windows, WindowLoader(d, windows, **{"batch_size": 12, "seed": 1, "reader": reader, **choices})


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 300), world=st.integers(1, 4), per_rank=st.integers(1, 5), workers=st.integers(0, 4),
    n_groups=st.integers(1, 3), seed=st.integers(0, 9),
)  # fmt: skip
def test_stream_plan_gives_each_window_once_in_equal_batches(n, world, per_rank, workers, n_groups, seed):
    rng = np.random.default_rng(seed)
    groups, place = rng.integers(0, n_groups, n), np.stack([rng.integers(0, 7, n), rng.permutation(n)], axis=1)
    choices = {"batch_size": world * per_rank, "world_size": world, "n_workers": workers, "groups": groups}
    plan = plan_stream(place, seed=seed, epoch=2, shuffle_over=10, **choices)
    assert EMPTY not in plan
    assert len(set(plan.ravel().tolist())) == plan.size
    assert len(plan) == sum(np.bincount(groups) // (world * per_rank))
    for row in plan:
        assert len(set(groups[row])) == 1
    assert (plan == plan_stream(place, seed=seed, epoch=2, shuffle_over=10, **choices)).all()


def test_a_worker_walks_through_shards_once():
    place = np.stack([np.repeat(np.arange(8), 50), np.tile(np.arange(50), 8)], axis=1)
    plan = plan_stream(
        place, seed=0, epoch=0, batch_size=10, world_size=2, n_workers=2, groups=np.zeros(400, int), shuffle_over=12
    )
    for rank in range(2):
        for worker in range(2):
            mine = plan[worker::2, rank::2].ravel()
            assert len(set(place[mine, 0])) <= 3  # a quarter of 400 windows: two tars and a border
            run = place[mine, 0] * 100 + place[mine, 1]
            changes = np.flatnonzero(np.diff(place[mine, 0]))
            assert len(changes) < 30  # shuffled at the borders only
            assert (run != np.sort(run)).any()


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_streamed_windows_are_those_of_the_shards(six, remote, where, n_workers):
    plain = Dataset(six)
    _, windows, loader = loader_of(six if where == "local" else remote, n_workers=n_workers)
    for _ in range(2):
        seen = []
        for b in loader:
            for i, r, s, c, x in zip(b.sample_id.tolist(), b.recording_id, b.start_s.tolist(), b.channel_mask, b.signal,
                                     strict=True):  # fmt: skip
                np.testing.assert_array_equal(x[c].numpy().T, plain.read(r, s, windows[i].n_samples))
                seen.append(i)
        assert len(seen) == len(set(seen)) == len(loader) * 12


def test_a_tar_costs_one_request(remote, monkeypatch):
    d, _, loader = loader_of(remote, shuffle_over=4)
    opened, fetched = [], []
    real_open, real_fetch = files.Folder.open, files.Folder._fetch
    monkeypatch.setattr(files.Folder, "open", lambda self, f: opened.append(f) or real_open(self, f))
    monkeypatch.setattr(files.Folder, "_fetch", lambda self, *a: fetched.append(a) or real_fetch(self, *a))
    for _ in range(2):
        opened.clear()
        n = sum(len(b) for b in loader)
        assert n >= 0.85 * len(loader.reader)
        # six tars; a tar may be opened again where neighbouring windows were shuffled over its beginning
        assert len(opened) <= 8
        d._segments._forget()
    assert len(fetched) <= 6


def test_ranks_and_workers_share_an_epoch(six):
    for n_workers in (0, 2):
        loaders = [loader_of(six, rank=r, world_size=3, n_workers=n_workers)[2] for r in range(3)]
        batches = [[b.sample_id.tolist() for b in x] for x in loaders]
        assert len({len(b) for b in batches}) == 1
        assert {len(ids) for b in batches for ids in b} == {4}
        ids = [i for b in batches for part in b for i in part]
        assert len(ids) == len(set(ids)) == 12 * len(loaders[0])


def test_a_stream_resumes_with_the_same_ranks_and_workers(six):
    _, _, whole_run = loader_of(six)
    expected = [b.sample_id.tolist() for b in whole_run]
    _, _, first = loader_of(six)
    it = iter(first)
    begun = [next(it).sample_id.tolist() for _ in range(5)]
    _, _, second = loader_of(six)
    second.load_state_dict(first.state_dict())
    assert begun + [b.sample_id.tolist() for b in second] == expected
    with pytest.raises(ConfigError, match="ranks and workers"):
        loader_of(six, n_workers=2)[2].load_state_dict(first.state_dict())
    with pytest.raises(ConfigError, match="reader is 'indexedd': did you mean 'indexed'"):
        Dataset(six, reader="indexedd")


@pytest.mark.parametrize("reader", ["indexed", "stream"])
def test_remote_requests_are_made_again(remote, monkeypatch, reader):
    waits = []
    monkeypatch.setattr(files.time, "sleep", waits.append)
    fs_type = type(fsspec.filesystem("memory"))
    failures = {"cat_file": 2, "size": 1, "open": 2}
    for name in failures:
        real = getattr(fs_type, name)

        def flaky(self, *a, _name=name, _real=real, **k):
            if failures[_name] > 0:
                failures[_name] -= 1
                raise OSError("connection reset")
            return _real(self, *a, **k)

        monkeypatch.setattr(fs_type, name, flaky)
    _, _, loader = loader_of(remote, reader=reader)
    assert sum(len(b) for b in loader) == 12 * len(loader)
    assert waits[:2] == list(files.RETRY_S[:1]) + waits[1:2]
    assert set(waits) <= set(files.RETRY_S)
    failures["cat_file"] = failures["open"] = 10**6
    with pytest.raises(DataError, match=r"dataset.json: cannot be read \(connection reset\)"):
        loader_of(remote, reader=reader)


def test_a_connection_that_breaks_off_is_taken_up_again(remote, monkeypatch):
    monkeypatch.setattr(files.time, "sleep", lambda s: None)
    real_open, left = files.Folder.open, [3]

    class Breaking:
        def __init__(self, inner):
            self.inner, self.n = inner, 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.inner.close()

        def seek(self, *a):
            return self.inner.seek(*a)

        def read(self, *a):
            self.n += 1
            if self.n > 1 and left[0]:
                left[0] -= 1
                raise OSError("reset by peer")
            return self.inner.read(*a)

    monkeypatch.setattr(files.Folder, "open", lambda self, f: Breaking(real_open(self, f)))
    _, _, loader = loader_of(remote)
    assert sum(len(b) for b in loader) == 12 * len(loader)
    assert left == [0]


@pytest.mark.parametrize("reader", ["indexed", "stream"])
def test_damage_is_named_and_counted(six, tmp_path, reader):
    folder = shutil.copytree(six, tmp_path / "copy")
    tar = folder / "shards" / "sub-2-000000.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(np.float32(1010.0).tobytes())] ^= 1
    tar.write_bytes(data)
    (folder / "shards" / "sub-4-000000.tar").write_bytes(b"short")
    d = Dataset(folder, on_corrupt="skip", reader=reader)
    assert "sub-4-000000.tar" in d.skipped[0]
    windows = sliding(d, whole(d, d.recordings), window_s=2.0)
    loader = WindowLoader(
        d, windows, batch_size=10, seed=0, reader=reader, last="keep" if reader == "indexed" else "drop"
    )
    n = sum(len(b) for b in loader)
    assert loader.n_skipped == 1 + len(loader.skipped) > 1
    assert n + len(loader.skipped) == (len(windows) if reader == "indexed" else 10 * len(loader))
    assert all("sub-2-000000.tar" in s for s in loader.skipped)
    with pytest.raises(DataError, match=r"sub-4-000000\.tar: has 5 bytes where dataset.json states"):
        Dataset(folder, reader=reader)


@pytest.fixture(scope="module")
def opened(six):
    d = Dataset(six)
    return d, sliding(d, whole(d, d.recordings), window_s=2.0, stride_s=0.75, jitter=True)


def run(make, world, n_workers, stops, total):
    """Global batches seen by `world` ranks that stop and start anew (with a saved state) after each of `stops`."""
    state, done = None, []
    for stop in [*sorted(s for s in stops if s < total), total]:
        loaders = [make(rank=r, world_size=world, n_workers=n_workers) for r in range(world)]
        for x in loaders:
            if state is not None:
                x.load_state_dict(state)
        its = [iter(x) for x in loaders]
        while len(done) < stop:
            step = []
            for k, x in enumerate(loaders):
                b = next(its[k], None)
                if b is None:
                    its[k] = iter(x)
                    b = next(its[k])
                step.append(b)
            done.append(
                sorted((i, s, float(v.sum())) for b in step for i, s, v in zip(b.sample_id.tolist(), b.start_s.tolist(), b.signal,
                                                                              strict=True))
            )  # fmt: skip
        states = [x.state_dict() for x in loaders]
        assert all(s == states[0] for s in states)
        state = states[0]
    return done


def compare(opened, world, n_workers, stops, seed, method):
    d, windows = opened
    make = lambda **k: WindowLoader(  # noqa: E731
        Dataset(d.path), windows, batch_size=12, seed=seed, start_method=method if k["n_workers"] else None, **k
    )
    total = 45  # of 38 to 40 batches an epoch: across an epoch's border
    assert run(make, world, n_workers, stops, total) == run(make, 1, 0, [], total)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=st.sampled_from([1, 2, 3, 4]), n_workers=st.integers(0, 2), seed=st.integers(0, 99),
    stops=st.lists(st.integers(1, 44), max_size=3, unique=True),
)  # fmt: skip
def test_any_ranks_workers_and_interruptions_under_fork(opened, world, n_workers, seed, stops):
    compare(opened, world, n_workers, stops, seed, "fork")


@pytest.mark.slow
def test_any_ranks_workers_and_interruptions_under_spawn(opened):
    compare(opened, 2, 1, [7], 3, "spawn")
    compare(opened, 1, 2, [11], 4, "spawn")


def test_buckets_pad_under_a_tenth_and_lose_nobody(tmp_path, shard_maker):
    rng = np.random.default_rng(0)
    counts = np.unique(np.concatenate([[1, 250], rng.integers(1, 251, 60)]))
    made = [shard_maker.Made(f"c_{c}", [shard_maker.ramp(120, int(c))], subject=str(c)) for c in counts]
    d = Dataset(shard_maker.make(tmp_path, made))
    windows = sliding(d, whole(d, d.recordings), window_s=1.0)
    loader = WindowLoader(d, windows, batch_size=32, seed=0)
    cells = valid = 0
    seen = set()
    for _ in range(6):
        for b in loader:
            cells += b.channel_mask.numel()
            valid += int(b.channel_mask.sum())
            seen |= set(b.recording_id)
    assert 1 - valid / cells < 0.10
    assert seen == set(d.recordings)
    torch.manual_seed(0)
