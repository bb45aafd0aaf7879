"""NSD's layout: reversed HDF5 axes, int16 times 300, two ways of counting pictures, the shared thousand as test part."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from data_prep.sources.nsd import STREAMS
from neurofm.schema.errors import ConfigError, DataError

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("nilearn")

SHAPE, N = (7, 6, 5), 8
AFFINE = np.diag([1.8, 1.8, 1.8, 1.0])
# 1-based pictures of the ten of the plan; 73001 would be one too many
PICTURES = np.array([5, 900, 31, 72999, 12, 73000, 1, 400, 77, 78])
SHARED = [31, 1]
# which of the ten is shown in each of two sessions of eight trials
ORDER = np.array([1, 3, 2, 6, 3, 4, 7, 5, 8, 7, 1, 9, 10, 3, 6, 2])


@pytest.fixture
def tree(tmp_path):
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.int16) - 1
    mask[2:5, 1:5, 1:4] = rng.integers(0, 3, (3, 4, 3))
    mask[3, 3, 2] = 1
    streams = np.zeros(SHAPE, np.int16)
    streams[2:4], streams[4:] = 1, 5
    ppdata = tmp_path / "nsddata" / "ppdata" / "subj02"
    (ppdata / "func1pt8mm" / "roi").mkdir(parents=True)
    (ppdata / "behav").mkdir()
    for name, values in (("nsdgeneral", mask), ("streams", streams)):
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), ppdata / "func1pt8mm" / "roi" / f"{name}.nii.gz")
    folder = tmp_path / "nsddata_betas" / "ppdata" / "subj02" / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
    folder.mkdir(parents=True)
    betas = rng.integers(-3000, 3000, (2, *SHAPE, N)).astype(np.int16)
    betas[0, 3, 3, 2] = 0
    with h5py.File(folder / "betas_session01.hdf5", "w") as f:
        f["betas"] = betas[0].transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(betas[1], AFFINE), folder / "betas_session02.nii.gz")
    names = ["SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME"]
    rows = [[2, 1 + k // N, 1 + k % N // 4, 1 + k % 4, PICTURES[i - 1], i, 737000.5 + k] for k, i in enumerate(ORDER)]
    text = "\n".join("\t".join(map(str, r)) for r in [names, *rows])
    (ppdata / "behav" / "responses.tsv").write_text(text)
    experiment = tmp_path / "nsddata" / "experiments" / "nsd"
    experiment.mkdir(parents=True)
    plan = {"masterordering": ORDER[None], "subjectim": np.stack([PICTURES + 1, PICTURES]), "sharedix": [SHARED]}
    savemat(experiment / "nsd_expdesign.mat", plan)
    lines = [f"{i},{i},{i + 1 in SHARED}" for i in (0, 4, 30, 899, 72999)]
    (experiment / "nsd_stim_info_merged.csv").write_text("\n".join([",nsdId,shared1000", *lines]))
    return tmp_path, betas, mask


def source(tree, **choices):
    return SOURCES.build("nsd", root=tree[0], **choices)


def whole(r):
    return np.concatenate([r.signal.read(i, 0, 1) for i in range(len(r.signal.n_samples))])


def test_trials_are_split_into_the_official_parts(tree):
    items = pickle.loads(pickle.dumps(source(tree).list()))
    found = {(r.session, r.part): r for r in (i.load() for i in items)}
    assert sorted(found) == [("01", "test"), ("01", "train"), ("02", "test"), ("02", "train")]
    shown = PICTURES[ORDER - 1]
    for (session, part), r in found.items():
        s = int(session) - 1
        mine = [k for k in range(N) if (shown[s * N + k] in SHARED) == (part == "test")]
        assert [e.stimulus_id for e in r.events] == [f"nsd-{shown[s * N + k] - 1:05d}" for k in mine]
        assert [e.onset_s for e in r.events] == list(r.interval_start_s) == [4.0 * k for k in mine]
        assert [e.block for e in r.events] == [1 + k // 4 for k in mine]
        expected = tree[1][s][tree[2] > 0].T[mine] / 300
        np.testing.assert_allclose(whole(r), expected, rtol=1e-12)
        assert (r.subject, r.signal.unit, r.signal.n_samples) == ("02", "percent", (1,) * len(mine))
    # the picture shown third, fourth and fifth of the shared one, over both sessions
    repeats = [e.value for s in ("01", "02") for e in found[s, "test"].events if e.stimulus_id == "nsd-00030"]
    assert repeats == [1.0, 2.0, 3.0]
    assert len({r.recording_id for r in found.values()}) == 4


def test_voxels_are_in_the_order_of_the_mask_and_silent_ones_are_bad(tree):
    at = np.argwhere(tree[2] > 0)
    for item in source(tree, regions="streams").list():
        r = item.load()
        channels = r.signal.channels
        assert [c.name for c in channels] == [f"v{i:03d}-{j:03d}-{k:03d}" for i, j, k in at]
        np.testing.assert_allclose([(c.x, c.y, c.z) for c in channels], at * 1.8e-3)
        assert [c.region for c in channels] == ["early" if i < 4 else "ventral" for i, _, _ in at]
        silent = [c.name for c in channels if c.bad]
        assert silent == (["v003-003-002"] if r.session == "01" else [])
    assert STREAMS[5] == "ventral"


def test_scaled_header_changes_nothing(tree):
    folder = tree[0] / "nsddata_betas" / "ppdata" / "subj02" / "func1pt8mm" / "betas_fithrf_GLMdenoise_RR"
    before = whole(source(tree, sessions=[2]).list()[0].load())
    image = nibabel.Nifti1Image(tree[1][1], AFFINE)
    image.header.set_slope_inter(1 / 300, 0)
    nibabel.save(image, folder / "betas_session02.nii.gz")
    loaded = nibabel.load(folder / "betas_session02.nii.gz")
    assert loaded.dataobj.slope != 1
    np.testing.assert_allclose(whole(source(tree, sessions=["02"]).list()[0].load()), before, rtol=1e-12)


def test_plan_alone_or_table_alone_says_the_same(tree):
    root = tree[0]
    before = [(i.load().part, [e.stimulus_id for e in i.load().events]) for i in source(tree).list()]
    responses = root / "nsddata" / "ppdata" / "subj02" / "behav" / "responses.tsv"
    text = responses.read_text()
    responses.unlink()
    assert [(i.load().part, [e.stimulus_id for e in i.load().events]) for i in source(tree).list()] == before
    responses.write_text(text)
    (root / "nsddata" / "experiments" / "nsd" / "nsd_expdesign.mat").unlink()
    assert [(i.load().part, [e.stimulus_id for e in i.load().events]) for i in source(tree).list()] == before
    (root / "nsddata" / "experiments" / "nsd" / "nsd_stim_info_merged.csv").unlink()
    with pytest.raises(DataError, match="neither nsd_expdesign.mat nor nsd_stim_info_merged.csv".replace(".", r"\.")):
        source(tree).list()


def test_off_by_one_is_noticed(tree):
    responses = tree[0] / "nsddata" / "ppdata" / "subj02" / "behav" / "responses.tsv"
    head, *rows = [line.split("\t") for line in responses.read_text().splitlines()]
    for shift, message in [(-1, "73KID 0 in subj02; expected numbers counted from 1"),
                           (1, "says picture 6 for trial 1, nsd_expdesign.mat 5")]:  # fmt: skip
        moved = [[*r[:4], str(int(r[4]) + shift), *r[5:]] for r in rows]
        responses.write_text("\n".join("\t".join(r) for r in [head, *moved]))
        for item in source(tree).list():
            with pytest.raises(DataError, match=message.replace(".", r"\.")):
                item.load()


@pytest.mark.parametrize("kind", ["axes", "missing", "key", "count", "cut", "mask"])
def test_files_that_do_not_fit(tree, kind):
    root, betas, _ = tree
    path = next(root.rglob("betas_session01.hdf5"))
    data, key = betas[0].transpose(3, 2, 1, 0), "betas"
    message = {
        "axes": r"betas have shape \(8, 7, 6, 5\).*expected \(trial, z, y, x\)",
        "missing": r"needs roi/nsdgeneral\.nii\.gz, which is not there",
        "key": r"has no dataset 'betas'.*it holds: beta\)",
        "count": r"session 1 has 7 betas, responses\.tsv 8 trials",
        "cut": "cut short or no readable HDF5 file",
        "mask": "no voxel above 0",
    }[kind]
    if kind == "axes":
        data = betas[0].transpose(3, 0, 1, 2)
    if kind == "key":
        key = "beta"
    if kind == "count":
        data = data[:7]
    with h5py.File(path, "w") as f:
        f[key] = data
    mask = next(root.rglob("nsdgeneral.nii.gz"))
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:900])
    if kind == "missing":
        mask.unlink()
    if kind == "mask":
        nibabel.save(nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE), mask)
    with pytest.raises(DataError, match=message):
        source(tree, sessions=[1]).list()[0].load()


def test_choices(tree):
    with pytest.raises(ConfigError, match=r"subject 3 is not there: valid names are: 2"):
        source(tree, subjects=["subj03"]).list()
    with pytest.raises(ConfigError, match="fsaverage"):
        source(tree, space="fsaverage")
    with pytest.raises(ConfigError, match="'two'"):
        source(tree, subjects=["two"])
    assert [i.session for i in source(tree, subjects=[2], sessions=["01"]).list()] == ["01", "01"]


def test_prepared(tree, tmp_path):
    out = tmp_path / "out"
    report = prepare(source=source(tree), out=out, stages=[{"name": "quality"}], segment_s=None, dask="none",
                     progress=False)  # fmt: skip
    assert (report.totals["n_recordings"], report.totals["n_segments"], report.rejected) == (4, 2 * N, [])
    # the time stamps of the responses are days of somebody's life
    assert not any(b"737000" in p.read_bytes() for p in out.rglob("*") if p.is_file())
