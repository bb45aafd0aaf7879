"""SEED, DEAP, DREAMER, ZuCo: trials by number, sessions by date, labels, and what is refused."""

from __future__ import annotations

import os
import pickle
import re

import h5py
import mne
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.readers.mat_peek import field_shape
from data_prep.sources.deap import Deap
from data_prep.sources.dreamer import Dreamer
from data_prep.sources.seed import Seed
from data_prep.sources.seed_tables import ELECTRODES, SEED_IV_CODES, SEED_V_CODES, SEED_V_TIMES_S
from data_prep.sources.zuco import Zuco, sentence_id
from neurofm.schema.errors import DataError

RNG = np.random.default_rng(0)


def clips(*lengths: int, initials: str = "djc") -> dict[str, np.ndarray]:
    """Numbered so that the order of the names is not that of the numbers."""
    return {f"{initials}_eeg{n}": RNG.standard_normal((62, n_samples)) for n, n_samples in enumerate(lengths, start=1)}


def test_seed_sessions_are_ranked_by_date_and_clips_by_number(tmp_path):
    folder = tmp_path / "Preprocessed_EEG"
    folder.mkdir()
    savemat(folder / "label.mat", {"label": np.array([[1, 0, -1, -1, 0, 1, -1, 0, 1, 1, 0]])})
    x = clips(*range(200, 211))
    for name in ("10_20131204", "10_20131130", "10_20140101", "1_20131027"):
        savemat(folder / f"{name}.mat", dict(reversed(x.items())))
    (tmp_path / "ExtractedFeatures").mkdir()
    savemat(tmp_path / "ExtractedFeatures" / "1_20131027.mat", {"de_LDS1": np.ones((62, 3))})
    items = sorted(Seed(root=tmp_path).list(), key=lambda i: (int(i.subject), i.session))
    assert [(i.subject, i.session) for i in items] == [("1", "1"), ("10", "1"), ("10", "2"), ("10", "3")]
    assert not any("2013" in i.key + i.source_file for i in items)
    r = items[1].load()
    assert r.signal.n_samples == tuple(range(200, 211))
    assert [e.label for e in r.events] == ["1", "0", "-1", "-1", "0", "1", "-1", "0", "1", "1", "0"]
    assert [e.stimulus_id for e in r.events][-2:] == ["10", "11"]
    np.testing.assert_array_equal(r.signal.read(9, 3, 8), x["djc_eeg10"][:, 3:8].T)
    np.testing.assert_array_equal(r.signal.read(1, 0, 8), x["djc_eeg2"][:, :8].T)
    assert "2013" not in r.source_file


def test_seed_contradictions(tmp_path):
    savemat(tmp_path / "1_20131027.mat", clips(5, 6, 7))
    with pytest.raises(DataError, match=r"label\.mat: is missing"):
        Seed(root=tmp_path).list()
    savemat(tmp_path / "label.mat", {"label": np.array([[1, 0]])})
    with pytest.raises(DataError, match=r"clip 3 .* number up to 2"):
        Seed(root=tmp_path).list()[0].load()


def test_seed_iv_sessions_are_folders(tmp_path):
    for session in "321":
        (tmp_path / "eeg_raw_data" / session).mkdir(parents=True)
        savemat(tmp_path / "eeg_raw_data" / session / "2_20150915.mat", clips(*[40] * 24, initials="cz"))
    r = Seed(root=tmp_path, variant="seed_iv").list()[1].load()
    assert (r.subject, r.session) == ("2", "2")
    words = ["neutral", "sad", "fear", "happy"]
    assert [words.index(e.label) for e in r.events] == list(SEED_IV_CODES["2"])
    assert r.events[0].stimulus_id == "2-1"


