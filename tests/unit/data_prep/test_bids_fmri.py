"""Preprocessed runs against means over label voxels taken by numpy and cleaning done by nilearn."""

from __future__ import annotations

import gzip
import json
import pickle

import numpy as np
import pytest

from data_prep.flow import run_stages
from data_prep.pipeline import prepare
from data_prep.readers import volumes
from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -8], [0, 0, 2, -6], [0, 0, 0, 1]])
SHAPE, N, TR = (6, 5, 4), 40, 1.5
MOTION = ["trans_x", "trans_y", "rot_z"]


def save(path, data, affine=AFFINE, tr_s=None):
    image = nibabel.Nifti1Image(data, affine)
    if tr_s is not None:
        image.header.set_zooms((2, 2, 2, tr_s))
        image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"Jane Doe 1970-01-01"
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, path)


@pytest.fixture
def tree(tmp_path):
    """A raw dataset with fMRIPrep's folder, two subjects, and an atlas outside of it."""
    rng = np.random.default_rng(0)
    atlas = np.zeros(SHAPE, np.int16)
    atlas[:2], atlas[2:4], atlas[4:, :3] = 3, 7, 9
    save(tmp_path / "atlas.nii.gz", atlas)
    (tmp_path / "atlas.tsv").write_text("index\tname\n3\tLeft\n7\tRight\n9\tMiddle\n")
    data = {}
    for sub in ("01", "02"):
        func = tmp_path / "bids" / "derivatives" / "fmriprep" / f"sub-{sub}" / "ses-a" / "func"
        base = f"sub-{sub}_ses-a_task-look_run-1"
        x = (rng.standard_normal((*SHAPE, N)) * 20 + 900).astype("f4")
        data[sub] = x
        save(func / f"{base}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz", x, tr_s=TR)
        side = func / f"{base}_space-MNI152NLin2009cAsym_desc-preproc_bold.json"
        side.write_text(json.dumps({"RepetitionTime": TR, "TaskName": "look"}))
        motion = rng.standard_normal((N, 3))
        derivative = np.vstack([[np.nan], np.diff(motion[:, :1], axis=0)])
        names = [*MOTION, "trans_x_derivative1", "non_steady_state_outlier00"]
        spike = np.eye(N)[:, :1]
        table = np.hstack([motion, derivative, spike])
        lines = ["\t".join(names), *("\t".join("n/a" if np.isnan(v) else repr(float(v)) for v in r) for r in table)]
        (func / f"{base}_desc-confounds_timeseries.tsv").write_text("\n".join(lines))
        (func / f"{base}_desc-confounds_timeseries.json").write_text("{}")
        raw = tmp_path / "bids" / f"sub-{sub}" / "ses-a" / "func"
        raw.mkdir(parents=True)
        (raw / f"{base}_events.tsv").write_text(
            "onset\tduration\ttrial_type\tnote\n12.0\t3\thouse\tJane Doe coughed\n3.0\tn/a\tface\t\n"
        )
    (tmp_path / "bids" / "task-look_bold.json").write_text(json.dumps({"RepetitionTime": 99}))
    return tmp_path, data, atlas


def source(tree, **choices):
    folder = tree[0]
    given = {"root": folder / "bids", "atlas": str(folder / "atlas.nii.gz"), "labels": str(folder / "atlas.tsv")}
    return SOURCES.build("bids_fmri", **(given | choices))


def whole(stream, interval=0):
    return stream.read(interval, 0, stream.n_samples[interval])


def means(data, atlas):
    return np.stack([data[atlas == v].mean(axis=0, dtype=np.float64) for v in (3, 7, 9)], axis=1)


def test_regions_events_and_identity(tree):
    items = pickle.loads(pickle.dumps(source(tree).list()))
    assert [(i.subject, i.session) for i in items] == [("01", "a"), ("02", "a")]
    r = items[1].load()
    assert (r.recording_id, r.modality) == ("bids_fmri_sub-02_ses-a_task-look_run-1", "fmri")
    assert r.signal.rate_hz == pytest.approx(1 / TR)
    assert [(c.name, c.kind, c.region, c.frame) for c in r.signal.channels] == [
        (n, "bold", n, "mni") for n in ("Left", "Right", "Middle")
    ]
    np.testing.assert_allclose(whole(r.signal), means(tree[1]["02"], tree[2]), rtol=1e-6)
    assert [(e.onset_s, e.duration_s, e.label) for e in r.events] == [(3.0, 0.0, "face"), (12.0, 3.0, "house")]
    assert "Jane" not in repr(r)
    assert str(tree[0]) not in str(source(tree).describe())
    # centre of a region: x is mirrored by the affine, voxels 0 and 1 lie at 10 and 8 mm
    assert r.signal.channels[0].x == pytest.approx(0.009)


