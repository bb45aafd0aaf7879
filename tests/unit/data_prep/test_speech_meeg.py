"""Speech M/EEG: dictionaries as text are read and never run, words stand where they were heard."""

from __future__ import annotations

import json
import math
import warnings

import mne
import mne_bids
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.sources import SOURCES
from data_prep.sources.speech_gwilliams import audio_name, literal
from neurofm.schema.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'kind': 'word', 'word': \"don't\"}", {"kind": "word", "word": "don't"}),
        ("{'kind': 'word', 'start': -1.5, 'word': 'say \"so\"'}", {"kind": "word", "start": -1.5, "word": 'say "so"'}),
        ("{'a': None, 'b': True, 'c': [1, (2, 3)]}", {"a": None, "b": True, "c": [1, (2, 3)]}),
        ("{'a': __import__('os').getcwd()}", None),
        ("{'a': inf.real}", None),
        ("{'a': open}", None),
        ("{'a': 1 if nan else 2}", None),
        ("[1]", None),
        ("{'a': ", None),
        ("", None),
    ],
)
def test_literal(text, value):
    assert literal(text) == value


def test_literal_knows_nan():
    found = literal("{'kind': 'word', 'pronounced': nan, 'low': -inf}")
    assert found is not None
    assert math.isnan(found["pronounced"])
    assert found["low"] == -math.inf


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("stimuli/audio/The_Black_Willow_0.0.wav", "the_black_willow_0.wav"),
        ("stimuli/audio/lw1_3.12.wav", "lw1_3.wav"),
        ("stimuli/audio/lw1_3.wav", "lw1_3.wav"),
    ],
)
def test_audio_name(path, name):
    assert audio_name(path) == name


