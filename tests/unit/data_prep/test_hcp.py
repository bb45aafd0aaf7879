"""CIFTI runs: columns are told by vertex and voxel, whatever part of the mesh atlas and series leave out."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.readers import cifti
from data_prep.sources import SOURCES
from data_prep.sources.hcp import entities_of
from neurofm.schema.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")
from nibabel.cifti2 import BrainModelAxis, LabelAxis, SeriesAxis  # noqa: E402

N, TR, VERTICES = 30, 0.72, 12
WALL = {"left": [0, 5], "right": [3, 4, 11]}
LABEL_OF = {"left": [1, 1, 2, 2, 0, 1, 1, 0, 2, 2, 1, 1], "right": [7, 0, 7, 7, 7, 7, 0, 0, 7, 7, 7, 7]}


def cortex(side, without):
    mask = np.ones(VERTICES, bool)
    mask[without] = False
    return BrainModelAxis.from_mask(mask, name=f"CORTEX_{side.upper()}")


def thalamus():
    mask = np.zeros((4, 4, 4), bool)
    mask[1, 2, 1:3] = mask[3, 0, 0] = True
    return BrainModelAxis.from_mask(mask, name="THALAMUS_LEFT", affine=np.eye(4))


@pytest.fixture
def tree(tmp_path):
    """A working-memory run without the medial wall, and an atlas of the whole mesh."""
    axis = cortex("left", WALL["left"]) + cortex("right", WALL["right"]) + thalamus()
    x = np.random.default_rng(0).standard_normal((N, len(axis))).astype("f4") * 50 + 10000
    folder = tmp_path / "HCP_1200" / "100307" / "MNINonLinear" / "Results" / "tfMRI_WM_LR"
    (folder / "EVs").mkdir(parents=True)
    nibabel.save(nibabel.Cifti2Image(x, (SeriesAxis(0, TR, N), axis)), folder / "tfMRI_WM_LR_Atlas_MSMAll.dtseries.nii")
    (folder / "EVs" / "2bk_faces.txt").write_text("7.9\t2.5\t1\n3.1\t2.5\t1\n")
    (folder / "EVs" / "0bk_err.txt").write_text("")
    (folder / "EVs" / "0bk_body.txt").write_text("12.5\t2.5\t1\n")
    (folder / "EVs" / "Sync.txt").write_text("99999")
    mesh = cortex("left", []) + cortex("right", [])
    table = {0: ("???", (0, 0, 0, 0)), 1: ("L_V1", (1, 0, 0, 1)), 2: ("L_V2", (0, 1, 0, 1)), 7: ("R_V1", (0, 0, 1, 1))}
    labels = LabelAxis(["parcels"], [table])
    values = np.array([LABEL_OF["left"] + LABEL_OF["right"]], "f4")
    nibabel.save(nibabel.Cifti2Image(values, (labels, mesh)), tmp_path / "atlas.dlabel.nii")
    return tmp_path, x


def load(tree, **choices):
    given = {"root": tree[0] / "HCP_1200", "atlas": str(tree[0] / "atlas.dlabel.nii")}
    (item,) = SOURCES.build("hcp", **(given | choices)).list()
    return item.load()


def columns(side, label, before):
    kept = [v for v in range(VERTICES) if v not in WALL[side]]
    return [before + c for c, v in enumerate(kept) if LABEL_OF[side][v] == label]


@pytest.mark.parametrize("block", [cifti.BLOCK_BYTES, 8 * 22 * 4])
def test_parcels_skip_the_medial_wall(tree, monkeypatch, block):
    monkeypatch.setattr(cifti, "BLOCK_BYTES", block)
    r = load(tree)
    assert [c.name for c in r.signal.channels] == ["L_V1", "L_V2", "R_V1"]
    n_left = VERTICES - len(WALL["left"])
    expected = [columns("left", 1, 0), columns("left", 2, 0), columns("right", 7, n_left)]
    np.testing.assert_allclose(
        r.signal.read(0, 0, N), np.stack([tree[1][:, c].mean(axis=1, dtype=float) for c in expected], axis=1), rtol=1e-9
    )
    assert (r.subject, r.task, r.run, r.signal.rate_hz) == ("100307", "WM", "LR", pytest.approx(1 / TR))
    assert [(e.onset_s, e.label) for e in r.events] == [(3.1, "2bk_faces"), (7.9, "2bk_faces"), (12.5, "0bk_body")]


def test_structures_as_they_are(tree):
    r = load(tree, atlas=None, structures=["thalamus_left", "cortex_right"])
    assert [c.name for c in r.signal.channels][-4:] == [
        "cortex_right-00010", "thalamus_left-001-002-001", "thalamus_left-001-002-002", "thalamus_left-003-000-000",
    ]  # fmt: skip
    np.testing.assert_array_equal(r.signal.read(0, 0, N), tree[1][:, 10:])
    with pytest.raises(DataError, match="no structure 'cerebellum'; it has cortex_left"):
        load(tree, atlas=None, structures=["cerebellum"])


def test_names_of_runs():
    assert entities_of("rfMRI_REST1_7T_PA") == {"session": "7T", "task": "REST1", "run": "PA"}
    assert entities_of("tfMRI_LANGUAGE_RL") == {"session": "", "task": "LANGUAGE", "run": "RL"}
    assert entities_of("tfMRI_7T_RETCCW_AP_RETCW_PA_RETEXP_AP") is None


def test_what_does_not_fit(tree):
    folder = tree[0] / "HCP_1200/100307/MNINonLinear/Results/tfMRI_WM_LR"
    with pytest.raises(ConfigError, match="needs atlas"):
        load(tree, atlas=None)
    with pytest.raises(ConfigError, match="subject 100308 is not there"):
        load(tree, subjects=[100308])
    with pytest.raises(DataError, match=r"Atlas_MSMAll\.dtseries\.nii: holds no labels"):
        load(tree, atlas=str(folder / "tfMRI_WM_LR_Atlas_MSMAll.dtseries.nii"))
    (folder / "EVs" / "0bk_body.txt").write_text(f"{N * TR}\t2.5\t1\n")
    with pytest.raises(DataError, match=r"event 1 begins at 21.6 s.*\(30 volumes, TR 0.72 s\)"):
        load(tree)
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), folder / "tfMRI_WM_LR_Atlas_MSMAll.dtseries.nii")
    with pytest.raises(DataError, match="no CIFTI file"):
        load(tree)