def test_fmriprep_folder_itself_finds_the_raw_events(tree):
    (item,) = source(tree, root=tree[0] / "bids" / "derivatives" / "fmriprep", subjects=["sub-01"], runs=["01"]).list()
    assert len(item.load().events) == 2


def test_blocks_do_not_change_the_series(tree, monkeypatch):
    before = whole(source(tree).list()[0].load().signal)
    monkeypatch.setattr(volumes, "BLOCK_BYTES", 8 * np.prod(SHAPE) * 7)
    np.testing.assert_array_equal(whole(source(tree).list()[0].load().signal), before)


def test_agrees_with_nilearn_masker(tree):
    from nilearn.maskers import NiftiLabelsMasker

    image = next((tree[0] / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    masker = NiftiLabelsMasker(str(tree[0] / "atlas.nii.gz"), standardize=None, reports=False)
    np.testing.assert_allclose(whole(source(tree).list()[0].load().signal), masker.fit_transform(str(image)), rtol=1e-5)


def test_mirrored_atlas_is_turned_by_its_affine(tree):
    folder, data, atlas = tree
    turned = AFFINE @ np.diag([-1.0, 1, 1, 1])
    turned[:, 3] = AFFINE @ [SHAPE[0] - 1, 0, 0, 1]
    save(folder / "turned.nii.gz", atlas[::-1], turned)
    for resample in (False, True):
        r = source(tree, atlas=str(folder / "turned.nii.gz"), resample=resample).list()[0].load()
        np.testing.assert_allclose(whole(r.signal), means(data["01"], atlas), rtol=1e-6)


def test_atlas_of_another_grid_is_moved_only_when_asked(tree):
    folder, data, atlas = tree
    wider = AFFINE.copy()
    wider[:, 3] = AFFINE @ [-1, -1, -1, 1]
    save(folder / "wider.nii.gz", np.pad(atlas, 1), wider)
    with pytest.raises(DataError, match=r"no image in the space of the atlas wider\.nii\.gz.*affine.*resample=true"):
        source(tree, atlas=str(folder / "wider.nii.gz")).list()[0].load()
    r = source(tree, atlas=str(folder / "wider.nii.gz"), resample=True).list()[0].load()
    np.testing.assert_allclose(whole(r.signal), means(data["01"], atlas), rtol=1e-6)
    away = AFFINE + np.array([[0, 0, 0, 500.0]] * 3 + [[0] * 4])
    save(folder / "away.nii.gz", atlas, away)
    with pytest.raises(DataError, match="nothing of the atlas"):
        source(tree, atlas=str(folder / "away.nii.gz"), resample=True).list()[0].load()


def test_voxels_of_a_mask_with_regions(tree):
    folder, data, _ = tree
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, 2, 3] = mask[4, 0, 1] = mask[5, 4, 0] = 1
    save(folder / "bids" / "masks" / "02.nii", mask)
    r = source(tree, mask="masks/{subject}.nii", subjects=["02"]).list()[0].load()
    assert [c.name for c in r.signal.channels] == ["v001-002-003", "v004-000-001", "v005-004-000"]
    assert [c.region for c in r.signal.channels] == ["Left", "Middle", ""]
    c = r.signal.channels[0]
    np.testing.assert_allclose([c.x, c.y, c.z], (AFFINE @ [1, 2, 3, 1])[:3] / 1000)
    np.testing.assert_array_equal(whole(r.signal), data["02"][mask > 0].T)
    with pytest.raises(DataError, match=r"mask '01\.nii' is no file"):
        source(tree, mask="masks/{subject}.nii", subjects=["01"]).list()[0].load()


@pytest.mark.parametrize("detrend", [0, 1])
def test_confounds_equal_signal_clean(tree, detrend):
    from nilearn.signal import clean

    folder = tree[0] / "bids" / "derivatives" / "fmriprep" / "sub-01" / "ses-a" / "func"
    motion = np.genfromtxt(folder / "sub-01_ses-a_task-look_run-1_desc-confounds_timeseries.tsv", skip_header=1)[:, :3]
    r = source(tree, confounds=["trans_?", "rot_*"], detrend=detrend).list()[0].load()
    x = means(tree[1]["01"], tree[2])
    expected = clean(x, confounds=motion, detrend=bool(detrend), standardize=None)
    # nilearn's detrending takes the mean as well, ours leaves it
    found = whole(r.signal)
    np.testing.assert_allclose(found - found.mean(axis=0), expected - expected.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), x.mean(axis=0))
    assert np.abs(found - x).max() > 1
    assert [c.name for c in r.streams[1].channels] == MOTION
    np.testing.assert_allclose(whole(r.streams[1]), motion)