def test_the_tables_are_whole():
    assert len(set(ELECTRODES)) == 62
    for codes in SEED_IV_CODES.values():
        assert sorted(codes) == sorted([0, 1, 2, 3] * 6)
    for session, (starts, stops) in SEED_V_TIMES_S.items():
        assert sorted(SEED_V_CODES[session]) == sorted([0, 1, 2, 3, 4] * 3)
        assert len(starts) == len(stops) == 15
        assert all(a < b for a, b in zip(starts, stops, strict=True))
        assert all(b < a for a, b in zip(starts[1:], stops, strict=False))


def seed_v(path, seconds):
    names = [*ELECTRODES[:3], "M1", "M2", "VEO", "HEO"]
    info = mne.create_info(names, 10.0, "eeg")
    mne.io.RawArray(RNG.standard_normal((7, seconds * 10)) * 1e-5, info, verbose="error").save(path, verbose="error")


def test_seed_v_times_and_channels(tmp_path, monkeypatch):
    monkeypatch.setattr("data_prep.sources.seed.NUMBERED", re.compile(r"(\d+)_([123])_(\d{8})_raw"))
    seed_v(tmp_path / "4_1_20180414_raw.fif", 3400)
    seed_v(tmp_path / "4_2_20180507_raw.fif", 60)
    whole, short = Seed(root=tmp_path, variant="seed_v").list()
    r = whole.load()
    assert [c.name for c in r.signal.channels] == ["FP1", "FPZ", "FP2"]
    assert [c.name for c in r.streams[1].channels] == ["VEO", "HEO"]
    assert [(e.onset_s, e.duration_s, e.label, e.stimulus_id) for e in r.events[:2]] == [
        (30, 72, "happy", "1-1"), (132, 96, "fear", "1-2")
    ]  # fmt: skip
    with pytest.raises(DataError, match="lies outside of its 60 s"):
        short.load()


def deap_content(n=3):
    return {
        "data": RNG.standard_normal((n, 40, 640)),
        "labels": np.array([[5.0, 9, 1, 1], [5.1, 1, 1, 1], [1, 6, 1, 1]]),
    }


@pytest.mark.parametrize("form", ["dat", "mat"])
def test_deap(tmp_path, form):
    content = deap_content()
    if form == "dat":
        (tmp_path / "s07.dat").write_bytes(pickle.dumps(content, protocol=2))
        savemat(tmp_path / "s07.mat", {"data": 1})  # not read
    else:
        savemat(tmp_path / "s07.mat", content)
    (item,) = Deap(root=tmp_path).list()
    r = item.load()
    assert (r.subject, r.signal.rate_hz, r.signal.n_samples) == ("s07", 128.0, (640,) * 3)
    clips = [e for e in r.events if e.kind == "clip"]
    assert [(e.onset_s - t, e.duration_s, e.label, e.value, e.stimulus_id) for e, t in zip(clips, r.interval_start_s, strict=True)] == [
        (3.0, 2.0, "low", 5.0, "1"), (3.0, 2.0, "high", 5.1, "2"), (3.0, 2.0, "low", 1.0, "3")
    ]  # fmt: skip
    np.testing.assert_array_equal(r.signal.read(1, 10, 20), content["data"][1, :32, 10:20].T)
    np.testing.assert_array_equal(r.streams[1].read(2, 10, 20), content["data"][2, 32:, 10:20].T)
    # all ratings are there, but only the chosen one is a class
    said = [(e.kind, e.label, e.value, e.trial) for e in r.events if e.onset_s == clips[1].onset_s and e.kind != "clip"]
    assert said == [("valence", "", 5.1, 1), ("arousal", "", 1.0, 1), ("dominance", "", 1.0, 1), ("liking", "", 1.0, 1)]
    arousal = Deap(root=tmp_path, rating="arousal").list()[0].load()
    assert [e.label for e in arousal.events if e.label] == ["high", "low", "high"]


