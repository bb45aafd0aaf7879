"""BIDS: events, coordinate systems, filters and sidecars, with folders written by mne-bids and edited by hand."""

from __future__ import annotations

import json
import math
import warnings

import mne
import mne_bids
import numpy as np
import pytest

from data_prep.readers.bids_tables import find_sidecar
from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

NAMES = ["A1", "A2", "A3"]


def write(root, *, kind="eeg", subject="01", notes=("go", "stop"), montage=None, **entities):
    x = np.random.default_rng(0).standard_normal((3, 2000)) * 20e-6
    raw = mne.io.RawArray(x, mne.create_info(NAMES, 200.0, kind), verbose="error")
    raw.info["line_freq"] = 50
    raw.set_annotations(mne.Annotations([1.0 + 2 * i for i in range(len(notes))], [0.5] * len(notes), list(notes)))
    datatype = "ieeg" if kind in ("seeg", "ecog") else kind
    path = mne_bids.BIDSPath(root=root, subject=subject, task="t", datatype=datatype, **entities)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(
            raw, path, format="EDF", allow_preload=True, overwrite=True, montage=montage, verbose="error"
        )
    return path.directory


def only(root, **choices):
    (item,) = SOURCES.build("bids", root=root, **choices).list()
    return item.load()


def table(folder, suffix, text):
    (path,) = folder.glob(f"*{suffix}")
    path.write_text(text.replace(" | ", "\t"), encoding="utf-8")
    return path


EVENTS = """onset | duration | trial_type | value | stim_file | response
-2.0 | 0.1 | early | 9 | n/a | n/a
3.0 | n/a | face | 5 | images/face_01.png | Mr Miller
1.0 | 0.5 | n/a | 7 | n/a | n/a
2.0 | 1.0 | left hand | 2 | n/a | n/a
n/a | 1.0 | lost | 1 | n/a | n/a
4.0 | 0.0 | Mrs Miller coughed | n/a | n/a | n/a
5.0 | 1.0 | BAD_jump | n/a | n/a | n/a
7.0 | 0.0 | n/a | n/a | images/face_02.png | n/a
"""


def test_events(tmp_path):
    folder = write(tmp_path)
    table(folder, "events.tsv", EVENTS)
    table(folder, "events.json", json.dumps({"trial_type": {"Levels": {"left hand": "movement of the left hand"}}}))
    rec = only(tmp_path)
    got = [(e.onset_s, e.duration_s, e.label, e.value, e.stimulus_id, e.trial) for e in rec.events]
    assert got[:3] == [
        (1.0, 0.5, "7", 7.0, "", 0),
        (2.0, 1.0, "left hand", 2.0, "", 1),
        (3.0, 0.0, "face", 5.0, "images/face_01.png", 2),
    ]
    assert (got[3][0], got[3][2], got[3][4]) == (7.0, "", "images/face_02.png")
    assert math.isnan(got[3][3])
    assert rec.valid == ((0.0, 5.0), (6.0, 10.0))
    assert "Miller" not in repr(rec)


def test_a_text_of_several_words_is_no_label_unless_it_is_described(tmp_path):
    folder = write(tmp_path)
    table(folder, "events.tsv", EVENTS)
    assert [e.label for e in only(tmp_path).events] == ["7", "2", "face", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "onset | duration | trial_type\n12.0 | 0 | x\n",
            "past the end: annotation 'x' at 12 s of a recording of 10 s",
        ),
        ("onset | duration\nsoon | 0\n", "onset in line 2 is no number"),
        ("onset | trial_type\n1 | x\n", "column 'duration' is missing"),
        ("onset | duration\n1 | 2 | 3\n", "line 2 has 3 fields, its header has 2"),
        ("", "is empty"),
    ],
)
def test_events_that_cannot_be(tmp_path, text, message):
    table(write(tmp_path), "events.tsv", text)
    with pytest.raises(DataError, match=message):
        only(tmp_path)


def test_nothing_of_participants_and_no_date_is_kept(tmp_path):
    write(tmp_path)
    people = (tmp_path / "participants.tsv").read_text().splitlines()
    head = people[0].split("\t")
    row = dict.fromkeys(head, "n/a") | {"participant_id": "sub-01", "age": "37", "sex": "F", "hand": "L"}
    (tmp_path / "participants.tsv").write_text("\t".join(head) + "\n" + "\t".join(row[h] for h in head) + "\n")
    (scans,) = tmp_path.rglob("*scans.tsv")
    lines = scans.read_text().splitlines()
    scans.write_text(lines[0] + "\n" + lines[1].split("\t")[0] + "\t1987-05-04T12:34:56\n")
    text = repr(only(tmp_path))
    assert "37" not in text
    assert "1987" not in text


