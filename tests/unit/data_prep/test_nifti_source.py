"""Plain images with tables beside them, against arrays known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.readers.tables import read_labels
from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

SHAPE, N = (4, 4, 3), 12


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    atlas = np.zeros(SHAPE, np.uint8)
    atlas[:2], atlas[2:] = 1, 2
    (tmp_path / "runs" / "P1").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(atlas, np.eye(4)), tmp_path / "runs" / "atlas.nii.gz")
    image = nibabel.Nifti1Image(rng.integers(0, 2000, (*SHAPE, N)).astype("i2"), np.eye(4))
    image.header.set_zooms((1, 1, 1, 2.5))
    nibabel.save(image, tmp_path / "runs" / "P1" / "run2_bold.nii.gz")
    return tmp_path / "runs", np.asarray(image.dataobj), atlas


def source(folder, **choices):
    given = {"root": folder, "atlas": "atlas.nii.gz", "pattern": "{subject}/run{run}_bold.nii.gz"}
    return SOURCES.build("nifti", **(given | choices))


def load(folder, **choices):
    (item,) = source(folder, **choices).list()
    return item.load()


def test_atlas_is_no_run_and_header_gives_the_tr(folder):
    root, data, atlas = folder
    r = load(root)
    assert (r.subject, r.run, r.signal.rate_hz, r.events) == ("P1", "2", 0.4, ())
    x = r.signal.read(0, 0, N)
    np.testing.assert_allclose(x, np.stack([data[atlas == v].mean(axis=0) for v in (1, 2)], axis=1), rtol=1e-12)
    assert [c.name for c in r.signal.channels] == ["1", "2"]
    assert load(root, tr_s=3).signal.rate_hz == pytest.approx(1 / 3)
    linear = load(root, detrend=1).signal.read(0, 0, N)
    t = np.arange(N)
    expected = x - np.stack([np.polyval([np.polyfit(t, c, 1)[0], 0], t - t.mean()) for c in x.T], axis=1)
    np.testing.assert_allclose(linear, expected, rtol=1e-9)


def test_onsets_beside(folder):
    root = folder[0]
    (root / "P1" / "run2_events.csv").write_text("onset,duration,condition,block,stim_file\n5,2.5,tools,1,a.png\n"
                                                 "0,2.5,faces,n/a,n/a\n")  # fmt: skip
    first, second = load(root).events
    assert (first.label, first.block, first.stimulus_id, first.trial) == ("faces", -1, "", 0)
    assert (second.onset_s, second.label, second.block, second.stimulus_id) == (5.0, "tools", 1, "a.png")
    (root / "P1" / "run2_events.csv").write_text("onset,label\n29.9,a\n30,b\n")
    with pytest.raises(DataError, match=r"event 2 \(b\) begins at 30 s.*30 s \(12 volumes, TR 2.5 s\).*source.tr_s"):
        load(root)
    (root / "P1" / "run2_events.csv").write_text("onset,label\nsoon,a\n")
    with pytest.raises(DataError, match="row 1 holds no number in column 'onset'"):
        load(root)
    (root / "P1" / "run2_events.csv").write_text("onset,label\n1,a,b\n")
    with pytest.raises(DataError, match="row 1 has 3 cells, its header 2"):
        load(root)


def test_one_label_per_volume(folder):
    root = folder[0]
    labels = ["rest"] * 3 + ["face"] * 4 + ["n/a"] * 2 + ["face"] * 3
    (root / "P1" / "run2_bold.tsv").write_text("labels\tchunks\n" + "".join(f"{w}\t0\n" for w in labels))
    found = [(e.onset_s, e.duration_s, e.label, e.block) for e in load(root).events]
    assert found == [(0.0, 7.5, "rest", 0), (7.5, 10.0, "face", 0), (22.5, 7.5, "face", 0)]
    (root / "P1" / "run2_bold.tsv").write_text("labels\n" + "face\n" * 11)
    with pytest.raises(DataError, match=r"one row for each of the 12 volumes \(11 rows\)"):
        load(root)


def test_one_table_for_all(folder):
    root = folder[0]
    (root / "all.csv").write_text("file,label\nrun2_bold.nii.gz,patient\nother.nii,control\n")
    (event,) = load(root, table="all.csv").events
    assert (event.onset_s, event.duration_s, event.label, event.kind) == (0.0, 30.0, "patient", "trial")
    (root / "all.csv").write_text("file,onset,label\nP1/run2_bold.nii.gz,3,a\nx.nii,900,c\nP1/run2_bold.nii.gz,1,b\n")
    assert [e.label for e in load(root, table="all.csv").events] == ["b", "a"]
    (root / "all.csv").write_text("file,onset\nx.nii,900\n")
    with pytest.raises(DataError, match=r"column 'file' has no row 'run2_bold\.nii\.gz'"):
        load(root, table="all.csv")
    with pytest.raises(ConfigError, match=r"table 'none\.csv' is no file"):
        load(root, table="none.csv")


def test_paths_and_headers_that_do_not_fit(folder):
    root = folder[0]
    with pytest.raises(DataError, match="does not fit source"):
        load(root, pattern="{subject}.nii.gz")
    image = nibabel.Nifti1Image(np.ones((*SHAPE, N), "f4"), np.eye(4))
    nibabel.save(image, root / "P1" / "run2_bold.nii.gz")
    with pytest.raises(DataError, match=r"no repetition time is stated by its sidecar or its header; set source\.tr_s"):
        load(root)
    image.header.set_zooms((1, 1, 1, 2000))
    nibabel.save(image, root / "P1" / "run2_bold.nii.gz")
    with pytest.raises(DataError, match="its header states a repetition time of 2000 s"):
        load(root)
    image.header.set_xyzt_units("mm", "msec")
    nibabel.save(image, root / "P1" / "run2_bold.nii.gz")
    assert load(root).signal.rate_hz == 0.5
    nibabel.save(image.slicer[..., 0], root / "P1" / "run2_bold.nii.gz")
    with pytest.raises(DataError, match="expected x, y, z and at least two volumes"):
        load(root)


@pytest.mark.parametrize(
    ("name", "text", "labels"),
    [
        ("dseg.tsv", "index\tname\tcolor\n1\tLeft V1\t#fff\n2\tRight V1\t#000\n", {1: "Left V1", 2: "Right V1"}),
        ("a.csv", "Region,Label\nA,1\nB,2\n", {1: "A", 2: "B"}),
        ("lut.txt", "# made by hand\n1 LH_Vis_1 120 18 131 0\n2 LH_Vis_2 120 18 132 0\n", {1: "LH_Vis_1", 2: "LH_Vis_2"}),
        ("names.txt", "A\nB\n", ["A", "B"]),
    ],
)  # fmt: skip
def test_tables_of_region_names(tmp_path, name, text, labels):
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == labels


def test_tables_that_name_nothing(tmp_path, folder):
    (tmp_path / "x.csv").write_text("colour,size\nred,1\n")
    with pytest.raises(DataError, match=r"x\.csv: has columns colour, size; expected one of numbers"):
        read_labels(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text("index,name\n1,A\n")
    with pytest.raises(ConfigError, match="label 2 has no name"):
        load(folder[0], labels=str(tmp_path / "y.csv"))