def test_first_value_of_a_derivative_is_filled(tree):
    r = source(tree, confounds=["trans_x_derivative1"]).list()[0].load()
    column = whole(r.streams[1])[:, 0]
    assert column[0] == column[1]


def test_strategy_keeps_all_volumes_and_marks_them(tree):
    choice = {"strategy": ["motion"], "motion": "basic"}
    for p in (tree[0] / "bids").rglob("*timeseries.tsv"):
        head, *rows = p.read_text().splitlines()
        more = ["trans_z", "rot_x", "rot_y"]
        p.write_text(
            "\n".join(["\t".join([head, *more]), *(f"{r}\t0.{i}\t0.{i * i}\t{-i}" for i, r in enumerate(rows))])
        )
    kept = source(tree, confounds=choice).list()[0].load()
    assert kept.signal.n_samples == (N,)
    assert [s.name for s in kept.streams] == ["signal", "confounds", "kept"]
    np.testing.assert_array_equal(whole(kept.streams[2])[:, 0], np.arange(N) > 0)
    cut = source(tree, confounds=choice, scrub="cut").list()[0].load()
    assert cut.signal.n_samples == (N - 1,)
    assert cut.interval_start_s == (TR,)
    np.testing.assert_array_equal(whole(cut.signal), whole(kept.signal)[1:])
    # the volume that is not to be used teaches the weights nothing
    x, design = means(tree[1]["01"], tree[2]), whole(kept.streams[1])
    weights = np.linalg.lstsq(np.hstack([np.ones((N - 1, 1)), design[1:]]), x[1:], rcond=None)[0]
    expected = x - (design - design[1:].mean(axis=0)) @ weights[1:]
    np.testing.assert_allclose(whole(kept.signal), expected, rtol=1e-9)


def test_onset_beyond_the_end_names_the_tr(tree):
    events = next((tree[0] / "bids").rglob("sub-01*_events.tsv"))
    events.write_text("onset\tduration\ttrial_type\n3\t1\tface\n59.9\t1\tface\n60\t1\thouse\n")
    with pytest.raises(DataError, match=r"event 3 \(house\) begins at 60 s.*end at 60 s \(40 volumes, TR 1.5 s\)"):
        source(tree).list()[0].load()
    assert source(tree, tr_s=2.0).list()[0].load().signal.rate_hz == 0.5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"RepetitionTime": 3.0}, "3 s by its sidecar and 1.5 s by its header; set source.tr_s"),
        ({"RepetitionTime": "2"}, "field 'RepetitionTime' is '2'"),
        ([], "holds no JSON object"),
    ],
)
def test_wrong_repetition_time(tree, content, message):
    next((tree[0] / "bids").rglob("sub-01*preproc_bold.json")).write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        source(tree).list()[0].load()