@pytest.mark.parametrize("missing", ["ieeg.json", "channels.tsv", "coordsystem.json"])
def test_a_missing_sidecar(tmp_path, missing):
    folder = write(tmp_path, kind="seeg", montage=mne.channels.make_dig_montage(
        {n: [0.01, 0.02, 0.03] for n in NAMES}, coord_frame="mni_tal"))  # fmt: skip
    for p in folder.glob(f"*{missing}"):
        p.unlink()
    with pytest.raises(DataError, match=missing):
        only(tmp_path)
    if missing != "coordsystem.json":
        assert only(tmp_path, sidecars="optional").signal.channels[0].name == "A1"


def test_sidecars_are_inherited(tmp_path):
    folder = write(tmp_path)
    (sidecar,) = folder.glob("*_eeg.json")
    sidecar.rename(tmp_path / "task-t_eeg.json")
    file = next(folder.glob("*.edf"))
    assert find_sidecar(tmp_path, file, "eeg.json") == tmp_path / "task-t_eeg.json"
    (tmp_path / "task-t_eeg.json").rename(tmp_path / "task-other_eeg.json")
    assert find_sidecar(tmp_path, file, "eeg.json") is None


@pytest.mark.parametrize(
    ("system", "unit", "frame", "factor"),
    [
        ("MNI152NLin2009cAsym", "mm", "mni", 1e-3),
        ("fsaverage", "m", "mni", 1.0),
        ("ACPC", "cm", "acpc", 1e-2),
        ("Pixels", "pixels", "", math.nan),
    ],
)
def test_electrodes_with_their_coordinate_system(tmp_path, system, unit, frame, factor):
    folder = write(tmp_path, kind="seeg")
    (tmp_path / "sub-01" / "ieeg" / "sub-01_electrodes.tsv").write_text(
        "name\tx\ty\tz\tsize\nA2\t1.5\t-2\t3\t1\nA1\t10\t20\t30\t1\nA3\tn/a\tn/a\tn/a\tn/a\n"
    )
    facts = {"iEEGCoordinateSystem": system, "iEEGCoordinateUnits": unit}
    (folder / "sub-01_coordsystem.json").write_text(json.dumps(facts))
    a1, a2, a3 = only(tmp_path).signal.channels
    if math.isnan(factor):
        assert math.isnan(a1.x)
        return
    assert np.allclose([a1.x, a1.y, a1.z], np.array([10, 20, 30]) * factor)
    assert np.allclose([a2.x, a2.y, a2.z], np.array([1.5, -2, 3]) * factor)
    assert math.isnan(a3.x)
    assert {a1.frame, a2.frame} == {frame}


def test_of_two_coordinate_systems_the_mni_one_counts(tmp_path):
    folder = write(tmp_path, kind="ecog")
    for space, value in (("ACPC", 1), ("MNI152NLin6Sym", 2)):
        rows = "".join(f"{n}\t{value}\t0\t0\t1\n" for n in NAMES)
        (folder / f"sub-01_space-{space}_electrodes.tsv").write_text("name\tx\ty\tz\tsize\n" + rows)
        facts = {"iEEGCoordinateSystem": space, "iEEGCoordinateUnits": "m"}
        (folder / f"sub-01_space-{space}_coordsystem.json").write_text(json.dumps(facts))
    channel = only(tmp_path).signal.channels[0]
    assert (channel.x, channel.frame) == (2.0, "mni")


def test_entity_filters(tmp_path):
    for subject in ("01", "02"):
        for acquisition in ("full", "part"):
            write(tmp_path, subject=subject, acquisition=acquisition, run="1")
    items = SOURCES.build("bids", root=tmp_path, subjects=["sub-02"]).list()
    assert [i.subject for i in items] == ["02", "02"]
    ids = {i.load().recording_id for i in items}
    assert ids == {"bids_sub-02_task-t_run-1-full", "bids_sub-02_task-t_run-1-part"}
    assert len(SOURCES.build("bids", root=tmp_path, acquisitions=["full"]).list()) == 2
    with pytest.raises(ConfigError, match="'required'"):
        SOURCES.build("bids", root=tmp_path, sidecars="requiredd")


def test_a_truncated_file_is_refused(tmp_path):
    folder = write(tmp_path)
    (edf,) = folder.glob("*.edf")
    edf.write_bytes(edf.read_bytes()[:-900])
    with pytest.raises(DataError, match="truncated"):
        only(tmp_path)
