"""A glob or a pattern that takes nothing says what there is."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from data_prep.layout.tree import nothing_fits
from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from data_prep.writer.shards import package_versions
from neurofm.schema.errors import ConfigError, DataError


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("source", ["files", "nwb", "arrays"])
def test_other_suffixes_are_listed_the_nearest_first(tmp_path, source):
    touch(tmp_path, "a/x.txt", "a/y.txt", "a/z.txt", "a/r.edff", "b.vhdr", ".cache/hidden.csv")
    with pytest.raises(
        DataError, match=r"no file fits source\.glob '\*\*/\*\.edf'; there are 1 \.edff, 3 \.txt, 1 \.vhdr$"
    ):
        SOURCES.build(source, root=tmp_path, glob="**/*.edf").list()


def test_the_right_suffix_in_another_folder_says_how_to_reach_it(tmp_path):
    touch(tmp_path, "s1/run1.edf", "s2/run1.edf")
    with pytest.raises(DataError, match=r"2 \.edf files, such as 's1/run1\.edf': '\*\*/\*\.edf' takes them"):
        SOURCES.build("files", root=tmp_path, glob="*.edf").list()


@pytest.mark.parametrize("source", ["files", "nwb", "arrays"])
def test_a_pattern_that_fits_no_file_names_the_nearest_and_how_far_it_fits(tmp_path, source):
    touch(tmp_path, "anna/visit1/a.npy", "readme/x.npy", "anna/session-1/run1.npy")
    pattern = "{subject}/session-{session}/run_{run}.npy"
    with pytest.raises(DataError) as told:
        SOURCES.build(source, root=tmp_path, glob="**/*.npy", pattern=pattern).list()
    assert str(told.value) == (
        f"{tmp_path}: of 3 files that fit source.glob '**/*.npy' none fits source.pattern '{pattern}'; the nearest is "
        "'anna/session-1/run1.npy', which fits '{subject}/session-{session}' and then has no '/run_{run}.npy'"
    )


def test_one_file_that_a_pattern_does_not_fit_is_rejected_by_name(tmp_path):
    for name in ("anna/run1.npy", "x.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.save(tmp_path / name, np.random.default_rng(0).standard_normal((500, 2)))
    source = {"name": "arrays", "root": str(tmp_path), "glob": "**/*.npy", "pattern": "{subject}/*.npy", "rate_hz": 100}
    report = prepare(source=source, out=tmp_path / "d", dask="none", progress=False)
    ((key, reason),) = report.rejected
    assert key == "x.npy"
    assert (
        reason
        == "path 'x.npy' does not fit source.pattern '{subject}/*.npy': it fits '{subject}' and then has no '/*.npy'"
    )
    with pytest.raises(ConfigError, match=r"has no \{subject\}"):
        SOURCES.build("files", root=tmp_path, glob="*", pattern="*_run-{run}.edf")


def test_two_suffixes_case_and_an_empty_folder(tmp_path):
    assert "there is no file at all" in str(nothing_fits(tmp_path, "*.edf"))
    touch(tmp_path, "sub/bold.nii.gz", "README")
    assert "1 .nii.gz files" in str(nothing_fits(tmp_path, "*.nii.gz"))
    assert "1 .nii.gz, 1 without a suffix" in str(nothing_fits(tmp_path, "*.nii"))


def recorded(path, names):
    info = mne.create_info(list(names), 100.0, "eeg")
    x = 1e-5 * np.random.default_rng(len(path.name)).standard_normal((len(names), 3000))
    mne.io.RawArray(x, info, verbose="error").save(path, verbose="error")


def test_a_kinds_pattern_that_fits_no_channel_of_any_recording_is_told_at_the_end(tmp_path, capfd):
    (tmp_path / "raw").mkdir()
    recorded(tmp_path / "raw" / "a_raw.fif", ["Fz", "Cz", "Chin1"])
    recorded(tmp_path / "raw" / "bb_raw.fif", ["Fz", "Cz", "Leg"])
    kinds = {"Chin*": "emg", "Leg": "emg", "EOG*": "eog", "Trigger": "stim"}
    source = {"name": "files", "root": str(tmp_path / "raw"), "glob": "*.fif", "kinds": kinds}
    report = prepare(source=source, out=tmp_path / "d", dask="none")
    said = "source.kinds: 'EOG*' (eog) fits no channel of any recording; there are Chin1, Cz, Fz, Leg"
    assert report.remarks == [said]
    assert f"note: {said}" in capfd.readouterr().err
    pairs = prepare(
        source={**source, "kinds": {"Cz": "eeg"}}, out=tmp_path / "e", dask="none", progress=False,
        stages=[{"name": "rereference", "method": "bipolar", "pairs": [["Fz", "Cz"]]}],
    )  # fmt: skip
    assert pairs.remarks == [], "a bipolar channel is called after its two"


def test_versions_of_what_was_used_and_of_nothing_else():
    assert set(package_versions({"a.edf"}, {"filter"})) == {"neurofm", "numpy", "scipy", "mne", "mne-bids"}
    assert {"nibabel", "nilearn"} <= set(package_versions({"a/bold.nii.gz"}))
    assert "nilearn" in package_versions({"a.npy"}, {"run_filter"})
    assert {"pynwb", "h5py"} <= set(package_versions({"a.nwb"}))
    assert "h5py" in package_versions({"a.h5"})