def test_repetition_time_is_inherited_and_start_time_moves_the_clock(tree):
    folder = tree[0] / "bids"
    side = next(folder.rglob("sub-01*preproc_bold.json"))
    side.write_text(json.dumps({"StartTime": 0.7}))
    (folder / "task-look_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
    (folder / "task-rest_bold.json").write_text(json.dumps({"RepetitionTime": 7}))
    r = source(tree).list()[0].load()
    assert r.interval_start_s == (0.7,)
    assert r.signal.rate_hz == pytest.approx(1 / TR)


def test_choices_that_cannot_be_meant(tree):
    folder = tree[0]
    for choices, message in [
        ({"atlas": None}, "needs atlas"),
        ({"atlas": "nowhere.nii"}, "atlas 'nowhere.nii' is no file"),
        ({"space": "MNI152NLin6Asym"}, "did you mean 'MNI152NLin2009cAsym'"),
        ({"derivatives": "other"}, "'other' is no folder"),
    ]:
        with pytest.raises(ConfigError, match=message):
            source(tree, **choices).list()
    for choices, message in [
        ({"confounds": "simpel"}, "did you mean 'simple'"),
        ({"confounds": {"stratgy": ["motion"]}}, "did you mean 'strategy'"),
        ({"detrend": 3}, "detrend is 3"),
        ({"scrub": "drop"}, "scrub is 'drop'"),
        ({"tr_s": 0}, "tr_s is 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            source(tree, **choices)
    with pytest.raises(DataError, match="no column 'trans_w'"):
        source(tree, confounds=["trans_w"]).list()[0].load()
    image = next((folder / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    native = image.with_name(image.name.replace("MNI152NLin2009cAsym", "T1w"))
    native.write_bytes(image.read_bytes())
    with pytest.raises(ConfigError, match=r"several of 'space' \(MNI152NLin2009cAsym, T1w\)"):
        source(tree).list()
    assert len(source(tree, space="T1w").list()) == 1


def test_two_pipelines_must_be_told_apart(tree):
    other = tree[0] / "bids" / "derivatives" / "older" / "sub-01" / "func"
    other.mkdir(parents=True)
    image = next((tree[0] / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    (other / image.name).write_bytes(image.read_bytes())
    with pytest.raises(ConfigError, match="from derivatives/fmriprep, derivatives/older; set source"):
        source(tree).list()
    assert len(source(tree, derivatives="derivatives/fmriprep").list()) == 2


def test_twins_are_told_apart_by_direction(tree):
    image = next((tree[0] / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    for d in ("AP", "PA"):
        image.with_name(image.name.replace("_run-1", f"_dir-{d}_run-1")).write_bytes(image.read_bytes())
    image.unlink()
    ids = [i.load().recording_id for i in source(tree, subjects=["01"], tr_s=TR).list()]
    assert ids == [f"bids_fmri_sub-01_ses-a_task-look_run-{d}-1" for d in ("ap", "pa")]


def test_prepared_with_a_truncated_run_beside(tree, tmp_path):
    """The damaged run is in the rejected table, the other one goes on; nothing personal is written."""
    image = next((tree[0] / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    image.write_bytes(image.read_bytes()[:-3000])
    out = tmp_path / "out"
    report = prepare(source=source(tree, confounds=["trans_x"]), out=out, stages=[{"name": "quality"}], segment_s=None,
                     dask="none", progress=False)  # fmt: skip
    ((key, reason),) = report.rejected
    assert "sub-01" in key
    assert "ends before its 40 volumes" in reason
    assert report.totals["n_recordings"] == 1
    for p in out.rglob("*"):
        if p.is_file():
            text = p.read_bytes()
            assert b"Jane" not in text
            assert b"1970-01" not in text


def test_region_without_finite_voxel_is_bad_and_others_skip_it(tree):
    folder, data, atlas = tree
    x = data["01"].copy()
    x[atlas == 9] = np.nan
    x[0, 0, 0] = np.nan
    image = next((folder / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    save(image, x, tr_s=TR)
    from data_prep.stages.quality import Quality

    r = source(tree).list()[0].load()
    assert [c.bad for c in run_stages(r, [Quality()]).info.channels] == [False, False, True]
    rest = (atlas == 3) & (np.indices(SHAPE).sum(axis=0) > 0)
    np.testing.assert_allclose(whole(r.signal)[:, 0], x[rest].mean(axis=0, dtype=float), rtol=1e-6)


def test_damaged_files_are_told(tree):
    image = next((tree[0] / "bids").rglob("sub-01*preproc_bold.nii.gz"))
    image.write_bytes(gzip.compress(b"no image at all"))
    with pytest.raises(DataError, match="not a readable NIfTI"):
        source(tree).list()[0].load()
