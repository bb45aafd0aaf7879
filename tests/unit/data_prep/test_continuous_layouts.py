"""Sleep-EDF, PhysioNet motor imagery, CHB-MIT, Siena: their traps, on files written with edfio."""

from __future__ import annotations

import datetime

import edfio
import numpy as np
import pytest

from data_prep.sources.chbmit import ChbMit
from data_prep.sources.chbmit import seizures as chb_seizures
from data_prep.sources.physionet_mi import PhysionetMi, electrode
from data_prep.sources.siena import Siena
from data_prep.sources.siena import seizures as siena_seizures
from data_prep.sources.sleep_edf import SleepEdf
from neurofm.schema.errors import ConfigError, DataError


def edf(path, labels, rate=100, seconds=120, notes=(), started=None, rates=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    g = np.random.default_rng(0)
    rates = rates or [rate] * len(labels)
    x = [g.standard_normal(r * seconds) * 20 for r in rates]
    signals = [
        edfio.EdfSignal(v, r, label=n, physical_dimension="uV") for v, r, n in zip(x, rates, labels, strict=True)
    ]
    marks = [edfio.EdfAnnotation(*n) for n in notes] or None
    edfio.Edf(signals, annotations=marks, starttime=started).write(path)
    return x


SLEEP = ["EEG Fpz-Cz", "EEG Pz-Oz", "EOG horizontal", "Resp oro-nasal", "Event marker"]
STAGES = [(0, 30, "Sleep stage W"), (30, 30, "Sleep stage 2"), (60, 30, "Sleep stage 4"), (90, 600, "Sleep stage ?")]


@pytest.fixture
def nights(tmp_path):
    for name, scorer in (("SC4001E0", "EC"), ("SC4002F0", "FV")):
        edf(tmp_path / f"sleep-cassette/{name}-PSG.edf", SLEEP, rates=[100, 100, 100, 1, 1])
        edf(tmp_path / f"sleep-cassette/{name[:6]}{scorer}-Hypnogram.edf", [], notes=STAGES)
    edf(tmp_path / "sleep-telemetry/ST7002J0-PSG.edf", SLEEP[:3])
    return tmp_path


def test_nights_of_a_person(nights):
    first, second, third = SleepEdf(root=nights).list()
    recordings = [first.load(), second.load()]
    assert [(r.subject, r.session) for r in recordings] == [("SC400", "1"), ("SC400", "2")]
    r = recordings[0]
    assert [c.name for c in r.signal.channels] == SLEEP[:2]
    assert r.signal.rate_hz == 100.0
    assert [(e.onset_s, e.duration_s, e.label) for e in r.events] == [
        (a, min(d, 120 - a), t) for a, d, t in STAGES
    ]  # fmt: skip
    with pytest.raises(DataError, match="no hypnogram that begins with ST7002J"):
        third.load()


def test_stages_and_margin_around_sleep(nights):
    r = SleepEdf(root=nights, stages="aasm", wake_margin_s=10).list()[0].load()
    assert [(e.onset_s, e.label) for e in r.events] == [(0, "W"), (30, "N2"), (60, "N3")]
    assert r.valid == ((20.0, 100.0),)
    with pytest.raises(ConfigError, match="did you mean 'aasm'"):
        SleepEdf(root=nights, stages="asm")


@pytest.mark.parametrize(
    ("stored", "name"),
    [("Fc5.", "FC5"), ("Fcz.", "FCz"), ("Fp1.", "Fp1"), ("Fpz.", "Fpz"), ("T10.", "T10"), ("Iz..", "Iz"), ("Afz.", "AFz")],
)  # fmt: skip
def test_electrodes_are_called_as_usual(stored, name):
    import mne

    assert electrode(stored) == (name, "eeg")
    raw = mne.io.RawArray(np.zeros((1, 2)), mne.create_info([stored], 160, "eeg"), verbose="error")
    mne.datasets.eegbci.standardize(raw)
    assert raw.ch_names == [name]


def test_codes_mean_what_the_run_says(tmp_path):
    notes = [(0, 4.2, "T0"), (4.2, 4.1, "T2"), (8.3, 4.2, "T0"), (12.5, 4.1, "T1")]
    for run in (4, 5):
        edf(tmp_path / f"files/S001/S001R{run:02d}.edf", ["Fc5.", "Iz.."], 160, 20, notes)
    edf(tmp_path / "files/S088/S088R03.edf", ["Fc5."], 128, 20, notes)
    imagined, both, slow = PhysionetMi(root=tmp_path).list()
    r = imagined.load()
    assert (r.subject, r.run, r.task) == ("S001", "04", "imagine_sides")
    assert [e.label for e in r.events] == ["rest", "right fist", "rest", "left fist"]
    assert [e.label for e in both.load().events] == ["rest", "both feet", "rest", "both fists"]
    with pytest.raises(DataError, match="128 Hz, expected 160 Hz"):
        slow.load()


def test_download_asks_mne_and_says_when_there_is_no_network(tmp_path, monkeypatch):
    import mne

    asked = []

    def fetch(subjects, runs, **_):
        asked.append((subjects, runs))
        edf(tmp_path / "new/MNE-eegbci-data/files/eegmmidb/1.0.0/S007/S007R01.edf", ["Fz.."], 160, 2)

    monkeypatch.setattr(mne.datasets.eegbci, "load_data", fetch)
    (item,) = PhysionetMi(root=tmp_path / "new", download=True, subjects=[7]).list()
    assert asked == [([7], list(range(1, 15)))]
    assert item.subject == "S007"

    def fail(*_, **__):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(mne.datasets.sleep_physionet.age, "fetch_data", fail)
    with pytest.raises(DataError, match=r"is there a network\?.*physionet\.org"):
        SleepEdf(root=tmp_path / "new", download=True).list()
    with pytest.raises(ConfigError, match="no subject 39"):
        SleepEdf(root=tmp_path / "new", download=True, subjects=[39]).list()


SUMMARY = """Data Sampling Rate: 256 Hz

Channels in EDF Files:
Channel 1: FP1-F7

File Name: {case}_03.edf
File Start Time: 13:43:04
File End Time: 14:43:04
Number of Seizures in File: 1
Seizure Start Time: 20 seconds
Seizure End Time: 25 seconds

File Name: {case}_04.edf
Number of Seizures in File: 2
Seizure 1 Start Time:  1 seconds
Seizure 1 End Time: 2 seconds
Seizure 2 Start Time: 700 seconds
Seizure 2 End Time: 800 seconds
"""


def test_the_girl_with_two_numbers_is_one_subject(tmp_path):
    labels = ["FP1-F7", "T8-P8", "-", "FZ-CZ", "-", "T8-P8", "ECG"]
    for case in ("chb01", "chb21"):
        for file in ("03", "04", "16+", "16"):
            x = edf(tmp_path / case / f"{case}_{file}.edf", labels, 256, 30)
        (tmp_path / case / f"{case}-summary.txt").write_text(SUMMARY.format(case=case))
    edf(tmp_path / "chb17" / "chb17a_03.edf", labels, 256, 30)
    items = ChbMit(root=tmp_path).list()
    assert {i.subject for i in items} == {"chb01", "chb17"}
    good = [i.load() for i in items if "_04" not in i.key and "chb17" not in i.key]
    assert len({r.recording_id for r in good}) == 6
    assert {r.session for r in good} == {"", "chb21"}
    assert [[e.onset_s for e in r.events] for r in good] == [[20.0], [], []] * 2
    r = good[0]
    assert [c.name for c in r.signal.channels] == ["FP1-F7", "T8-P8", "FZ-CZ"]
    assert [(c.name, c.kind) for c in r.streams[1].channels] == [("ECG", "ecg")]
    np.testing.assert_allclose(r.signal.read(0, 0, 50)[:, 1], x[1][:50], atol=0.01)
    with pytest.raises(DataError, match="700 s lies outside of its 30 s"):
        next(i for i in items if "chb21_04" in i.key).load()
    with pytest.raises(DataError, match=r"chb17-summary\.txt is missing"):
        next(i for i in items if "chb17" in i.key).load()


def test_a_summary_that_contradicts_itself(tmp_path):
    path = tmp_path / "chb01-summary.txt"
    path.write_text(SUMMARY.format(case="chb01").replace("File: 1", "File: 2"))
    with pytest.raises(DataError, match=r"announces 2 seizures in chb01_03\.edf and gives 1"):
        chb_seizures(path)
    path.write_text("File Name: a.edf\nSeizure End Time: 3 seconds\n")
    with pytest.raises(DataError, match="no start"):
        chb_seizures(path)


LIST = """EEG Data:  512 Hz
Data Sampling Rate: 512 Hz

Seizure n 1
File name: PN00-1.edf
Registration start time: 19.39.33
Registration end time: 20.22.58
Seizure start time: 19.58.36
Seizure end time: 19.59.46

Seizure n 2
File name: PN00-3.edf
Registration start time: 18.15.44
Registration end time: 18.57.13
Seizure start time: 18.28.29
Seizure end time: 19.29.29

Seizure n 3
File name: PNO0-5.edf
Registration start time: 22:58.19
Start time: 16:13.23
End time: 16.14:00

Seizure n 4
File name: PN00-10.4.edf
Seizure start time: 10.00.05
Seizure end time: 10.00.10
"""


def test_times_typed_by_hand(tmp_path):
    table = tmp_path / "Seizures-list-PN00.txt"
    table.write_text(LIST)
    assert siena_seizures(table, "PN00-1.edf") == [(1143.0, 1213.0)]
    assert siena_seizures(table, "PN00-3.edf") == [(765.0, 825.0)]
    # after midnight, with colons, a letter O, and no "seizure" before "start"
    assert siena_seizures(table, "PN00-5.edf") == [(62104.0, 62141.0)]
    assert siena_seizures(table, "PN00-10.4.edf", 36000.0) == [(5.0, 10.0)]
    assert siena_seizures(table, "PN00-2.edf") == []
    with pytest.raises(DataError, match="no registration start"):
        siena_seizures(table, "PN00-10.4.edf")
    table.write_text("File name: PN11-.edf\nRegistration start time: 1.2.3\nSeizure start time: noon\n")
    with pytest.raises(DataError, match="'Seizure start time: noon' is no time of day"):
        siena_seizures(table, "PN11-1.edf", alone=True)


def test_siena_recording(tmp_path):
    labels = ["EEG Fp1", "EEG Cp5", "EKG EKG", "SPO2", "MK"]
    edf(tmp_path / "PN00/PN00-10.4.edf", labels, 512, 12, started=datetime.time(10, 0, 0))
    edf(tmp_path / "PN00/PN00-1.edf", labels, 512, 12)
    (tmp_path / "PN00/Seizures-list-PN00.txt").write_text(LIST)
    late, merged = Siena(root=tmp_path).list()
    r = merged.load()
    assert (r.subject, r.run) == ("PN00", "10.4")
    assert [(c.name, c.canonical) for c in r.signal.channels] == [("EEG Fp1", "fp1"), ("EEG Cp5", "cp5")]
    assert [(e.onset_s, e.duration_s, e.label) for e in r.events] == [(5.0, 5.0, "seizure")]
    with pytest.raises(DataError, match="lies outside"):
        late.load()