class Runs:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_deap_refuses_malice_and_other_shapes(tmp_path):
    (tmp_path / "s01.dat").write_bytes(pickle.dumps({"data": Runs(), "labels": 1}, protocol=2))
    (tmp_path / "s02.dat").write_bytes(pickle.dumps({b"data": 1}, protocol=2))
    (tmp_path / "s03.dat").write_bytes(pickle.dumps(deap_content() | {"labels": np.ones((3, 3))}, protocol=4))
    objects = np.empty((3, 40, 2), dtype=object)
    objects[:] = "x"
    (tmp_path / "s04.dat").write_bytes(pickle.dumps(deap_content() | {"data": objects}, protocol=4))
    messages = [r"s01\.dat: asks for '\w+\.system'", "no dictionary with 'data'", r"labels \(3, 3\)", "type object"]
    for item, message in zip(Deap(root=tmp_path).list(), messages, strict=True):
        with pytest.raises(DataError, match=message):
            item.load()


def cell(values):
    out = np.empty((len(values), 1), dtype=object)
    for i, v in enumerate(values):
        out[i, 0] = v
    return out


SCORES = {"ScoreValence": [[3.0], [4.0]], "ScoreArousal": [[5.0], [1.0]], "ScoreDominance": [[2.0], [2.0]]}


def dreamer(path, n_people=2, compressed=True, scores=tuple(SCORES), **extra):
    people = np.empty((1, n_people), dtype=object)
    signals = {}
    for p in range(n_people):
        entry = {"Age": "24", "Gender": "male"}
        for kind, width, rate in (("EEG", 14, 128), ("ECG", 2, 256)):
            trials = {ph: [RNG.standard_normal((rate * s, width)) for s in (2, 3)] for ph in ("baseline", "stimuli")}
            signals[p, kind] = trials
            entry[kind] = {ph: cell(t) for ph, t in trials.items()}
        entry |= {s: np.array(SCORES[s]) for s in scores}
        people[0, p] = entry
    root = {**extra, "Data": people, "EEG_SamplingRate": 128, "noOfSubjects": n_people}
    savemat(path, {"other": np.ones((300, 300)), "DREAMER": root}, do_compression=compressed)
    return signals


@pytest.mark.parametrize("compressed", [True, False])
def test_dreamer(tmp_path, compressed):
    signals = dreamer(tmp_path / "DREAMER.mat", compressed=compressed, first=RNG.standard_normal((100, 100)))
    assert field_shape(tmp_path / "DREAMER.mat", "DREAMER", "Data") == (1, 2)
    items = Dreamer(root=tmp_path).list()
    assert [i.subject for i in items] == ["1", "2"]
    assert len({i.key for i in items}) == 2
    r = items[1].load()
    assert (r.signal.n_samples, r.interval_start_s) == ((256, 384), (0.0, 3.0))
    clips = [e for e in r.events if e.kind == "clip"]
    assert [(e.label, e.value, e.stimulus_id) for e in clips] == [("low", 3.0, "1"), ("high", 4.0, "2")]
    assert [e.value for e in r.events if e.kind == "arousal"] == [5.0, 1.0]
    np.testing.assert_array_equal(r.signal.read(1, 5, 9), signals[1, "EEG"]["stimuli"][1][5:9])
    np.testing.assert_array_equal(r.streams[1].read(0, 5, 9), signals[1, "ECG"]["stimuli"][0][5:9])
    r = Dreamer(root=tmp_path, rating="arousal", baseline=True).list()[0].load()
    clips = [e for e in r.events if e.label]
    assert [e.kind for e in clips] == ["baseline", "clip", "baseline", "clip"]
    assert [e.label for e in clips] == ["baseline", "high", "baseline", "low"]
    np.testing.assert_array_equal(r.signal.read(2, 0, 5), signals[0, "EEG"]["baseline"][1][:5])


def test_dreamer_without_a_rating(tmp_path):
    dreamer(tmp_path / "DREAMER.mat", scores=("ScoreValence", "ScoreArousal"))
    with pytest.raises(DataError, match="no field 'ScoreDominance'"):
        Dreamer(root=tmp_path).list()[0].load()


