"""What a window shows comes with it; splits keep tested concepts out; noise normalization sees training alone."""

import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.data.corpus import Corpus
from neurofm.data.dataset import Dataset
from neurofm.data.splits.parts import whole
from neurofm.data.splits.stimuli import folds_of_recordings, zero_shot
from neurofm.data.task import Task
from neurofm.data.transforms.base import transform_from_json
from neurofm.data.transforms.mvnn import Mvnn, inverse_root, trial_covariance
from neurofm.schema.embeddings import embedding_path, write_embeddings
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Event, Recording, Stream

RATE = 50.0
CHANNELS = tuple(Channel(name=f"c{i}", kind="eeg", unit="uV") for i in range(3))


def recording(subject, part, shown, *, seed=0, mixing=None, session=""):
    rng = np.random.default_rng([seed, len(shown)])
    mixing = np.eye(3) if mixing is None else mixing
    arrays = [rng.standard_normal((50, 3)) @ mixing for _ in shown]
    starts = tuple(2.0 * i for i in range(len(shown)))
    events = tuple(
        Event(onset_s=t, kind="image", label=s.split("/")[0], stimulus_id=s, trial=i)
        for i, (t, s) in enumerate(zip(starts, shown, strict=True))
    )
    return Recording(
        dataset="d", subject=subject, session=session, run=part, part=part, modality="eeg", interval_start_s=starts,
        streams=(Stream.from_arrays(arrays, rate_hz=RATE, channels=CHANNELS),), events=events,
    )  # fmt: skip


class Given(Source):
    name = id = "d"
    modalities = ("eeg",)

    def __init__(self, recordings):
        self.recordings = {r.recording_id: r for r in recordings}

    def stimuli(self, folder):
        ids = sorted({e.stimulus_id for r in self.recordings.values() for e in r.events})
        part = {e.stimulus_id: r.part for r in self.recordings.values() for e in r.events}
        return [{"stimulus_id": s, "concept": s.split("/")[0], "kind": "image", "part": part[s]} for s in ids]

    def list(self):
        return [Item(key=k, fingerprint=k, open=lambda r=r: r) for k, r in self.recordings.items()]


def prepared(folder, recordings):
    prepare(source=Given(recordings), out=folder, dask="none", progress=False, storage_dtype="float32")
    return folder


TRAIN = [f"k{i:02d}/{j}" for i in range(20) for j in range(2)]
TEST = [f"t{i}/0" for i in range(5)] * 2


@pytest.fixture
def folder(tmp_path):
    people = [
        recording(s, p, shown, seed=int(s)) for s in ("1", "2") for p, shown in (("train", TRAIN), ("test", TEST))
    ]
    out = prepared(tmp_path / "d", people)
    ids = sorted({*TRAIN, *TEST})
    write_embeddings(
        embedding_path(out, "e"), ids, [np.full(4, i, np.float32) for i in range(len(ids))], encoder="e", hash="h"
    )
    return out


def corpus(folder, **changes):
    given = dict(path=str(folder), split={"rule": "zero_shot", "validation_fraction": 0.1}, embedding="e",
                 task=Task(window_s=1.0, windows="trial"))  # fmt: skip
    return Corpus(**(given | changes))


def test_batches_carry_what_was_shown(folder):
    c = corpus(folder)
    facts = c.facts("pretrain")
    assert facts.embedding_shape == (4,)
    seen = set()
    for batch in c.loader("pretrain", facts, batch_size=7, seed=0, training=True):
        names = [c.stimuli.ids[i] for i in batch.stimulus.tolist()]
        for i, name in enumerate(names):
            event = next(e for e in c.dataset.events(batch.recording_id[i]) if e["trial"] == batch.trial[i])
            assert event["stimulus_id"] == name
            assert c.stimuli.concepts[batch.concept[i]] == event["label"]
        # the embedding's value is its row in the sorted list of stimuli
        assert batch.stimulus_embedding["e"][:, 0].tolist() == batch.stimulus.tolist()
        seen |= set(names)
    assert not seen & set(TEST)


