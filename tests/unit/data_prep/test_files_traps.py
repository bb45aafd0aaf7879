"""Files that contradict themselves, and epochs: each is read rightly or refused in a sentence."""

from __future__ import annotations

import pickle
import warnings

import edfio
import mne
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.pipeline import prepare
from data_prep.sources import SOURCES
from neurofm.schema.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def signal(label: str, rate: float, seconds: int = 10, wave_hz: float = 2.0) -> edfio.EdfSignal:
    t = np.arange(int(seconds * rate)) / rate
    return edfio.EdfSignal(np.sin(2 * np.pi * wave_hz * t) * 50, rate, label=label, physical_dimension="uV")


def write_edf(path, signals, notes=()) -> None:
    marks = [edfio.EdfAnnotation(*n) for n in notes]
    edfio.Edf(signals, annotations=marks or None).write(path)


def only(root, glob="*", **choices):
    (item,) = pickle.loads(pickle.dumps(SOURCES.build("files", root=root, glob=glob, **choices).list()))
    return item.load()


def whole(stream, interval: int = 0) -> np.ndarray:
    return stream.read(interval, 0, stream.n_samples[interval])


def patch(path, at: int, text: str) -> None:
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(text.encode())


def test_truncated_edf_is_refused(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100), signal("Cz", 100)])
    data = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(data[: -2 * 200 * 3 + 7])
    with pytest.raises(DataError, match="is truncated: its header promises 10 records of 1 s, it holds 7"):
        only(tmp_path)
    (tmp_path / "a.edf").write_bytes(data[:400])
    with pytest.raises(DataError, match="ends within its EDF header"):
        only(tmp_path)
    (tmp_path / "a.edf").write_bytes(data[: 256 * 3])
    with pytest.raises(DataError, match="truncated"):
        only(tmp_path)


def test_an_edf_still_being_recorded_is_read_as_far_as_it_goes(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)])
    patch(tmp_path / "a.edf", 236, "-1      ")
    assert only(tmp_path).signal.n_samples == (1000,)


def test_zero_length(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)])
    patch(tmp_path / "a.edf", 236, "0       ")
    (tmp_path / "a.edf").write_bytes((tmp_path / "a.edf").read_bytes()[:512])
    with pytest.raises(DataError, match="no samples"):
        only(tmp_path)


def test_duplicate_channel_names(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("T8", 100), signal("Cz", 100), signal("T8", 100)])
    with pytest.raises(DataError, match=r"share a name.*T8.*duplicates=number"):
        only(tmp_path)
    assert [c.name for c in only(tmp_path, duplicates="number").signal.channels] == ["T8-0", "Cz", "T8-1"]
    with pytest.raises(ConfigError, match="'number'"):
        only(tmp_path, duplicates="numbering")


def test_a_rate_of_zero_needs_the_true_one(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)])
    patch(tmp_path / "a.edf", 244, "0       ")
    with pytest.raises(DataError, match=r"no sampling rate; give the true one with source\.rate_hz"):
        only(tmp_path)
    rec = only(tmp_path, rate_hz=100)
    assert (rec.signal.rate_hz, rec.signal.n_samples, rec.valid) == (100.0, (1000,), ((0.0, 10.0),))


def test_a_wrong_header_rate_puts_events_past_the_end_and_can_be_corrected(tmp_path):
    """Recorded at 100 Hz, header says 400: ten seconds look like two and a half."""
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)], notes=[(1.0, 0.5, "left"), (8.0, None, "right")])
    patch(tmp_path / "a.edf", 244, "0.25    ")
    with pytest.raises(DataError, match=r"1 of 2 events lie past the end: annotation 'right' at 8 s .* of 2.5 s"):
        only(tmp_path)
    rec = only(tmp_path, rate_hz=100)
    assert [(e.onset_s, e.duration_s, e.label) for e in rec.events] == [(1.0, 0.5, "left"), (8.0, 0.0, "right")]
    assert rec.valid == ((0.0, 10.0),)
    wave = np.sin(2 * np.pi * 2 * np.arange(1000) / 100) * 50
    assert np.abs(whole(rec.signal)[:, 0] - wave).max() < 0.01