def test_gwilliams(tmp_path):
    x = np.random.default_rng(0).standard_normal((4, 3000)) * 1e-13
    raw = mne.io.RawArray(x, mne.create_info(4, 1000.0, "mag"), verbose="error")
    path = mne_bids.BIDSPath(root=tmp_path, subject="01", session="0", task="3", datatype="meg")
    raw.set_annotations(mne.Annotations([0.5], [0.1], ["x"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(raw, path, format="FIF", allow_preload=True, verbose="error")
    rows = [
        (0.5, 2.0, {"kind": "sound", "sound": "stimuli/audio/LW1_0.0.wav", "start": 0.0}),
        (
            0.7,
            0.3,
            {"kind": "word", "word": "don't", "sound": "stimuli/audio/LW1_0.0.wav", "start": 0.2, "sequence_id": 4.0},
        ),
        (0.7, 0.1, {"kind": "phoneme", "phoneme": "d_B", "pronounced": 1.0}),
        (0.8, 0.1, {"kind": "phoneme", "phoneme": "h#_S", "pronounced": 0.0}),
        (1.5, 0.3, {"kind": "word", "word": 'the "end"', "pronounced": float("nan")}),
    ]
    lines = "".join(f"{t}\t{d}\t{facts}\t1\t{t * 1000:.0f}\n" for t, d, facts in rows)
    events = path.copy().update(suffix="events", extension=".tsv").fpath
    events.write_text("onset\tduration\ttrial_type\tvalue\tsample\n" + lines)
    (item,) = SOURCES.build("speech_meeg", root=tmp_path).list()
    rec = item.load()
    assert rec.recording_id == "gwilliams2022_sub-01_ses-0_task-3"
    assert np.allclose(rec.signal.read(0, 10, 20), x[:, 10:20].T * 1e15, rtol=1e-5)
    found = [(e.onset_s, e.kind, e.label, e.stimulus_id, e.trial, e.block) for e in rec.events]
    assert found == [
        (0.5, "sound", "lw1_0.wav", "lw1_0.wav", 0, -1),
        (0.7, "word", "don't", "lw1_0.wav", 0, 4),
        (0.7, "phoneme", "d_B", "lw1_0.wav", 0, -1),
        (1.5, "word", 'the "end"', "lw1_0.wav", 1, -1),
    ]
    assert rec.events[1].value == 0.2
    events.write_text("onset\tduration\ttrial_type\n0\t1\t__import__('os').mkdir('made')\n")
    with pytest.raises(DataError, match="row 1"):
        item.load()
    events.write_text("onset\tduration\ttrial_type\n3.5\t1\t{'kind': 'word', 'word': 'late'}\n")
    with pytest.raises(DataError, match=r"3\.500 s lies behind"):
        item.load()


def write_alice(root, *, proc="proc", offset=-150) -> tuple[np.ndarray, list[str]]:
    names = [str(i) for i in range(1, 62) if i != 29] + ["VEOG", "Aux5"]
    x = np.random.default_rng(0).standard_normal((62, 2000)) * 20
    (root / "AliceChapterOne-EEG.csv").write_text(
        "Word,Segment,onset,offset,Order,Position,Sentence\n"
        "Alice,1,0.06,0.5,1,1,1\nwas,1,0.5,0.7,2,2,1\nDown,2,0.1,0.4,3,1,2\n"
    )
    trl = [[100, 750, offset, 1, 0.06, 1], [320, 970, offset, 1, 0.5, 2], [1200, 1850, offset, 2, 0.1, 3]]
    (root / proc).mkdir()
    facts = {
        "trl": np.array(trl, float),
        "varnames": np.array(["segment", "tmin", "Order"], dtype=object),
        "impedence": {"bads": np.array(["3", "45"], dtype=object)},  # codespell:ignore
        "rejections": {"badchans": "7"},
    }
    savemat(root / proc / "S01.mat", {"proc": facts})
    return x, names


def check_alice(rec, x, names):
    assert [c.name for c in rec.signal.channels] == names[:60]
    assert {c.name for c in rec.signal.channels if c.bad} == {"3", "45", "7"}
    assert all(np.isfinite([c.x, c.y, c.z]).all() and c.frame == "head" for c in rec.signal.channels)
    assert np.allclose(rec.signal.read(0, 100, 110), x[:60, 100:110].T, atol=1e-3)
    assert [c.name for c in rec.streams[1].channels] == ["VEOG", "Aux5"]
    words = [(e.label, e.stimulus_id[-5:], e.value, e.trial, e.block) for e in rec.events if e.kind == "word"]
    assert words == [("Alice", "1.wav", 0.06, 0, 1), ("was", "1.wav", 0.5, 1, 1), ("Down", "2.wav", 0.1, 2, 2)]
    # a word is at the first sample less the (negative) offset
    assert [e.onset_s for e in rec.events if e.kind == "word"] == pytest.approx([0.5, 0.94, 2.7])
    assert [e.onset_s for e in rec.events if e.kind == "sound"] == pytest.approx([0.44, 2.6])


def test_brennan_fieldtrip(tmp_path):
    x, names = write_alice(tmp_path)
    header = {"Fs": 500.0, "label": np.array(names, dtype=object), "chanunit": np.array(["uV"] * 62, dtype=object)}
    savemat(tmp_path / "S01.mat", {"raw": {"hdr": header, "fsample": 500.0, "trial": x}})
    savemat(tmp_path / "S24.mat", {"raw": {"hdr": header, "trial": x}})
    first, second = SOURCES.build("speech_meeg", root=tmp_path, study="brennan2019").list()
    check_alice(first.load(), x, names)
    with pytest.raises(DataError, match="left out of the published analysis"):
        second.load()
    (item,) = SOURCES.build("speech_meeg", root=tmp_path, study="brennan2019", subjects=["S24"]).list()
    with pytest.raises(DataError, match=r"proc/S24\.mat"):
        item.load()
    with pytest.raises(ConfigError, match="did you mean 'S01'"):
        SOURCES.build("speech_meeg", root=tmp_path, study="brennan2019", subjects=["S1"]).list()
    with open(tmp_path / "AliceChapterOne-EEG.csv", "a") as f:
        f.write("more,2,1,1.2,4,2,2\n")
    with pytest.raises(DataError, match="each of 4 words"):
        first.load()


def test_brennan_brainvision(tmp_path):
    x, names = write_alice(tmp_path, proc="timelock-preprocessing")
    x.T.astype("<f4").tofile(tmp_path / "S01.eeg")
    channels = "".join(f"Ch{i + 1}={n},,1,µV\n" for i, n in enumerate(names))
    (tmp_path / "S01.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=S01.eeg\n"
        "MarkerFile=S01.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=62\n"
        f"SamplingInterval=2000\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{channels}",
        encoding="utf-8",
    )
    (tmp_path / "S01.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=S01.eeg\n[Marker Infos]\n"
        "Mk1=New Segment,,1,1,0,20160101120000000000\nMk2=Stimulus,S  1,20,1,0\n"
    )
    (item,) = SOURCES.build("speech_meeg", root=tmp_path, study="brennan2019").list()
    check_alice(item.load(), x, names)


def test_broderick(tmp_path):
    folder = tmp_path / "Natural Speech" / "EEG" / "Subject3"
    other = tmp_path / "Natural Speech - Reverse" / "EEG" / "Subject3"
    x = np.random.default_rng(0).standard_normal((900, 128))
    for place in (folder, other):
        place.mkdir(parents=True)
        savemat(place / "Subject3_Run12.mat", {"eegData": x, "mastoids": x[:, :2], "fs": 128})
    source = SOURCES.build("speech_meeg", root=tmp_path, study="broderick2019")
    (item,) = source.list()
    rec = item.load()
    assert (rec.subject, rec.run, rec.signal.rate_hz, rec.modality) == ("Subject3", "12", 128.0, "eeg")
    assert [c.name for c in rec.signal.channels][::127] == ["A1", "D32"]
    assert np.array_equal(rec.signal.read(0, 5, 9), x[5:9])
    assert [(e.kind, e.stimulus_id, e.onset_s) for e in rec.events] == [("sound", "audio12.wav", 0.0)]
    (tmp_path / "private").mkdir()
    words = [
        {"case": "not-found-in-audio", "word": "He", "startOffset": 0},
        {"case": "success", "word": "was", "alignedWord": "was", "start": 1.0, "end": 1.5,
         "phones": [{"phone": "w_B", "duration": 0.2}, {"phone": "z_E", "duration": 0.3}]},
    ]  # fmt: skip
    (tmp_path / "private" / "align12.json").write_text(json.dumps({"words": words}))
    rec = source.list()[0].load()
    assert source.list()[0].fingerprint != item.fingerprint
    assert [(e.kind, e.label, e.trial) for e in rec.events[1:]] == [
        ("word", "was", 1),
        ("phoneme", "w_B", 1),
        ("phoneme", "z_E", 1),
    ]
    assert [e.onset_s for e in rec.events[1:]] == pytest.approx([1.0, 1.0, 1.2])
    assert [e.value for e in rec.events[1:]] == pytest.approx([1.0, 1.0, 1.2])
