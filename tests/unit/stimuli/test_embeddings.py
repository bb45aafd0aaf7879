"""The file of embeddings: what is written is read back, and the safetensors library agrees."""

import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file

from neurofm.schema.embeddings import EmbeddingFile, embedding_path, write_embeddings
from neurofm.schema.errors import DataError


def test_pooled_round_trip_and_the_library_agrees(tmp_path):
    values = np.random.default_rng(0).standard_normal((5, 3, 4)).astype(np.float32)
    ids = [f"s{i}" for i in range(5)]
    path = write_embeddings(embedding_path(tmp_path, "e"), ids, iter(values), encoder="x", layer="1", hash="h")
    np.testing.assert_array_equal(load_file(path)["values"], values)
    file = pickle.loads(pickle.dumps(EmbeddingFile(path)))
    assert file.ids == tuple(ids)
    assert (file.encoder, file.layer, file.hash, file.rate_hz, file.row_shape) == ("x", "1", "h", None, (3, 4))
    np.testing.assert_array_equal(file.read("s3"), values[3])
    np.testing.assert_array_equal(file.all(), values)


def test_frames_are_cut_where_they_lie_in_time(tmp_path):
    # the value of a frame is its time, so a cut can be checked by reading it
    def ramp(n):
        return (np.arange(n) / 50.0)[:, None]

    path = write_embeddings(
        tmp_path / "e.safetensors", ["a", "b"], [ramp(100), ramp(60)], encoder="x", hash="h", rate_hz=50.0
    )
    file = EmbeddingFile(path)
    np.testing.assert_allclose(file.cut("b", 0.4, 5)[:, 0], 0.4 + np.arange(5) / 50, atol=1e-6)
    assert file.read("a").shape == (100, 1)
    # beyond the stimulus's own end there are zeros, never the next stimulus
    tail = file.cut("a", 1.96, 4)[:, 0]
    np.testing.assert_allclose(tail, [1.96, 1.98, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(file.cut("b", -0.04, 3)[:2, 0], [0, 0])
    np.testing.assert_array_equal(file.cut("b", 99.0, 3)[:, 0], [0, 0, 0])


def test_frames_that_are_means_over_bins_are_cut_at_every_border_alike(tmp_path):
    # a border lies halfway between two centres: rounded, 2.3 s gave the frame before and 2.2 s the one behind
    path = write_embeddings(
        tmp_path / "e.safetensors", ["a"], [np.arange(5000.0)[:, None]], encoder="x", hash="h", rate_hz=1000.0,
        start_s=0.0005,
    )  # fmt: skip
    file = EmbeddingFile(path)
    assert [int(file.cut("a", k / 1000, 1)[0, 0]) for k in range(5000)] == list(range(5000))
    assert [int(file.cut("a", 2.0 + 0.1 * k, 1)[0, 0]) for k in range(20)] == [2000 + 100 * k for k in range(20)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros(3), np.zeros(4)], "shape"),
        ([np.zeros(3)], "1 of 2"),
        ([np.zeros(3)] * 3, "more than 2"),
        ([np.zeros(3), np.full(3, np.nan)], "not finite"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_no_file(tmp_path, arrays, message):
    path = tmp_path / "e.safetensors"
    with pytest.raises(DataError, match=message):
        write_embeddings(path, ["a", "b"], arrays, encoder="x", hash="h")
    assert not list(tmp_path.iterdir())


def test_missing_and_unknown_say_what_there_is(tmp_path):
    path = write_embeddings(embedding_path(tmp_path, "clip"), ["a"], [np.zeros(2)], encoder="x", hash="h")
    with pytest.raises(DataError, match="did you mean 'clip'"):
        EmbeddingFile(embedding_path(tmp_path, "clipp"))
    with pytest.raises(DataError, match="no embedding of 'b'"):
        EmbeddingFile(path).read("b")
