"""The two paired recordings that come in packages: what is stored beside them fits what was recorded."""

import numpy as np
import pytest

from data_prep.pipeline import prepare
from neurofm.benchmarks.baselines.ridge_embedding import LaggedEmbeddingRidge
from neurofm.benchmarks.retrieval.ranks import retrieve
from neurofm.data.dataset import Dataset
from neurofm.schema.embeddings import EmbeddingFile, embedding_path
from neurofm.stimuli.sounds import read_sound

pytestmark = [pytest.mark.network, pytest.mark.slow]


def test_grasshopper_spikes_follow_their_sound(tmp_path):
    prepare(source={"name": "grasshopper"}, out=tmp_path / "d", dask="none", progress=False, storage_dtype="float32")
    d, file = Dataset(tmp_path / "d", bin_s=0.001), EmbeddingFile(embedding_path(tmp_path / "d", "envelope"))
    counts = []
    for r in sorted(d.recordings):
        spikes, heard = d.read_interval(r, 0)[:, 0], file.read(d.events(r)[0]["stimulus_id"])[:, 0]
        counts.append(int(spikes.sum()))
        # the cell answers a few milliseconds after the sound; never before
        lagged = [np.corrcoef(spikes[lag:9000], heard[: 9000 - lag])[0, 1] for lag in range(30)]
        assert 2 <= int(np.argmax(lagged)) <= 12
        assert max(lagged) > 0.2
        wave, _ = d.read_stream(r, 0.0, 0.1, stream="modulation")
        np.testing.assert_allclose(wave[:, 0].reshape(-1, 20).mean(1), heard[:100], atol=1e-5)
    assert counts == [929, 868]
    # the control: the same sound, half the recording later
    prepare(
        source={"name": "grasshopper", "shift_s": 5.0},
        out=tmp_path / "s",
        dask="none",
        progress=False,
        storage_dtype="float32",
    )
    moved = Dataset(tmp_path / "s").read_stream(sorted(d.recordings)[0], 5.0, 5.1, stream="modulation")[0]
    np.testing.assert_array_equal(moved, d.read_stream(sorted(d.recordings)[0], 0.0, 0.1, stream="modulation")[0])


def test_naplib_speech_is_found_by_ridge(tmp_path):
    prepare(source={"name": "naplib_speech"}, out=tmp_path / "d", dask="none", progress=False, storage_dtype="float32")
    d, file = Dataset(tmp_path / "d"), EmbeddingFile(embedding_path(tmp_path / "d", "auditory128"))
    ids = sorted(d.recordings)
    signals = [d.read_interval(r, 0) for r in ids]
    heard = [file.read(d.events(r)[0]["stimulus_id"])[: len(x)] for r, x in zip(ids, signals, strict=True)]
    assert sum(len(x) // 50 for x in heard) == 1284
    sound, rate = read_sound(tmp_path / "d" / "stimuli" / "files" / "passage-01.wav")
    assert len(sound) / rate == pytest.approx(len(heard[0]) / 100, abs=0.02)
    ridge = LaggedEmbeddingRidge().fit(signals[1:], heard[1:], 100.0)
    n = len(heard[0]) // 50
    said, true = ((x - ridge.y_mean)[: n * 50].reshape(n, -1) for x in (ridge.predict(signals[0]), heard[0]))
    # one passage of 123 segments is easier than 1,284
    assert retrieve(said, true, np.arange(n)).top[1].value > 0.5