def test_without_an_embedding_nothing_changes(folder):
    c = corpus(folder, embedding=None)
    assert c.facts("pretrain").embedding_shape == ()
    batch = next(iter(c.loader("pretrain", c.facts("pretrain"), batch_size=4, seed=0, training=False)))
    assert batch.stimulus is None
    assert batch.stimulus_embedding == {}


def test_workers_read_the_same(folder):
    def values(n_workers):
        c = corpus(folder, n_workers=n_workers, preload=False)
        loader = c.loader("test", c.facts("test"), batch_size=5, seed=0, training=False)
        return [b.stimulus_embedding["e"].numpy() for b in loader]

    for a, b in zip(values(0), values(2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_continuous_sound_is_cut_at_the_window(tmp_path):
    n = 500
    heard = Event(onset_s=1.0, duration_s=8.0, kind="speech", stimulus_id="s", trial=0)
    time = (np.arange(n) / RATE)[:, None] * np.ones(3)
    r = Recording(dataset="d", subject="1", run="a", modality="eeg", events=(heard,), interval_start_s=(0.0,),
                  streams=(Stream.from_arrays([time], rate_hz=RATE, channels=CHANNELS),))  # fmt: skip
    out = prepared(tmp_path / "d", [r])
    # the value of a frame is its time in the sound
    write_embeddings(
        embedding_path(out, "f"), ["s"], [(np.arange(800) / 100)[:, None]], encoder="f", hash="h", rate_hz=100.0
    )
    for lag in (0.0, 0.15):
        c = corpus(
            out, split={"rule": "everything"}, embedding="f", embedding_lag_s=lag, task=Task(window_s=1.0, stride_s=0.5)
        )
        from neurofm.data.splits.spans import Span

        c.split.parts["pretrain"] = [Span(r.recording_id, 1.5, 8.0)]
        facts = c.facts("pretrain")
        assert facts.embedding_shape == (100, 1)
        for batch in c.loader("pretrain", facts, batch_size=4, seed=0, training=False):
            # the signal's value is the time of the recording: onset 1 s later, answer `lag` later
            wanted = batch.signal[:, 0, 0].double() - 1.0 - lag
            got = batch.stimulus_embedding["f"][:, 0, 0].double()
            np.testing.assert_allclose(got, wanted, atol=0.0051)
            np.testing.assert_allclose(np.diff(batch.stimulus_embedding["f"][0, :, 0]), 0.01, atol=1e-5)


def test_words_name_the_sound_they_lie_in_and_do_not_begin_it(tmp_path):
    heard = [
        event
        for k, at in enumerate((0.5, 5.0))
        for event in (
            Event(onset_s=at, duration_s=4.0, kind="sound", stimulus_id=f"s{k}", trial=k),
            *(
                Event(onset_s=at + t, duration_s=0.2, kind="word", stimulus_id=f"s{k}", value=t)
                for t in (0.3, 1.1, 3.0)
            ),
        )
    ]
    time = (np.arange(1000) / RATE)[:, None] * np.ones(3)
    r = Recording(dataset="d", subject="1", run="a", modality="eeg", events=tuple(heard), interval_start_s=(0.0,),
                  streams=(Stream.from_arrays([time], rate_hz=RATE, channels=CHANNELS),))  # fmt: skip
    out = prepared(tmp_path / "d", [r])
    frames = [(np.arange(400) / 100 + 10 * k)[:, None] for k in range(2)]
    write_embeddings(embedding_path(out, "f"), ["s0", "s1"], frames, encoder="f", hash="h", rate_hz=100.0)
    split = {"rule": "by_stimulus", "test": ["s1"]}
    c = corpus(out, split=split, embedding="f", task=Task(window_s=1.0, windows="sliding", stride_s=0.5))
    # a sound is a part as long as it lasts, whatever is said in it
    assert [(s.start_s, s.stop_s) for s in c.split["train"]] == [(0.5, 4.5)]
    assert [(s.start_s, s.stop_s) for s in c.split["test"]] == [(5.0, 9.0)]
    for part, at, base in (("train", 0.5, 0.0), ("test", 5.0, 10.0)):
        for batch in c.loader(part, c.facts(part), batch_size=4, seed=0, training=False):
            wanted = batch.signal[:, 0, 0].double() - at + base
            np.testing.assert_allclose(batch.stimulus_embedding["f"][:, 0, 0].double(), wanted, atol=0.0051)


def test_a_window_of_two_stimuli_is_refused(folder):
    c = corpus(folder, split={"rule": "everything"})
    window = c.cut("pretrain", c.facts("pretrain"))[0]
    with pytest.raises(DataError, match="shows 2 stimuli"):
        c.stimuli.event_of(c.dataset, window._replace(trial=-1, n_samples=150), window.start_s)
    with pytest.raises(DataError, match="shows no stimulus"):
        c.stimuli.event_of(c.dataset, window._replace(trial=-1, n_samples=10), window.start_s + 0.5)


def test_zero_shot_keeps_concepts_apart(folder, tmp_path):
    split = zero_shot(Dataset(folder), held_out="2", validation_fraction=0.2)
    concepts = {p: {s.stimulus_id.split("/")[0] for s in spans} for p, spans in split.parts.items()}
    assert not concepts["pretrain"] & concepts["validation"]
    assert len(concepts["validation"]) == 4
    assert not (concepts["pretrain"] | concepts["validation"]) & concepts["test"]
    assert {s.recording_id.split("_")[1] for s in split["test"]} == {"sub-2"}
    assert {s.recording_id.split("_")[1] for s in split["pretrain"]} == {"sub-1"}
    by_stimulus = zero_shot(Dataset(folder), validation_fraction=0.2, validation_by="stimulus")
    assert len({s.stimulus_id for s in by_stimulus["validation"]}) == 8
    # a tested concept with another picture in training
    bad = prepared(tmp_path / "bad", [recording("1", "train", [*TRAIN, "t3/1"]), recording("1", "test", TEST)])
    with pytest.raises(DataError, match="1 tested concepts are trained on, first 't3'"):
        zero_shot(Dataset(bad))
    dropped = zero_shot(Dataset(bad), tested_concepts="drop", validation_fraction=0.0)
    assert {s.stimulus_id for s in dropped["train"]} == set(TRAIN)
    assert "1 training trials of tested concepts dropped" in dropped.rule
    with pytest.raises(ConfigError, match="did you mean 'drop'"):
        zero_shot(Dataset(bad), tested_concepts="drpo")


def test_folds_never_test_what_is_heard_in_training(tmp_path):
    people = [recording("1", f"r{i}", [f"p{i}/0"] * 2, seed=i) for i in range(4)]
    d = Dataset(prepared(tmp_path / "a", people))
    tested = [s.recording_id for k in range(2) for s in folds_of_recordings(d, n_folds=2, fold=k)["test"]]
    assert sorted(set(tested)) == sorted(d.recordings)
    again = [*people[:3], recording("1", "r3", ["p0/0"], seed=9)]
    with pytest.raises(DataError, match="heard in training as well"):
        folds_of_recordings(Dataset(prepared(tmp_path / "b", again)), n_folds=4, fold=0)


def test_mvnn_is_fitted_on_training_only_and_whitens_it(tmp_path):
    mixing = np.random.default_rng(3).standard_normal((3, 3)) * 5
    people = [
        recording("1", "train", TRAIN * 5, seed=1, mixing=mixing, session="a"),
        # the test part is far louder: had it a hand in the matrix, it would show
        recording("1", "test", TEST, seed=2, mixing=1000 * np.eye(3), session="a"),
        recording("1", "train", TRAIN, seed=3, session="b"),
    ]
    d = Dataset(prepared(tmp_path / "d", people))
    train = [s for s in whole(d, d.select(part="train")) if "ses-a" in s.recording_id]
    test = whole(d, d.select(part="test"))
    mvnn = Mvnn(shrinkage=0.0)
    with pytest.raises(DataError, match="mvnn"):
        mvnn.fit(d, [*train, test[0]], allowed=train)
    mvnn.fit(d, train, allowed=train)
    covariances = [np.cov(d.read(s.recording_id, s.start_s, 50).T, bias=True) for s in train]
    wanted = np.mean(covariances, axis=0)
    w = mvnn._matrix(train[0].recording_id, 3)
    np.testing.assert_allclose(w @ wanted @ w, np.eye(3), atol=1e-6)
    # the session's test recording takes the same matrix; another session has none
    np.testing.assert_array_equal(mvnn._matrix(test[0].recording_id, 3), w)
    other = next(r for r in d.recordings if "ses-b" in r)
    with pytest.raises(DataError, match="never fitted on the session"):
        mvnn.apply(np.zeros((5, 3), np.float32), other)
    x = d.read(train[0].recording_id, train[0].start_s, 50)
    np.testing.assert_allclose(
        mvnn.inverse(mvnn.apply(x, train[0].recording_id), train[0].recording_id), x, rtol=1e-4, atol=1e-3
    )
    again = transform_from_json(mvnn.to_json())
    np.testing.assert_array_equal(again.apply(x, train[0].recording_id), mvnn.apply(x, train[0].recording_id))


def test_mvnn_takes_off_what_everything_shown_evokes_alike(tmp_path):
    people = [recording(p, part, shown, seed=i) for i, (p, part, shown) in enumerate(
        [("1", "train", ["a/0"] * 3 + ["b/0"]), ("1", "test", TEST), ("2", "train", ["a/0", "b/0"])])]  # fmt: skip
    d = Dataset(prepared(tmp_path / "d", people))
    train = whole(d, d.select(part="train", subject="1"))
    mvnn = Mvnn(shrinkage=1.0, centre=True, offset_s=10 / d.rate_hz(train[0].recording_id))
    mvnn.fit(d, train, allowed=train)
    trials = {s: d.read(s.recording_id, s.start_s, 50).astype(float) for s in train}
    # one stimulus was shown three times: each counts as much
    wanted = np.mean(
        [np.mean([x for s, x in trials.items() if s.stimulus_id == k], axis=0) for k in ("a/0", "b/0")], axis=0
    )
    test = whole(d, d.select(part="test"))[0]
    x = d.read(test.recording_id, test.start_s, 50)[10:40]
    scale = np.diag(mvnn._matrix(test.recording_id, 3))
    got = mvnn.apply(x, test.recording_id)
    np.testing.assert_allclose(got, (x - wanted[10:40]) * scale, rtol=1e-4, atol=1e-5)
    # shrunk to the diagonal: no channel takes part in another
    assert np.count_nonzero(mvnn._matrix(test.recording_id, 3)) == 3
    np.testing.assert_allclose(mvnn.inverse(got, test.recording_id), x, rtol=1e-4, atol=1e-3)
    again = transform_from_json(mvnn.to_json())
    np.testing.assert_array_equal(again.apply(x, test.recording_id), got)
    with pytest.raises(DataError, match="is longer than the trials"):
        mvnn.apply(np.zeros((45, 3), np.float32), test.recording_id)


def test_mvnn_averages_over_stimuli_not_trials(tmp_path):
    # one stimulus shown nine times, another once: each counts as much
    many = recording("1", "train", ["a/0"] * 9 + ["b/0"], seed=1)
    d = Dataset(prepared(tmp_path / "d", [many]))
    spans = whole(d, d.recordings)
    mvnn = Mvnn()
    mvnn.fit(d, spans, allowed=spans)
    found = [trial_covariance(d.read(s.recording_id, s.start_s, 50).astype(float), "auto") for s in spans]
    wanted = (np.mean(found[:9], axis=0) + found[9]) / 2
    np.testing.assert_allclose(mvnn._matrix(many.recording_id, 3), inverse_root(wanted), rtol=1e-8)


def test_lag_needs_time(folder):
    with pytest.raises(ConfigError, match="embedding_lag_s"):
        corpus(folder, embedding_lag_s=0.15)


def test_prepared_again_keeps_embeddings(folder):
    people = [
        recording(s, p, shown, seed=int(s)) for s in ("1", "2") for p, shown in (("train", TRAIN), ("test", TEST))
    ]
    assert prepare(source=Given(people), out=folder, dask="none", progress=False, storage_dtype="float32").unchanged
    (folder / "stimuli" / "stimuli.parquet").unlink()
    assert not prepare(source=Given(people), out=folder, dask="none", progress=False, storage_dtype="float32").unchanged
    assert (folder / "stimuli" / "stimuli.parquet").exists()
    assert embedding_path(folder, "e").exists()