def test_corrected_rate_of_a_format_that_counts_samples(tmp_path):
    raw = mne.io.RawArray(RNG.standard_normal((2, 1000)) * 1e-5, mne.create_info(2, 400.0, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations([0.5, 1.5], [0.1, 0], ["left", "BAD_x"]))
    raw.crop(0.25)  # first_samp is not zero
    raw.save(tmp_path / "a_raw.fif", verbose="error")
    rec = only(tmp_path, rate_hz=100)
    assert [(e.onset_s, e.duration_s) for e in rec.events] == [pytest.approx((1.0, 0.4))]
    assert rec.valid == ((0.0, 5.0), (5.0, 9.0))
    as_written = only(tmp_path)
    assert [e.onset_s for e in as_written.events] == [pytest.approx(0.25)]


def test_an_annotation_at_the_very_end_is_no_fault(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)], notes=[(10.0, None, "stop")])
    assert [e.label for e in only(tmp_path).events] == ["stop"]


def test_free_text_past_the_end_is_not_quoted(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)], notes=[(30.0, None, "Mrs Miller left the room")])
    assert only(tmp_path).events == ()


def test_slow_channels_of_an_edf_keep_their_own_clock(tmp_path):
    signals = [signal("Fz", 200), signal("Cz", 200), signal("Event flow", 1, wave_hz=0.1), signal("EOG left", 50)]
    write_edf(tmp_path / "a.edf", signals, notes=[(2.0, 3.0, "BAD_gap"), (6.0, None, "go")])
    with pytest.raises(DataError, match=r"200 Hz \(Fz, Cz\) and 1 Hz \(Event flow\).*source\.kinds"):
        only(tmp_path)
    rec = only(tmp_path, kinds={"*flow": "misc"})
    assert [(s.name, s.role, s.rate_hz) for s in rec.streams] == [
        ("signal", "signal", 200.0), ("covariate-50hz", "covariate", 50.0), ("covariate-1hz", "covariate", 1.0),
    ]  # fmt: skip
    assert [s.n_samples for s in rec.streams] == [(400, 1000), (100, 250), (2, 5)]
    t = np.arange(5, 10, 1 / 50)
    assert np.abs(whole(rec.streams[1], 1)[:, 0] - np.sin(2 * np.pi * 2 * t) * 50).max() < 0.01
    assert [e.label for e in rec.events] == ["go"]


def test_names_that_state_a_kind_are_not_called_eeg(tmp_path):
    names = ["Fz", "EOG L", "ECG", "EMG chin", "Resp oro-nasal", "POL EKG1", "Temporal", "Respekt"]
    write_edf(tmp_path / "a.edf", [signal(n, 100) for n in names])
    rec = only(tmp_path)
    assert [c.name for c in rec.streams[0].channels] == ["Fz", "Temporal", "Respekt"]
    assert [c.kind for c in rec.streams[1].channels] == ["eog", "ecg", "emg", "resp", "ecg"]
    assert "ECG" in [c.name for c in only(tmp_path, kinds={"ECG": "eeg"}).streams[0].channels]
    with pytest.raises(ConfigError, match=r"'emgg', no kind.*emg"):
        only(tmp_path, kinds={"EMG*": "emgg"})


def test_files_of_one_name_need_a_pattern(tmp_path):
    for person in ("anna", "bert"):
        (tmp_path / person).mkdir()
        write_edf(tmp_path / person / "eeg.edf", [signal("Fz", 100)])
    with pytest.raises(ConfigError, match=r"'anna/eeg\.edf' and 'bert/eeg\.edf' have the same name.*pattern"):
        SOURCES.build("files", root=tmp_path, glob="**/*.edf").list()
    items = SOURCES.build("files", root=tmp_path, glob="**/*.edf", pattern="{subject}/**").list()
    assert [i.subject for i in items] == ["anna", "bert"]


def epochs_of(n: int = 4) -> mne.EpochsArray:
    info = mne.create_info(["Fz", "Cz", "EOG"], 100.0, ["eeg", "eeg", "eog"])
    values = RNG.standard_normal((n, 3, 50)) * 1e-5
    events = np.stack([np.arange(n) * 20, np.zeros(n, int), np.arange(n) % 2 + 1], axis=1)  # overlapping in time
    names = {"left": 1, "Anna B. was asleep then": 2}
    return mne.EpochsArray(values, info, events, tmin=-0.2, event_id=names, verbose="error")


