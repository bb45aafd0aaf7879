"""Canonical names and positions against mne; regions against a search through all voxels."""

from __future__ import annotations

from dataclasses import replace

import mne
import nibabel
import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.readers.from_mne import recording_from_raw
from data_prep.stages import STAGES
from data_prep.stages.base import SignalInfo
from data_prep.stages.regions import nearest_label
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import read_json
from neurofm.schema.recording import Channel


def after(stage: str, chans, **choices) -> tuple[Channel, ...]:
    built = STAGES.build(stage, **choices)
    out = built.start(SignalInfo(rate_hz=100.0, channels=tuple(chans))).channels
    x = np.ones((3, len(out)))
    assert built.push(x) is x
    return out


def eeg(*names: str) -> list[Channel]:
    return [Channel(name=n, kind="eeg", unit="uV") for n in names]


def test_positions_are_what_mne_sets():
    names = ["Fp1", "T7", "P8", "CPP5h", "Iz"]
    raw = mne.io.RawArray(np.zeros((5, 10)), mne.create_info(names, 100.0, "eeg"), verbose="error")
    raw.set_montage("colin27_1005")
    oracle = recording_from_raw(raw, dataset="d", subject="s", modality="eeg").signal.channels
    found = after("montage", eeg(*names))
    for a, b in zip(found, oracle, strict=True):
        assert np.allclose((a.x, a.y, a.z), (b.x, b.y, b.z), atol=1e-6)
        assert a.frame == b.frame == "head"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EEG FPZ-REF", "fpz"), ("EEG T3-LE", "t7"), ("T4", "t8"), ("eeg t5", "p7"), ("T6-REF", "p8"), ("Cz..", "cz"),
        ("AFp1", "afp1"), ("M1", "m1"),
    ],
)  # fmt: skip
def test_names(name, expected):
    (c,) = after("montage", eeg(name))
    assert c.canonical == expected
    assert c.name == name
    assert abs(np.linalg.norm([c.x, c.y, c.z])) < 0.2


def test_measured_positions_and_other_kinds_stay():
    measured = replace(eeg("Cz")[0], x=0.0, y=0.01, z=0.1, frame="device")
    other = Channel(name="C3", kind="seeg", unit="uV")
    found = after("montage", [measured, other])
    assert (found[0].y, found[0].frame, found[0].canonical) == (0.01, "device", "cz")
    assert found[1] == other


def test_unknown_electrodes_are_kept_or_bad():
    assert after("montage", eeg("Photic"))[0] == eeg("Photic")[0]
    (c,) = after("montage", eeg("Photic"), unknown="bad")
    assert c.bad
    assert "no electrode" in c.reason


def test_one_electrode_under_two_names_is_refused():
    with pytest.raises(DataError, match="'T3' and 'T7' are both electrode t7"):
        after("montage", eeg("T3", "T7"))
    with pytest.raises(ConfigError, match="fsaverage_1005"):
        after("montage", eeg("T3"), template="standard_105")


def brute(image, affine, place, reach):
    best, label = np.inf, 0
    for v in np.argwhere(image):
        away = np.linalg.norm(affine[:3, :3] @ v + affine[:3, 3] - place)
        if away < best:
            best, label = away, image[tuple(v)]
    return label if best <= reach else 0


def test_nearest_label_is_that_of_a_search_through_all():
    rng = np.random.default_rng(0)
    image = rng.integers(1, 9, (9, 8, 7)) * (rng.random((9, 8, 7)) < 0.15)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * [-2.0, 2.0, 3.0]
    affine[:3, 3] = [10.0, -20.0, 5.0]
    for _ in range(300):
        place = affine[:3, :3] @ rng.uniform(-3, 11, 3) + affine[:3, 3]
        own = np.rint(np.linalg.solve(affine[:3, :3], place - affine[:3, 3])).astype(int)
        inside = ((own >= 0) & (own < image.shape)).all() and image[tuple(own)]
        expected = image[tuple(own)] if inside else brute(image, affine, place, 4.0)
        assert nearest_label(image, affine, place, 4.0) == expected


@pytest.fixture
def atlas(tmp_path):
    """Label 1 at x > 0, 2 at x < 0, in a file whose first axis runs from right to left."""
    labels = np.zeros((21, 21, 21), np.int16)
    labels[:10], labels[11:] = 1, 2
    labels[:, :, :5] = 0
    affine = np.array([[-2.0, 0, 0, 20], [0, 2, 0, -20], [0, 0, 2, -20], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "two.nii.gz")
    (tmp_path / "two.tsv").write_text("index\tname\n1\tright\n2\tleft\n")
    return tmp_path / "two.nii.gz"


def contacts() -> list[Channel]:
    at = [(0.01, 0, 0), (-0.01, 0, 0), (0.01, 0, -0.013), (0.01, 0, -0.018), (0.01, 0, 0), (float("nan"), 0, 0)]
    chans = [
        Channel(name=f"A{i}", kind="seeg", unit="uV", x=x, y=y, z=z, frame="mni") for i, (x, y, z) in enumerate(at)
    ]
    chans[4] = replace(chans[4], frame="head")
    return chans


def test_regions_follow_the_affine_the_frame_and_the_reach(atlas):
    named = [c.region for c in after("regions", contacts(), atlas=atlas, labels=atlas.with_name("two.tsv"))]
    assert named == ["right", "left", "right", "", "", ""]
    assert [c.region for c in after("regions", contacts(), atlas=atlas)][:2] == ["1", "2"]
    kept = [replace(c, region="by hand") for c in contacts()]
    assert {c.region for c in after("regions", kept, atlas=atlas)} == {"by hand"}


def test_regions_refuse_what_is_no_atlas(atlas):
    broken = atlas.with_name("broken.nii.gz")
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.nii\.gz is no readable"):
        after("regions", contacts(), atlas=broken)
    soft = atlas.with_name("soft.nii")
    nibabel.save(nibabel.Nifti1Image(np.full((3, 3, 3), 0.5, np.float32), np.eye(4)), soft)
    with pytest.raises(DataError, match="whole numbers"):
        after("regions", contacts(), atlas=soft)
    atlas.with_name("bad.tsv").write_text("number\tregion\n1\tx\n")
    with pytest.raises(ConfigError, match="columns index, name"):
        after("regions", contacts(), atlas=atlas, labels=atlas.with_name("bad.tsv"))


def test_the_atlas_is_in_the_dataset_by_name_and_content_only(atlas, tmp_path):
    stages = [{"name": "regions", "atlas": str(atlas), "labels": str(atlas.with_name("two.tsv"))}]
    source = {"name": "simulated", "n_subjects": 1}
    prepare(source=source, out=tmp_path / "out", stages=stages, dask="none", progress=False)
    (entry,) = read_json(tmp_path / "out" / "dataset.json")["prep"]["stages"]
    assert entry["atlas"] == "two.nii.gz"
    assert entry["labels"] == {"1": "right", "2": "left"}
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()
    # what is written builds the stage again, where there is no atlas it leaves regions empty
    assert [c.region for c in after("regions", contacts(), **{k: v for k, v in entry.items() if k != "name"})] == [
        ""
    ] * 6
    again = prepare(source=source, out=tmp_path / "out", stages=stages, dask="none", progress=False)
    assert again.unchanged
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4)), atlas)
    with pytest.raises(ConfigError, match="other settings"):
        prepare(source=source, out=tmp_path / "out", stages=stages, dask="none", progress=False)
