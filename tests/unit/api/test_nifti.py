"""A NIfTI run and an atlas against averages taken by hand."""

import numpy as np
import pytest

import neurofm
from neurofm.schema.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

from data_prep.given import recording_of  # noqa: E402

LABELS = {3: "Left", 7: "Right", 9: "Middle"}


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    atlas = np.zeros((6, 6, 6), np.int16)
    atlas[:2], atlas[2:4], atlas[5] = 3, 7, 9
    run = nibabel.Nifti1Image((rng.standard_normal((6, 6, 6, 40)) * 10 + 900).astype("f4"), np.eye(4))
    run.header.set_zooms((1, 1, 1, 0.72))
    run.header.set_xyzt_units("mm", "sec")
    nibabel.save(run, tmp_path / "run.nii.gz")
    nibabel.save(nibabel.Nifti1Image(atlas, np.eye(4)), tmp_path / "atlas.nii")
    return tmp_path, run.get_fdata(), atlas


def test_regions_are_averages(images):
    folder, data, atlas = images
    r = recording_of(folder / "run.nii.gz", atlas=folder / "atlas.nii", labels=LABELS)
    assert [c.name for c in r.signal.channels] == ["Left", "Right", "Middle"]
    assert r.signal.rate_hz == pytest.approx(1 / 0.72)
    assert r.subject == "run"
    for i, label in enumerate(LABELS):
        np.testing.assert_allclose(r.signal.read(0, 0, 40)[:, i], data[atlas == label].mean(axis=0), rtol=1e-5)


def test_image_and_sequence_of_labels(images):
    folder, data, _ = images
    image = nibabel.Nifti1Image(data, np.eye(4))
    r = recording_of(image, atlas=folder / "atlas.nii", labels=["a", "b", "c"], rate_hz=0.5)
    assert (r.signal.rate_hz, [c.name for c in r.signal.channels]) == (0.5, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({}, "pass atlas= .*the model knows 6 regions: sim:00"),
        ({"atlas": "atlas.nii", "labels": ["a"]}, "1 names for the 3 labels"),
        ({"atlas": "atlas.nii", "labels": {3: "a"}}, "label 7 has no name"),
        ({"atlas": "atlas.nii", "labels": LABELS}, "does not know 3 of 3 channels: Left, Right, Middle"),
    ],
)
def test_what_is_needed_is_said(images, saved, how, sentence):
    folder, *_ = images
    how = {k: folder / v if k == "atlas" else v for k, v in how.items()}
    with pytest.raises((ConfigError, DataError), match=sentence):
        neurofm.load(saved()).embed(folder / "run.nii.gz", **how)


def test_damaged_images(images):
    folder, data, _ = images
    (folder / "bad.nii").write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a readable NIfTI"):
        recording_of(folder / "bad.nii", atlas=folder / "atlas.nii")
    nibabel.save(nibabel.Nifti1Image(data[..., 0], np.eye(4)), folder / "one.nii")
    with pytest.raises(DataError, match="at least two volumes"):
        recording_of(folder / "one.nii", atlas=folder / "atlas.nii")
