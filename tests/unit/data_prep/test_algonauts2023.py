"""The challenge's folders: rows follow the pictures' numbers, hemispheres side by side, pickles unopened."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

PICTURES = [(1, 13), (2, 72999), (3, 5), (10, 7), (4, 8), (5, 9), (6, 10), (7, 11), (8, 12), (9, 14)]


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "subj06"
    for part in (
        "training_split/training_images",
        "training_split/training_fmri",
        "test_split/test_images",
        "roi_masks",
    ):
        (folder / part).mkdir(parents=True)
    for row, nsd in PICTURES:
        (folder / "training_split/training_images" / f"train-{row:04d}_nsd-{nsd:05d}.png").touch()
    (folder / "test_split/test_images" / "test-0001_nsd-00099.png").touch()
    data = {h: rng.standard_normal((10, n)).astype("f4") for h, n in (("lh", 5), ("rh", 4))}
    for h, x in data.items():
        np.save(folder / "training_split/training_fmri" / f"{h}_training_fmri.npy", x)
        np.save(folder / "roi_masks" / f"{h}.streams_challenge_space.npy", np.arange(x.shape[1]) % 3)
    (folder / "roi_masks" / "mapping_streams.npy").write_bytes(pickle.dumps({0: "Unknown"}))
    return tmp_path, data


def test_rows_follow_the_numbers(tree):
    (item,) = pickle.loads(pickle.dumps(SOURCES.build("algonauts2023", root=tree[0], regions="streams").list()))
    r = item.load()
    assert (r.subject, r.part, len(r.signal.n_samples)) == ("06", "train", 10)
    assert [e.stimulus_id for e in r.events] == [f"nsd-{n:05d}" for _, n in sorted(PICTURES)]
    for row in (0, 9):
        np.testing.assert_array_equal(
            r.signal.read(row, 0, 1)[0], np.concatenate([tree[1]["lh"][row], tree[1]["rh"][row]])
        )
    assert [c.name for c in r.signal.channels][4:6] == ["lh-00004", "rh-00000"]
    assert [c.region for c in r.signal.channels][:4] == ["", "early", "midventral", ""]


def test_what_does_not_fit(tree):
    def load(**choices):
        return SOURCES.build("algonauts2023", root=tree[0], **choices).list()[0].load()

    with pytest.raises(ConfigError, match="subject 1 is not there"):
        load(subjects=[1])
    with pytest.raises(DataError, match=r"lh\.floc-faces_challenge_space\.npy: is no readable"):
        load(regions="floc-faces")
    (tree[0] / "subj06/training_split/training_images/train-0003_nsd-00005.png").unlink()
    with pytest.raises(DataError, match="no picture train-0003_nsd-….png for its 10 responses".replace(".", r"\.")):
        load()
    path = tree[0] / "subj06/training_split/training_fmri/lh_training_fmri.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="is no readable numeric array"):
        load()
    with pytest.raises(DataError, match="has no folder subj01"):
        SOURCES.build("algonauts2023", root=tree[0] / "subj06").list()