def test_peeking_says_what_is_not_there(tmp_path):
    path = tmp_path / "DREAMER.mat"
    dreamer(path)
    with pytest.raises(DataError, match="did you mean 'Data'"):
        field_shape(path, "DREAMER", "Dat")
    with pytest.raises(DataError, match="no variable 'Dreamer'"):
        field_shape(path, "Dreamer", "Data")
    with pytest.raises(DataError, match="is no struct"):
        field_shape(path, "other", "Data")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"not a whole MATLAB file|no variable"):
        Dreamer(root=tmp_path).list()
    path.write_bytes(b"x" * 300)
    with pytest.raises(DataError, match="not a MATLAB file"):
        Dreamer(root=tmp_path).list()


WORDS = ["A film to see.", "Never recorded.", "Half of it\nlost.", "No signal.", "A film  to see."]


def test_zuco_1(tmp_path):
    x = [RNG.standard_normal((5, n)) for n in (600, 500, 700, 1, 400)]
    x[2][1] = np.nan
    x[3] = np.nan
    rows = np.zeros((1, 5), dtype=[("content", object), ("rawData", object), ("word", object)])
    for i in range(5):
        word = np.nan if i == 1 else {"content": "A", "nFixations": 1}
        rows[0, i] = (WORDS[i], x[i], word)
    path = tmp_path / "task1- SR" / "Matlab files" / "resultsZAB_SR.mat"
    path.parent.mkdir(parents=True)
    savemat(path, {"sentenceData": rows})
    (item,) = Zuco(root=tmp_path).list()
    r = item.load()
    assert (r.subject, r.task, r.signal.n_samples) == ("ZAB", "SR", (600, 700, 400))
    assert [e.label for e in r.events] == [WORDS[0], WORDS[2], WORDS[4]]
    assert [e.trial for e in r.events] == [0, 2, 4]
    assert r.events[0].stimulus_id == r.events[2].stimulus_id == sentence_id(WORDS[0]) != r.events[1].stimulus_id
    np.testing.assert_array_equal(r.signal.read(1, 5, 9), x[2][:, 5:9].T)


def zuco_2(path, x):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as f:
        refs, table = f.create_group("#refs#"), f.create_group("sentenceData")
        columns = {"content": [], "rawData": [], "word": []}
        for i, words in enumerate(WORDS):
            codes = np.frombuffer(words.encode("utf-16-le"), dtype="<u2").reshape(-1, 1)
            columns["content"].append(refs.create_dataset(f"c{i}", data=codes).ref)
            columns["rawData"].append(refs.create_dataset(f"r{i}", data=x[i]).ref)
            if i == 1:
                columns["word"].append(refs.create_dataset(f"w{i}", data=np.zeros((1, 1))).ref)
            else:
                columns["word"].append(refs.create_group(f"w{i}").ref)
        for name, values in columns.items():
            table.create_dataset(name, data=np.array(values, dtype=h5py.ref_dtype).reshape(-1, 1))


def test_zuco_2(tmp_path):
    x = [RNG.standard_normal((n, 5)) for n in (600, 500, 700, 1, 400)]
    x[3] = np.full((600, 5), np.nan)
    zuco_2(tmp_path / "task1 - NR/Matlab files/resultsYAC_NR.mat", x)
    zuco_2(tmp_path / "task1 - NR/Matlab files/resultsYMH_NR.mat", x)
    (item,) = Zuco(root=tmp_path).list()
    r = pickle.loads(pickle.dumps(item)).load()
    assert (r.subject, r.task, r.signal.n_samples) == ("YAC", "NR", (600, 700, 400))
    assert [e.label for e in r.events] == [WORDS[0], WORDS[2], WORDS[4]]
    np.testing.assert_array_equal(r.signal.read(2, 5, 9), x[4][5:9])
    path = tmp_path / item.source_file
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="not a whole MATLAB file"):
        item.load()