def test_epochs_of_fif_are_one_interval_each_with_their_event(tmp_path):
    epochs = epochs_of()
    epochs.save(tmp_path / "s1-epo.fif", verbose="error", fmt="double")
    rec = only(tmp_path)
    assert rec.signal.n_samples == (50,) * 4
    assert rec.interval_start_s == (0.0, 2.0, 4.0, 6.0)
    for i in range(4):
        assert np.allclose(rec.signal.read(i, 10, 20), epochs.get_data()[i, :2, 10:20].T * 1e6)
    assert np.allclose(whole(rec.streams[1], 3), epochs.get_data()[3, 2:].T * 1e6)
    assert [(e.onset_s, e.label, e.trial) for e in rec.events] == [
        (0.2, "left", 0), (2.2, "2", 1), (4.2, "left", 2), (6.2, "2", 3),
    ]  # fmt: skip
    assert {e.kind for e in rec.events} == {"trial"}
    assert "Anna" not in repr(rec)


def test_epochs_of_eeglab(tmp_path):
    """A .set as EEGLAB writes it: one struct, data channel × time × trial in µV."""
    data = RNG.standard_normal((2, 50, 3)).astype(np.float32) * 20
    locations = np.zeros(2, dtype=[("labels", object), ("X", object), ("Y", object), ("Z", object)])
    locations["labels"] = ["Fz", "Cz"]
    for axis in "XYZ":
        locations[axis] = [1.0, 2.0]
    events = np.zeros(3, dtype=[("type", object), ("latency", object), ("epoch", object)])
    events["type"], events["latency"], events["epoch"] = ["a", "b", "a"], [11.0, 61.0, 111.0], [1.0, 2.0, 3.0]
    epoch = np.zeros(3, dtype=[("event", object), ("eventtype", object), ("eventlatency", object)])
    epoch["event"], epoch["eventtype"], epoch["eventlatency"] = [1.0, 2.0, 3.0], ["a", "b", "a"], [0.0] * 3
    eeg = {
        "setname": "x", "nbchan": 2.0, "trials": 3.0, "pnts": 50.0, "srate": 100.0, "xmin": -0.1, "xmax": 0.39,
        "data": data, "chanlocs": locations, "event": events, "epoch": epoch,
    }  # fmt: skip
    savemat(tmp_path / "s1.set", {"EEG": eeg}, appendmat=False)
    rec = only(tmp_path)
    assert rec.signal.n_samples == (50,) * 3
    for i in range(3):
        assert np.allclose(whole(rec.signal, i), data[:, :, i].T, rtol=1e-5)
    assert [e.label for e in rec.events] == ["a", "b", "a"]
    assert rec.events[1].onset_s == pytest.approx(2.1)


def test_epochs_that_were_all_dropped(tmp_path):
    epochs = epochs_of()
    epochs.drop(range(4), verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epochs.save(tmp_path / "s1-epo.fif", verbose="error")
    with pytest.raises((DataError, ValueError), match=r"no epoch|empty|No"):
        only(tmp_path)


def test_what_happened_before_an_edf_begins_is_left_out_as_the_format_allows(tmp_path):
    write_edf(tmp_path / "a.edf", [signal("Fz", 100)], [(0.0, None, "early"), (3.0, None, "go")])
    data = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(data.replace(b"+0\x14early", b"-7\x14early"))
    assert [(e.onset_s, e.label) for e in only(tmp_path).events] == [(3.0, "go")]


def test_suffixes_in_capitals_links_to_nothing_and_folders(tmp_path):
    write_edf(tmp_path / "A.EDF", [signal("Fz", 100)])
    write_edf(tmp_path / "b.edf", [signal("Fz", 100)])
    (tmp_path / "c.edf").symlink_to(tmp_path / "annex" / "c.edf")
    (tmp_path / "d.edf").mkdir()
    items = SOURCES.build("files", root=tmp_path, glob="**/*.edf").list()
    assert [i.key for i in items] == ["A.EDF", "b.edf", "c.edf", "d.edf"]
    with pytest.raises(DataError, match=r"is a folder, expected a \.edf file"):
        items[3].load()
    out = tmp_path / "out"
    report = prepare(source=SOURCES.build("files", root=tmp_path, glob="*.edf"), out=out, dask="none", progress=False)
    assert report.totals["n_recordings"] == 1  # two sines are the same recording
    assert "'c.edf' is not there: a link to a file that was not fetched" in dict(report.rejected)["c.edf"]
