"""Brain Treebank: words stand where a simulated film player says they were played."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest

from data_prep.sources import SOURCES
from data_prep.sources.brain_treebank_clock import read_clock
from neurofm.schema.errors import DataError

RATE = 2048
FIRST = 5000  # sample at which the film begins
PAUSE_AT, PAUSED = 40.3, 700.0


def played_at(t: float, rate: float = RATE) -> float:
    """The player: film time → sample, one pause."""
    return FIRST + t * rate + (PAUSED * rate if t >= PAUSE_AT else 0)


def write_triggers(path, *, marked: bool = True, rate: float = RATE) -> None:
    times = list(np.arange(0, 101, 2.5))
    lines = [f"trigger,{t},{played_at(t, rate):.0f}" for t in times]
    lines.insert(5, f"trigger,99.0,{played_at(times[5], rate):.0f}")  # an index twice: the last counts
    lines.insert(9, "trigger,,5")
    lines.insert(11, "trigger,7.0,nan")
    if marked:
        lines.append(f"pause,{PAUSE_AT},{FIRST + PAUSE_AT * rate:.0f}")
        lines.append(f"unpause,{PAUSE_AT},{played_at(PAUSE_AT, rate):.0f}")
    path.write_text("type,movie_time,index\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("rate", [2048, 1024, 1019])
def test_words_around_a_marked_pause(tmp_path, rate):
    write_triggers(tmp_path / "t.csv", rate=rate)
    clock = read_clock(tmp_path / "t.csv")
    nominal = clock.rate_hz((2048.0, 1024.0))
    assert nominal == (2048 if rate == 2048 else 1024)
    for t in (0.0, 0.4, 2.5, 12.49, 40.0, 40.29, PAUSE_AT, 40.31, 42.4, 42.5, 99.9):
        assert abs(clock.sample_of(t, nominal) - played_at(t, rate)) <= 1


def test_pause_without_marks_spares_the_words_near_a_trigger(tmp_path):
    write_triggers(tmp_path / "t.csv", marked=False)
    clock = read_clock(tmp_path / "t.csv")
    for t in (39.9, 40.0, 40.2, 41.5, 42.4, 42.6):
        assert abs(clock.sample_of(t, RATE) - played_at(t)) <= 1


def test_track_at_an_impossible_rate_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("movie_time,index\n0,0\n1,1500\n2,3000\n")
    with pytest.raises(DataError, match="1500"):
        read_clock(tmp_path / "t.csv").rate_hz((2048.0, 1024.0))
    (tmp_path / "t.csv").write_text("movie_time,sample\n0,0\n")
    with pytest.raises(DataError, match="'index'"):
        read_clock(tmp_path / "t.csv")


def write_tree(root, labels, n_datasets) -> np.ndarray:
    n = round(played_at(60.0))
    x = np.random.default_rng(0).standard_normal((n_datasets, n)).astype("f4")
    with h5py.File(root / "sub_3_trial001.h5", "w") as f:
        for i, row in enumerate(x):
            f[f"data/electrode_{i}"] = row
    for folder in ("electrode_labels/sub_3", "localization/sub_3", "subject_timings", "subject_metadata"):
        (root / folder).mkdir(parents=True)
    (root / "electrode_labels/sub_3/electrode_labels.json").write_text(json.dumps(labels))
    (root / "corrupted_elec.json").write_text(json.dumps({"sub_3": ["LT1a2"], "sub_1": ["LT1a1"]}))
    (root / "localization/sub_3/depth-wm.csv").write_text(
        "ID,Electrode,L,I,P,DesikanKilliany\n0,LT1a1,100,120,-130,ctx-lh-insula\n1,*LT1a2,,,,\n"
    )
    write_triggers(root / "subject_timings/sub_3_trial001_timings.csv")
    (root / "subject_metadata/sub_3_trial001_metadata.json").write_text('{"title": "A Film", "filename": "a-film"}')
    (root / "transcripts/a-film").mkdir(parents=True)
    (root / "transcripts/a-film/features.csv").write_text(
        ',start,end,text,is_onset,rms\n0,1.0,1.5,Well,1,0.25\n1,,,um,0,\n2,50.0,50.25,"no, thanks",0.0,0.5\n'
        "3,70,71,unheard,1,1\n4,170,171,beyond,1,1\n"
    )
    return x


def test_trial(tmp_path):
    x = write_tree(tmp_path, ["LT1a1", "DC10", "*LT1a2", "LT1a3#", "TRIG1"], n_datasets=7)
    (item,) = SOURCES.build("brain_treebank", root=tmp_path).list()
    rec = item.load()
    channels = rec.signal.channels
    assert (rec.subject, rec.session, rec.signal.rate_hz) == ("3", "trial001", 2048.0)
    assert [c.name for c in channels] == ["LT1a1", "LT1a2", "LT1a3"]
    assert [c.bad for c in channels] == [False, True, False]
    assert (channels[0].region, channels[0].x, channels[0].z, channels[0].frame) == ("ctx-lh-insula", 0.1, -0.13, "lip")
    assert channels[1].frame == channels[2].frame == ""
    assert np.array_equal(rec.signal.read(0, 10, 20), x[[0, 2, 3], 10:20].T)
    found = [(e.label, e.trial, e.block, e.stimulus_id, e.value) for e in rec.events]
    assert found == [("Well", 0, 0, "a-film", 1.0), ("no, thanks", 2, 0, "a-film", 50.0)]
    assert [e.onset_s for e in rec.events] == pytest.approx([played_at(t) / RATE for t in (1.0, 50.0)], abs=1e-3)
    assert [e.duration_s for e in rec.events] == [0.5, 0.25]
    rec = SOURCES.build("brain_treebank", root=tmp_path, features=["rms"]).list()[0].load()
    assert [(e.kind, e.value) for e in rec.events] == [("word", 1.0), ("rms", 0.25), ("word", 50.0), ("rms", 0.5)]


def test_what_is_missing_is_named(tmp_path):
    write_tree(tmp_path, ["LT1a1", "LT1a2", "LT1a3"], n_datasets=2)
    (item,) = SOURCES.build("brain_treebank", root=tmp_path).list()
    with pytest.raises(DataError, match="electrode_2"):
        item.load()
    (tmp_path / "electrode_labels/sub_3/electrode_labels.json").write_text('["LT1a1", "LT1a2"]')
    (tmp_path / "subject_metadata/sub_3_trial001_metadata.json").write_text('{"filename": "../a-film"}')
    with pytest.raises(DataError, match="transcripts"):
        item.load()
    (tmp_path / "subject_timings/sub_3_trial001_timings.csv").unlink()
    with pytest.raises(DataError, match="timings"):
        item.load()
    assert SOURCES.build("brain_treebank", root=tmp_path, words=False).list()[0].load().events == ()
