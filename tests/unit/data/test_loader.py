"""Batches hold what was asked for, in an order that neither ranks, workers nor interruptions change."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from neurofm.data.dataset import Dataset
from neurofm.data.loading.collate import channel_vocabulary
from neurofm.data.loading.loader import WindowLoader
from neurofm.data.splits.parts import official_parts, whole
from neurofm.data.transforms.base import Compose
from neurofm.data.transforms.standardize import Standardize
from neurofm.data.windows import sliding, trial_windows
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts


@pytest.fixture(scope="module")
def opened(ramps):
    d = Dataset(ramps)
    return d, sliding(d, whole(d, d.recordings), window_s=2.0, stride_s=0.5, jitter=True)


def augmented(d):
    t = Compose(transforms=[
        Standardize(noise_range_s=(3.0, 10.0)), {"name": "gaussian_noise"}, {"name": "channel_dropout"},
    ])  # fmt: skip
    t.fit(d, whole(d, d.recordings), allowed=whole(d, d.recordings))
    return t


def flat(batches):
    return [(b.sample_id.tolist(), b.start_s.tolist(), b.signal) for b in batches]


def assert_same(a, b):
    assert len(a) == len(b)
    for (ids, starts, x), (ids2, starts2, y) in zip(a, b, strict=True):
        assert ids == ids2
        assert starts == starts2
        assert torch.equal(x, y)


def test_batch_holds_the_windows(opened):
    d, windows = opened
    loader = WindowLoader(
        d,
        windows,
        batch_size=7,
        shuffle=False,
        facts=Facts(rate_hz=50.0, window_s=1.0, max_channels=5, channels=channel_vocabulary(d), subjects=("1", "3")),
    )
    ids = {"sim_sub-1": [1, 2], "sim_sub-2": [1, 3, 2], "sim_sub-3": [1, 3, 2, 4, 5]}  # c1 of person 1 is bad
    seen = []
    for b in loader:
        assert b.signal.dtype == torch.float32
        assert b.signal.shape == (len(b), b.channel_mask.shape[1], b.time_mask.shape[1])
        for i, w in enumerate(windows[j] for j in b.sample_id.tolist()):
            x = d.read(w.recording_id, w.start_s, w.n_samples).T
            c = int(b.channel_mask[i].sum())
            assert b.rate_hz == d.rate_hz(w.recording_id)
            np.testing.assert_array_equal(b.signal[i, :c, : w.n_samples].numpy(), x)
            assert b.signal[i, c:].abs().sum() == 0
            assert b.channel_ids[i].tolist() == [*ids[w.recording_id], *[0] * (b.signal.shape[1] - c)]
            assert b.subject[i] == {"1": 1, "2": 0, "3": 2}[d.subject(w.recording_id)]
            assert b.modality[i] == 3
            assert b.recording_id[i] == w.recording_id
        seen += b.sample_id.tolist()
    assert sorted(seen) == list(range(len(windows)))
    assert len(list(loader)) == len(loader)


def test_targets_of_trials(trials):
    d = Dataset(trials)
    windows = trial_windows(d, official_parts(d)["train"], classes=["a", "b", "c"])
    for b in WindowLoader(d, windows, batch_size=8, seed=1):
        assert b.target.dtype == torch.long
        assert (b.target == b.sample_id % 3).all()
        assert (b.trial == b.sample_id).all()


@pytest.mark.parametrize("choices", [
    {"n_workers": 2, "start_method": "fork"}, {"n_workers": 1, "start_method": "spawn"}, {"preload": True},
    {"n_workers": 2, "time_first": True},
])  # fmt: skip
def test_workers_change_nothing(opened, ramps, choices, monkeypatch):
    d, windows = opened
    t = augmented(d)
    # forked workers see this: every signal goes through their slots; spawned ones send theirs by value
    monkeypatch.setattr("neurofm.data.loading.parcel.SMALL", 0)
    expected = WindowLoader(d, windows, batch_size=8, seed=5, transforms=t)
    got = WindowLoader(Dataset(ramps), windows, batch_size=8, seed=5, transforms=t, **choices)
    # all batches of an epoch are held at once, so that one written over by another would show
    first, second = flat(expected), flat(expected)
    assert_same(first, flat(got))
    assert_same(second, flat(got))  # the second epoch follows by itself
    assert first[0][0] != second[0][0]


def test_jitter_stays_in_its_slack_and_moves_with_the_epoch(opened):
    d, windows = opened
    loader = WindowLoader(d, windows, batch_size=4, seed=0, last="repeat")
    starts = {}
    for _ in range(3):
        for b in loader:
            for i, s, x in zip(b.sample_id.tolist(), b.start_s.tolist(), b.signal, strict=True):
                w = windows[i]
                assert w.start_s <= s <= w.start_s + w.slack_samples / b.rate_hz + 1e-9
                assert float(x[0, 0]) == pytest.approx(s, rel=1e-6)
                starts.setdefault(i, set()).add(s)
    assert sum(len(s) > 1 for s in starts.values()) > len(windows) / 2


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=st.integers(1, 4), other=st.integers(1, 4), stop=st.integers(0, 40), seed=st.integers(0, 99))
def test_resume_on_other_ranks_loses_and_repeats_nothing(opened, world, other, stop, seed):
    d, windows = opened
    make = lambda rank, n: WindowLoader(d, windows, batch_size=12, seed=seed, rank=rank, world_size=n)  # noqa: E731

    def run(loaders, batches):
        its = [iter(x) for x in loaders]
        done = []
        for _ in range(batches):
            step = []
            for k, loader in enumerate(loaders):
                b = next(its[k], None)
                if b is None:
                    its[k] = iter(loader)
                    b = next(its[k])
                step += b.sample_id.tolist()
            done.append(sorted(step))
        return done

    whole_run = run([make(0, 1)], 50)
    loaders = [make(r, world) for r in range(world)]
    before = run(loaders, stop)
    states = [x.state_dict() for x in loaders]
    assert all(s == states[0] for s in states)
    resumed = [make(r, other) for r in range(other)]
    for x in resumed:
        x.load_state_dict(states[0])
    assert before + run(resumed, 50 - stop) == whole_run


workers = st.tuples(st.integers(0, 2), st.just("fork"))


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    world=st.integers(1, 3), other=st.integers(1, 3), before=workers, after=workers, stop=st.integers(0, 12),
    seed=st.integers(0, 99),
)  # fmt: skip
@example(world=1, other=1, before=(2, "fork"), after=(0, "fork"), stop=3, seed=5)
@example(world=1, other=2, before=(1, "spawn"), after=(2, "fork"), stop=5, seed=1)
@example(world=2, other=1, before=(0, "fork"), after=(1, "spawn"), stop=2, seed=2)
def test_samples_are_bit_equal_over_ranks_workers_and_interruption(opened, world, other, before, after, stop, seed):
    d, windows = opened
    t = augmented(d)

    def loaders(n_ranks, n_workers=0, start_method=None):
        return [
            WindowLoader(
                d, windows, batch_size=6, seed=seed, transforms=t, rank=r, world_size=n_ranks, n_workers=n_workers,
                start_method=start_method if n_workers else None,
            )
            for r in range(n_ranks)
        ]  # fmt: skip

    def steps(ranks):
        """Yield, of each step, every sample by its number, whichever rank had it."""
        for batches in zip(*ranks, strict=True):
            yield {
                i: (start, x[:c])
                for b in batches
                for i, start, x, c in zip(
                    b.sample_id.tolist(), b.start_s.tolist(), b.signal, b.channel_mask.sum(1).tolist(), strict=True
                )
            }

    expected = list(steps(loaders(1)))
    stop = min(stop, len(expected) - 1)
    first = loaders(world, *before)
    it = steps(first)
    got = [next(it) for _ in range(stop)]
    states = [x.state_dict() for x in first]  # workers have read ahead; the states have not
    del it, first
    again = loaders(other, *after)
    for x in again:
        x.load_state_dict(states[0])
    got += list(steps(again))
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert sorted(ours) == sorted(theirs)
        for i, (start, x) in theirs.items():
            assert ours[i][0] == start
            assert torch.equal(ours[i][1], x)


def test_leaving_an_epoch_early(opened):
    d, windows = opened
    loader = WindowLoader(d, windows, batch_size=8)
    ids = [b.sample_id.tolist() for b in WindowLoader(d, windows, batch_size=8)]
    assert next(iter(loader)).sample_id.tolist() == ids[0]
    assert [b.sample_id.tolist() for b in loader] == ids[1:]  # shuffled: a stream
    assert next(iter(loader)).sample_id.tolist() not in ids
    loader.set_epoch(0)
    assert next(iter(loader)).sample_id.tolist() == ids[0]
    plain = WindowLoader(d, windows, batch_size=8, shuffle=False)
    assert next(iter(plain)).sample_id.tolist() == next(iter(plain)).sample_id.tolist()  # as after a sanity check


def test_a_window_that_another_rank_has_too_says_so(opened):
    d, windows = opened
    few = windows[:5]
    loaders = [WindowLoader(d, few, batch_size=4, shuffle=False, rank=r, world_size=4) for r in range(4)]
    batches = [list(x) for x in loaders]
    assert {len(b) for b in batches} == {len(loaders[0])}
    counted = [i for b in batches for x in b if not x.repeated for i in x.sample_id.tolist()]
    assert sorted(counted) == list(range(5))
    assert any(x.repeated for b in batches for x in b)


def test_a_changed_plan_is_refused(opened):
    d, windows = opened
    state = WindowLoader(d, windows, batch_size=8).state_dict()
    for other in (
        WindowLoader(d, windows, batch_size=4),
        WindowLoader(d, windows, batch_size=8, seed=1),
        WindowLoader(d, [*windows[:-1], windows[0]], batch_size=8),
    ):
        with pytest.raises(ConfigError, match=r"plan_hash is .* in the checkpoint"):
            other.load_state_dict(state)


def test_wrong_choices(opened):
    d, windows = opened
    with pytest.raises(ConfigError, match="multiple of the 3 ranks"):
        WindowLoader(d, windows, batch_size=8, world_size=3)
    with pytest.raises(ConfigError, match="none of them that large"):
        WindowLoader(d, windows, batch_size=1000)
    with pytest.raises(DataError, match="no windows to load"):
        WindowLoader(d, [], batch_size=1)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_damage_is_skipped_and_counted_or_fatal(ramps, tmp_path, n_workers):
    folder = shutil.copytree(ramps, tmp_path / "copy")
    tar = folder / "shards" / "sub-2-000000.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(np.float32(1010.0).tobytes())] ^= 1
    tar.write_bytes(data)
    d = Dataset(folder, on_corrupt="skip")
    windows = sliding(d, whole(d, ["sim_sub-2"]), window_s=2.0)
    loader = WindowLoader(d, windows, batch_size=10, seed=0, n_workers=n_workers)
    n = sum(len(b) for b in loader)
    assert n == 17  # the damaged segment of 6 s holds three windows
    assert len(loader.skipped) == 3
    assert "sub-2-000000.tar" in loader.skipped[0]
    with pytest.raises(DataError, match="crc32"):
        list(WindowLoader(Dataset(folder), windows, batch_size=10, seed=0))


def test_lightning_resumes_in_mid_epoch(opened, tmp_path):
    import pytorch_lightning as pl

    d, windows = opened

    class Tiny(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(20, 1)
            self.seen = []

        def training_step(self, batch, _):
            self.seen.append(batch.sample_id.tolist())
            return self.layer(batch.signal[:, 0, :20] / 50).pow(2).mean()

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    def fit(steps, n_workers=0, **more):
        m = Tiny()
        trainer = pl.Trainer(
            max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
            default_root_dir=tmp_path, enable_checkpointing=False,
        )  # fmt: skip
        loader = WindowLoader(d, windows, batch_size=16, seed=2, n_workers=n_workers, transforms=augmented(d))
        trainer.fit(m, loader, **more)
        return m, trainer, len(loader)

    whole_run, _, n = fit(30)
    assert 5 < n < 25
    assert whole_run.seen[0] != whole_run.seen[n]
    for stop, n_workers in ((5, 0), (n, 0), (n + 4, 2)):
        first, trainer, _ = fit(stop, n_workers)
        trainer.save_checkpoint(tmp_path / "c.ckpt")
        second, _, _ = fit(30, ckpt_path=tmp_path / "c.ckpt", weights_only=True)
        assert first.seen + second.seen == whole_run.seen
        assert torch.equal(second.layer.weight, whole_run.layer.weight)
