"""Spikes to a model as events: uncounted, with units that belong to their session, and behaviour on its own clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.adapt.rows import join, select
from neurofm.data.corpus import Corpus
from neurofm.data.task import Task
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Channel, EventStream, Recording, Stream


class Sessions(Source):
    """Two subjects; the first has two sessions. Unit names repeat, and one unit is declared the same in both sessions."""

    name = id = "sessions"
    modalities = ("spikes",)

    def list(self) -> list[Item]:
        return [
            Item(key=f"{s}{d}", fingerprint="1", open=lambda s=s, d=d: recording(s, d), subject=s, session=d)
            for s, d in (("a", "1"), ("a", "2"), ("b", "1"))
        ]


def events_of(subject: str, session: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([ord(subject), int(session)])
    return np.sort(rng.integers(0, 12_000, 900)) / 1000, rng.integers(0, 3, 900)


def recording(subject: str, session: str) -> Recording:
    units = tuple(
        Channel(name=f"u{i}", canonical="a/kept" if (subject, i) == ("a", 2) else "", kind="unit") for i in range(3)
    )
    velocity = np.arange(300.0)[:, None] / 25 + np.array([0.0, 100.0])
    velocity[50:55] = np.nan
    return Recording(
        dataset="sessions",
        subject=subject,
        session=session,
        modality="spikes",
        streams=(
            EventStream.from_arrays([events_of(subject, session)], duration_s=[12.0], channels=units),
            Stream.from_arrays([velocity], rate_hz=25.0, channels=(Channel(name="x"), Channel(name="y")),
                               name="velocity"),
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sessions")
    prepare(source=Sessions(), out=out, dask="none", progress=False, segment_s=5.0)
    return out


def corpus(folder: Path, **choices) -> Corpus:
    given = {"split": {"rule": "everything"}, "bin_s": 0.005, "events": True, **choices}
    return Corpus(path=str(folder), streams=["velocity"], task=Task(window_s=1.0), **given)


def test_units_belong_to_their_session_unless_declared_the_same(folder):
    facts = corpus(folder).facts("pretrain")
    own = [f"sessions_sub-{s}_ses-{d}/u{i}" for s, d in (("a", "1"), ("a", "2"), ("b", "1")) for i in range(3)]
    assert set(facts.channels) == (set(own) - {own[2], own[5]}) | {"a/kept"}
    assert facts.sessions == ("sessions/a/1", "sessions/a/2", "sessions/b/1")
    batch = join(corpus(folder).loader("pretrain", facts, batch_size=4, seed=0, training=False))
    ids = {r: tuple(i.tolist()) for r, i in zip(batch.recording_id, batch.channel_ids, strict=True)}
    a1, a2, b1 = (ids[f"sessions_sub-{s}"] for s in ("a_ses-1", "a_ses-2", "b_ses-1"))
    assert a1[2] == a2[2]
    assert len({*a1, *a2, *b1}) == 8
    assert {s for s in batch.session.tolist()} == {1, 2, 3}


def test_the_same_events_with_and_without_counts(folder):
    """`channel_ids[b, unit]` is the unit's row; the events are those that were prepared, and those that are counted."""
    both, alone = corpus(folder, events=False), corpus(folder)
    facts = both.facts("pretrain")
    assert facts == alone.facts("pretrain")
    for counted, bare in zip(
        *(c.loader("pretrain", facts, batch_size=5, seed=0, training=False) for c in (both, alone)), strict=True
    ):
        for a, b in zip(counted.events, bare.events, strict=True):
            assert torch.equal(a, b)
        assert counted.signal.shape == bare.signal.shape
        assert not bare.signal.any()
        assert bare.signal.untyped_storage().nbytes() == 4
        for i in range(len(bare)):
            a, b = bare.events.offsets[i], bare.events.offsets[i + 1]
            subject, session = bare.recording_id[i][13], bare.recording_id[i][-1]
            time_s, unit = events_of(subject, session)
            start = float(bare.start_s[i])
            mine = (time_s >= start - 1e-9) & (time_s < start + 1 - 1e-9)
            np.testing.assert_allclose(bare.events.time_s[a:b], time_s[mine] - start, atol=1e-6)
            np.testing.assert_array_equal(bare.events.unit[a:b], unit[mine])
            # 1 ms grid in 5 ms bins: exact
            want = np.zeros((3, 200))
            np.add.at(want, (unit[mine], (np.round((time_s[mine] - start) * 1000) // 5).astype(int)), 1)
            np.testing.assert_array_equal(counted.signal[i], want)


def test_workers_hand_over_events_without_counts(folder):
    facts = corpus(folder).facts("pretrain")
    here, there = (
        list(corpus(folder, n_workers=n).loader("pretrain", facts, batch_size=8, seed=0, training=True)) for n in (0, 1)
    )
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.events.time_s, b.events.time_s)
        assert b.signal.shape == a.signal.shape


def test_behaviour_keeps_its_clock_and_its_gaps(folder):
    c = corpus(folder)
    batch = join(c.loader("pretrain", c.facts("pretrain"), batch_size=8, seed=0, training=False))
    values, time_s, mask = batch.streams["velocity"]
    start = batch.start_s[:, None]
    torch.testing.assert_close(values[..., 0][mask].double(), (start + time_s)[mask], rtol=0, atol=1e-5)
    assert (~mask).sum() == 3 * 5


def test_chosen_and_joined_windows_keep_their_events(folder):
    c = corpus(folder)
    facts = c.facts("pretrain")
    batch = join(c.loader("pretrain", facts, batch_size=8, seed=0, training=False))
    order = torch.tensor([5, 0, 20])
    chosen = select(batch, order)
    for new, old in enumerate(order.tolist()):
        for field in (0, 1):
            a = chosen.events[field][chosen.events.offsets[new] : chosen.events.offsets[new + 1]]
            b = batch.events[field][batch.events.offsets[old] : batch.events.offsets[old + 1]]
            assert torch.equal(a, b)
    again = join([select(batch, torch.arange(k, k + 6)) for k in range(0, 36, 6)])
    for a, b in zip(again.events, batch.events, strict=True):
        assert torch.equal(a, b)
    longer = replace(batch, streams={"velocity": type(batch.streams["velocity"])(
        *(torch.nn.functional.pad(t, (0, 0, 0, 1) if t.ndim == 3 else (0, 1)) for t in batch.streams["velocity"]))})  # fmt: skip
    both = join([batch, longer])
    assert both.streams["velocity"].mask[:36, -1].sum() == 0


def test_events_need_a_grid_and_take_no_transforms(folder):
    with pytest.raises(ConfigError, match="events=true needs bin_s"):
        corpus(folder, bin_s=None)
    with pytest.raises(ConfigError, match=r"transform 'standardize' has nothing to work on; set data\.transforms="):
        corpus(folder, transforms=[{"name": "standardize"}])
