"""THINGS-MEG: each split epoch once, images at the trigger, test images told apart."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from data_prep.sources import SOURCES
from neurofm.schema.errors import DataError

HEAD = "trial_type,image_on,image_off,image_path,things_image_nr,session_nr,run_nr\n"
ROWS = [
    "exp,1.0,1.48,images_meg/aardvark/aardvark_01b.jpg,3,1,1",
    "catch,2,2.5,images_catch_meg/catch_7.jpg,nan,1,1",
    "test,3,3.52,images_test_meg/ice_cream_cone_11s.jpg,90,1,1",
    "exp,4,4.5,images_meg/zebra/zebra_02s.jpg,120,1,2",
    "test,5,5.5,images_test_meg/ice_cream_cone_11s.jpg,90,1,2",
]


def attributes(root) -> None:
    (root / "sourcedata").mkdir()
    (root / "sourcedata/sample_attributes_P1.csv").write_text(HEAD + "\n".join(ROWS) + "\n")


def test_epochs_over_split_files(tmp_path):
    attributes(tmp_path)
    rng = np.random.default_rng(0)
    codes = [3, 999999, 90, 120, 90]
    x = rng.standard_normal((len(codes), 6, 281)) * 1e-13
    x = np.concatenate([x, np.zeros((395, 6, 281))])
    codes += [7777] * 395  # button markers enough to fill several files
    events = np.c_[np.arange(400) * 100, np.zeros(400, int), codes]
    info = mne.create_info([f"MLC{i}" for i in range(6)], 200.0, "mag")
    folder = tmp_path / "derivatives" / "preprocessed"
    folder.mkdir(parents=True)
    epochs = mne.EpochsArray(x, info, events, tmin=-0.1, verbose="error")
    epochs.save(folder / "preprocessed_P1-epo.fif", split_size="2MB", fmt="double", verbose="error")
    assert len(list(folder.iterdir())) > 1
    source = SOURCES.build("things_meg", root=tmp_path, variant="preprocessed")
    test, train = (i.load() for i in sorted(source.list(), key=lambda i: i.key))
    assert [(r.subject, r.part, r.signal.n_samples) for r in (train, test)] == [
        ("BIGMEG1", "train", (281, 281)),
        ("BIGMEG1", "test", (281, 281)),
    ]
    for rec, which in ((train, (0, 3)), (test, (2, 4))):
        for interval, i in enumerate(which):
            assert np.allclose(rec.signal.read(interval, 10, 281), x[i].T[10:] * 1e15, rtol=1e-12)
    assert [(e.label, e.stimulus_id, e.trial) for e in train.events] == [
        ("aardvark", "aardvark_01b", 0),
        ("zebra", "zebra_02s", 1),
    ]
    assert {(e.label, e.stimulus_id) for e in test.events} == {("ice_cream_cone", "ice_cream_cone_11s")}
    assert [e.onset_s for e in test.events] == pytest.approx([t + 0.1 for t in test.interval_start_s])
    last = sorted(folder.glob("*-epo-*.fif"))[-1]
    last.unlink()
    with pytest.raises(DataError, match=last.name):
        source.list()[0].load()


def write_run(root, *, codes=(64, 64, 64, 32), values=(3, 999999, 90)) -> np.ndarray:
    """A run whose first sample is not sample 0, with triggers 150 ms before the times in events.tsv."""
    folder = root / "sub-BIGMEG1" / "ses-01" / "meg"
    folder.mkdir(parents=True, exist_ok=True)
    stem = "sub-BIGMEG1_ses-01_task-main_run-01"
    x = np.zeros((3, 4000))
    x[:2] = np.random.default_rng(0).standard_normal((2, 4000)) * 1e-13
    for code, at in zip(codes, (1000, 1900, 2500, 3700), strict=False):
        x[2, at : at + 20] = code
    info = mne.create_info(["MLC11", "MRC11", "UPPT001"], 1000.0, ["mag", "mag", "stim"])
    raw = mne.io.RawArray(x, info, first_samp=500, verbose="error")
    raw.save(folder / f"{stem}_meg.fif", fmt="double", overwrite=True, verbose="error")
    lines = [f"{t}\t0.5\t{v}" for t, v in zip((1.15, 2.05, 2.65), values, strict=True)]
    (folder / f"{stem}_events.tsv").write_text("onset\tduration\tvalue\n" + "\n".join(lines) + "\n")
    return x


def test_run_takes_the_trigger(tmp_path):
    attributes(tmp_path)
    x = write_run(tmp_path)
    (item,) = SOURCES.build("things_meg", root=tmp_path).list()
    rec = item.load()
    assert (rec.subject, rec.session, rec.task, rec.run) == ("BIGMEG1", "01", "main", "01")
    assert np.allclose(rec.signal.read(0, 100, 200), x[:2, 100:200].T * 1e15, rtol=1e-12)
    assert [(e.onset_s, e.label, e.stimulus_id, e.value, e.trial) for e in rec.events] == [
        (1.0, "aardvark", "aardvark_01b", 0.0, 0),
        (2.5, "ice_cream_cone", "ice_cream_cone_11s", 1.0, 2),
    ]
    assert [e.duration_s for e in rec.events] == pytest.approx([0.48, 0.52])


@pytest.mark.parametrize("codes", [(64, 64, 32), (64, 64, 64, 64), (64, 5, 64, 32)])
def test_triggers_that_do_not_fit_are_refused(tmp_path, codes):
    attributes(tmp_path)
    write_run(tmp_path, codes=codes)
    with pytest.raises(DataError, match="UPPT001"):
        SOURCES.build("things_meg", root=tmp_path).list()[0].load()


def test_missing_attributes_are_named(tmp_path):
    write_run(tmp_path)
    with pytest.raises(DataError, match=r"sample_attributes_P1\.csv"):
        SOURCES.build("things_meg", root=tmp_path).list()[0].load()
