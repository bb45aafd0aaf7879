"""Embedding a dataset's stimuli: once, never again for the same, again when anything changed; PCA without test concepts."""

import numpy as np
import pytest
from PIL import Image

from neurofm.schema.conditions import read_conditions, write_conditions
from neurofm.schema.embeddings import EmbeddingFile, embedding_path, write_embeddings
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.tables import write_table
from neurofm.stimuli.base import Encoder
from neurofm.stimuli.embed import embed_stimuli
from neurofm.stimuli.pca import reduce_embeddings
from neurofm.stimuli.reconstruction import reconstruct


class Mean(Encoder):
    """Mean colour; counts how often it is asked."""

    kind = "image"

    def __init__(self, version=1):
        self.version, self.n = version, 0

    def identity(self):
        return {"encoder": "mean", "version": self.version}

    def encode(self, items):
        self.n += len(items)
        return [x.mean(axis=(0, 1)) for x in items]


@pytest.fixture
def dataset(tmp_path):
    rows = []
    (tmp_path / "stimuli" / "files").mkdir(parents=True)
    for i in range(5):
        path = tmp_path / "stimuli" / "files" / f"{i}.png"
        Image.fromarray(np.full((4, 6, 3), 40 * i, np.uint8)).save(path)
        rows.append(
            {
                "stimulus_id": f"s{i}", "concept": f"c{i // 2}", "kind": "image", "part": "train" if i < 4 else "test",
                "file": f"files/{i}.png", "sha256": sha256_file(path), "start_s": None, "stop_s": None, "caption": "",
            }
        )  # fmt: skip
    write_table(tmp_path / "stimuli", "stimuli", rows)
    return tmp_path


def test_computed_once(dataset):
    encoder = Mean()
    about = embed_stimuli(dataset=dataset, encoder=encoder, name="mean", batch_size=2)
    assert (about["n"], about["shape"], about["unchanged"], encoder.n) == (5, [3], False, 5)
    np.testing.assert_allclose(EmbeddingFile(about["path"]).all()[:, 0], [0, 40, 80, 120, 160])
    assert embed_stimuli(dataset=dataset, encoder=encoder, name="mean")["unchanged"]
    assert encoder.n == 5
    other = Mean(version=2)
    with pytest.raises(ConfigError, match="overwrite=true"):
        embed_stimuli(dataset=dataset, encoder=other, name="mean")
    assert not embed_stimuli(dataset=dataset, encoder=other, name="mean", overwrite=True)["unchanged"]


def test_a_changed_file_is_noticed(dataset):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(dataset / "stimuli" / "files" / "3.png")
    with pytest.raises(DataError, match=r"3\.png: is not the file that was prepared"):
        embed_stimuli(dataset=dataset, encoder=Mean(), name="mean")
    (dataset / "stimuli" / "files" / "3.png").unlink()
    with pytest.raises(DataError, match="files="):
        embed_stimuli(dataset=dataset, encoder=Mean(), name="mean")


def test_components_come_from_training_concepts_alone(dataset):
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 6)).astype(np.float32)
    ids = [f"s{i}" for i in range(5)]

    def reduced(x):
        write_embeddings(embedding_path(dataset, "e"), ids, x, encoder="e", hash="h")
        return EmbeddingFile(reduce_embeddings(dataset=dataset, encoder="e", n_components=2, name="e-2")).all()

    first = reduced(values)
    centred = values[:4] - values[:4].mean(0)
    # c2 is a concept of the test alone; c1 is not: its stimuli 2 and 3 are in training
    _, s, vt = np.linalg.svd(centred.astype(float), full_matrices=False)
    np.testing.assert_allclose(np.abs(first[:4]), np.abs(centred @ vt[:2].T), atol=1e-5)
    assert s[1] > 0
    changed = values.copy()
    changed[4] += 100
    np.testing.assert_array_equal(reduced(changed)[:4], first[:4])
    with pytest.raises(ConfigError, match="n_components"):
        reduce_embeddings(dataset=dataset, encoder="e", n_components=9, name="e-9")


def test_conditions_have_the_decoders_shape_and_length(dataset, tmp_path):
    rng = np.random.default_rng(0)
    path = write_embeddings(
        embedding_path(dataset, "clip"), ["a", "b"], 3 * rng.standard_normal((2, 768)), encoder="clip", hash="h"
    )
    reference = EmbeddingFile(path)
    out = write_conditions(
        tmp_path / "c.safetensors",
        ["x"],
        0.01 * rng.standard_normal((1, 768)),
        format="clip_image_768",
        reference=reference,
    )
    ids, argument, values = read_conditions(out)
    assert (ids, argument, values.shape) == (["x"], "image_embeds", (1, 768))
    assert np.linalg.norm(values[0]) == pytest.approx(np.linalg.norm(reference.all(), axis=1).mean(), rel=1e-5)
    flat = rng.standard_normal((2, 77 * 768))
    tokens = read_conditions(write_conditions(tmp_path / "t.safetensors", ["x", "y"], flat, format="clip_text_768"))[2]
    np.testing.assert_allclose(tokens[1, 3], flat[1, 3 * 768 : 4 * 768], rtol=1e-6)
    t5 = rng.standard_normal((1, 5, 4096))
    assert write_conditions(tmp_path / "t5.safetensors", ["x"], t5, format="t5_4096").exists()
    with pytest.raises(DataError, match=r"77, 768.*\[64\]"):
        write_conditions(tmp_path / "w.safetensors", ["x"], np.zeros((1, 64)), format="clip_text_768")


def test_without_weights_it_says_so_and_with_them_makes_one_image_each(dataset, tmp_path, monkeypatch):
    import sys
    import types

    path = write_conditions(tmp_path / "c.safetensors", ["x", "y"], np.eye(2, 768), format="clip_image_768")
    with pytest.raises(ConfigError, match=r"2 decoded conditions are ready.*no weights"):
        reconstruct(path, weights=None, out=tmp_path / "images")
    calls = []

    class Pipeline:
        @classmethod
        def from_pretrained(cls, folder, **choices):
            assert choices == {"local_files_only": True, "use_safetensors": True}
            return cls()

        def to(self, device):
            return self

        def __call__(self, *, image_embeds, generator):
            calls.append((image_embeds.shape, generator.initial_seed()))
            return types.SimpleNamespace(images=[Image.new("RGB", (2, 2))])

    monkeypatch.setitem(sys.modules, "diffusers", types.SimpleNamespace(DiffusionPipeline=Pipeline))
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model_index.json").write_text("{}")
    made = reconstruct(path, weights=weights, out=tmp_path / "images", seed=3)
    assert len(made) == len(calls) == 2
    assert all(c == ((1, 768), 3) for c in calls)
