"""Names, birth dates, notes and dates are planted in every format that can hold them; none may come out anywhere."""

from __future__ import annotations

import datetime as dt
import json
import struct
import tarfile
import warnings
from pathlib import Path

import edfio
import h5py
import mne
import mne_bids
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.file import Subject
from scipy.io import savemat

from neurofm.cli.main import main

MEASURED = dt.datetime(2017, 7, 23, 12, 34, 56, tzinfo=dt.UTC)
BORN = dt.date(1961, 3, 14)
# what a leak would look like: words, and dates in the spellings of recorders, people and machines
WORDS = ("zyxname", "qwvgiven", "jkltechnician", "secretnote", "hospitalx")
DATES = (
    "2017-07-23", "23.07.17", "23-jul-2017", "20170723", "23.07.2017", "12:34:56", "12.34.56",
    "1961-03-14", "14-mar-1961", "19610314", "14.03.1961", "zyx1961",
)  # fmt: skip
STAMPS = (int(MEASURED.timestamp()), int(dt.datetime(1961, 3, 14, tzinfo=dt.UTC).timestamp()))
NOTE = "secretnote: Mrs Zyxname is asleep, born 14.03.1961"
RATE = 100.0


def values(n_channels: int = 3, seconds: int = 20) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n_channels, int(seconds * RATE))) * 20e-6


def marks() -> mne.Annotations:
    texts = ["go", NOTE, "Zyxname", "stop", "23.07.2017", "12:34:56", "BAD_Zyxname"]
    return mne.Annotations(np.arange(1.0, 8.0), [0.1] * 7, texts, orig_time=MEASURED)


def raw_of(kind: str = "eeg") -> mne.io.RawArray:
    raw = mne.io.RawArray(values(), mne.create_info(["Fz", "Cz", "Pz"], RATE, kind), verbose="error")
    raw.set_meas_date(MEASURED)
    raw.info["subject_info"] = {
        "his_id": "Zyx1961", "last_name": "Zyxname", "first_name": "Qwvgiven", "birthday": BORN, "sex": 2, "hand": 1,
    }  # fmt: skip
    raw.info["experimenter"] = "Jkltechnician"
    raw.info["description"] = NOTE
    raw.info["line_freq"] = 50.0
    raw.set_annotations(marks())
    return raw


def edf(folder: Path) -> dict:
    patient = edfio.Patient(
        code="Zyx1961", name="Qwvgiven_Zyxname", birthdate=BORN, sex="F", additional=("secretnote",)
    )
    how = edfio.Recording(
        startdate=MEASURED.date(), hospital_administration_code="hospitalx", investigator_technician_code="Jkltechnician",
        equipment_code="secretnote",
    )  # fmt: skip
    signals = [
        edfio.EdfSignal(v * 1e6, RATE, label=n, physical_dimension="uV") for v, n in zip(values(), "abc", strict=True)
    ]
    notes = [
        edfio.EdfAnnotation(t, None, x) for t, x in ((1.0, "go"), (2.0, NOTE), (3.0, "Zyxname"), (4.0, "23.07.2017"))
    ]
    edfio.Edf(signals, patient=patient, recording=how, starttime=dt.time(12, 34, 56), annotations=notes).write(
        folder / "s1.edf"
    )
    return {"dataset": "files", "glob": "*.edf"}


def broken_edf(folder: Path) -> dict:
    """What a reader quotes of a damaged header may be the patient's name."""
    edf(folder)
    data = (folder / "s1.edf").read_bytes()
    (folder / "s2.edf").write_bytes(data[:100] + data[8:108] + data[200:])
    (folder / "s3.edf").write_bytes(data[:168] + b"Zyxname " + data[176:236] + b"secretno" + data[244:])
    (folder / "s4.edf").write_bytes(data[:-700])
    return {"dataset": "files", "glob": "*.edf", "n_rejected": 3}


def fif(folder: Path) -> dict:
    raw_of().save(folder / "s1_raw.fif", verbose="error")
    return {"dataset": "files", "glob": "*.fif"}


def epochs(folder: Path) -> dict:
    raw = raw_of()
    events = np.array([[100 + 200 * i, 0, 1 + i % 2] for i in range(6)])
    table = pd.DataFrame({"name": ["Zyxname"] * 6, "when": ["2017-07-23"] * 6})
    mne.Epochs(
        raw, events, {"go": 1, NOTE: 2}, tmin=-0.2, tmax=0.5, baseline=None, metadata=table, preload=True,
        reject_by_annotation=False, verbose="error",
    ).save(folder / "s1-epo.fif", verbose="error")  # fmt: skip
    return {"dataset": "files", "glob": "*.fif"}


def brainvision(folder: Path) -> dict:
    (folder / "s1.eeg").write_bytes((values() * 1e7).T.astype("<i2").tobytes())
    (folder / "s1.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\nDataFile=s1.eeg\n"
        "MarkerFile=s1.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=3\nSamplingInterval=10000\n\n"
        "[Binary Infos]\nBinaryFormat=INT_16\n\n[Channel Infos]\nCh1=Fz,,0.1,µV\nCh2=Cz,,0.1,µV\nCh3=Pz,,0.1,µV\n\n"
        f"[Comment]\n{NOTE}\nAmplifier at hospitalx, Jkltechnician, 23.07.2017\n",
        encoding="utf-8",
    )
    (folder / "s1.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n\n[Common Infos]\nCodepage=UTF-8\nDataFile=s1.eeg\n\n"
        "[Marker Infos]\nMk1=New Segment,,1,1,0,20170723123456000000\nMk2=Stimulus,S  1,101,1,0\n"
        f"Mk3=Comment,{NOTE.replace(',', ' ')},201,1,0\nMk4=Comment,Zyxname,301,1,0\nMk5=Stimulus,S  2,401,1,0\n",
        encoding="utf-8",
    )
    return {"dataset": "files", "glob": "*.vhdr", "labels": {"Stimulus/S  1", "Stimulus/S  2"}}


def eeglab(folder: Path) -> dict:
    locations = np.zeros(3, dtype=[("labels", object)])
    locations["labels"] = ["Fz", "Cz", "Pz"]
    events = np.zeros(3, dtype=[("type", object), ("latency", object), ("duration", object), ("who", object)])
    events["type"], events["latency"], events["who"] = ["go", NOTE, "2017-07-23"], [101.0, 201.0, 301.0], "Zyxname"
    events["duration"] = 0.0
    eeg = {
        "setname": "Zyxname", "nbchan": 3.0, "trials": 1.0, "pnts": 2000.0, "srate": RATE, "xmin": 0.0, "xmax": 19.99,
        "data": (values() * 1e6).astype("f4"), "chanlocs": locations, "event": events, "comments": NOTE,
        "subject": "Zyxname", "history": "pop_loadset('Zyxname_2017-07-23.set')", "filepath": "/home/zyxname",
    }  # fmt: skip
    savemat(folder / "s1.set", {"EEG": eeg}, appendmat=False)
    return {"dataset": "files", "glob": "*.set"}


def bids(folder: Path) -> dict:
    path = mne_bids.BIDSPath(root=folder, subject="01", task="t", datatype="eeg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mne_bids.write_raw_bids(raw_of(), path, format="EDF", allow_preload=True, verbose="error")
        mne_bids.make_dataset_description(path=folder, name="x", authors=["Zyxname"], overwrite=True, verbose="error")
    table = "onset\tduration\ttrial_type\tvalue\tnote\n1.0\t0\tgo\t1\tZyxname\n2.0\t0\t" + NOTE + "\tn/a\tsecretnote\n"
    next(folder.rglob("*events.tsv")).write_text(table + "3.0\t0\t2017-07-23\tn/a\tn/a\n")
    sidecar = next(folder.rglob("*_eeg.json"))
    facts = json.loads(sidecar.read_text()) | {"InstitutionName": "hospitalx", "TaskDescription": NOTE}
    sidecar.write_text(json.dumps(facts))
    (folder / "participants.tsv").write_text("participant_id\tname\tbirth\nsub-01\tZyxname\t1961-03-14\n")
    (folder / "README").write_text(NOTE)
    return {"dataset": "bids"}


def mat(folder: Path) -> dict:
    savemat(folder / "s1.mat", {
        "data": (values() * 1e6).T, "rate_hz": RATE, "subject": "Zyxname", "birth": "14.03.1961", "notes": NOTE,
        "channels": np.array(["Fz", "Cz", "Pz"], dtype=object), "recorded": "2017-07-23", "stamp": float(STAMPS[0]),
    })  # fmt: skip
    return {"dataset": "arrays"}


def hdf5(folder: Path) -> dict:
    with h5py.File(folder / "s1.h5", "w") as f:
        f["data"] = (values() * 1e6).T
        f["rate_hz"] = RATE
        f["notes"] = NOTE
        f["when"] = STAMPS[0]
        f.attrs.update({"patient": "Zyxname", "born": "1961-03-14"})
        f["data"].attrs["date"] = "2017-07-23"
    return {"dataset": "arrays"}


def nwb_of(folder: Path) -> NWBFile:
    """Everything an NWB file says about a person, its people and its day, and trials with labels, notes and clocks."""
    nwb = NWBFile(
        session_description=NOTE, identifier="Zyxname-2017-07-23", session_start_time=MEASURED,
        timestamps_reference_time=MEASURED, file_create_date=[MEASURED], experimenter=["Jkltechnician"], notes=NOTE,
        experiment_description=NOTE, session_id="2017-07-23_probeA", institution="hospitalx", lab="hospitalx",
        keywords=["secretnote"], pharmacology=NOTE, protocol="secretnote", surgery="secretnote", virus="secretnote",
        data_collection=NOTE, slices="secretnote", source_script="/home/zyxname/convert.py",
        source_script_file_name="/home/zyxname/convert.py", was_generated_by=[["Zyxname", "1"]],
    )  # fmt: skip
    born = dt.datetime.combine(BORN, dt.time(), dt.UTC)
    nwb.subject = Subject(
        subject_id="P7_20170723", date_of_birth=born, description=NOTE, sex="F", genotype="secretnote"
    )
    device = nwb.create_device("secretnote", description=NOTE, manufacturer="hospitalx")
    group = nwb.create_electrode_group("g", description=NOTE, location="secretnote", device=device)
    nwb.add_electrode_column("comment", "Zyxname")
    nwb.add_electrode_column("label", "name of the contact")
    for i in range(3):
        nwb.add_electrode(location=["CA1", NOTE, "23.07.2017"][i], group=group, comment=NOTE, label=f"A{i}")
    for column in ("cue", "note", "recorded_time"):
        nwb.add_trial_column(column, NOTE)
    cues = ["go", NOTE, "Jkltechnician", "stop", "23.07.2017", "12:34:56", "2017-07-23"]
    for i, cue in enumerate(cues):
        nwb.add_trial(start_time=1.0 + i, stop_time=1.5 + i, cue=cue, note=NOTE, recorded_time=float(STAMPS[0]))
    nwb.add_epoch(10.0, 11.0, ["secretnote", "Zyxname"])
    nwb.add_invalid_time_interval(start_time=19.5, stop_time=19.9, tags=["secretnote"])
    hand = TimeSeries(name="hand", data=np.zeros((2000, 1)), rate=RATE, unit="m", description=NOTE, comments=NOTE)
    nwb.add_acquisition(hand)
    return nwb


def written(nwb: NWBFile, folder: Path) -> None:
    with NWBHDF5IO(str(folder / "s1.nwb"), "w") as io:
        io.write(nwb)


def nwb_units(folder: Path) -> dict:
    nwb = nwb_of(folder)
    for column in ("quality", "label", "note"):
        nwb.add_unit_column(column, NOTE)
    for quality in ("good", "2017-07-23"):
        nwb.add_unit(spike_times=np.arange(0.1, 19, 0.2), quality=quality, label="Zyxname", note=NOTE, electrodes=[1])
    written(nwb, folder)
    return {"dataset": "nwb", "choices": ["dataset.source.label=cue", "stages=[]"], "plot": []}


def nwb_potentials(folder: Path) -> dict:
    nwb = nwb_of(folder)
    region = nwb.create_electrode_table_region([0, 1, 2], "secretnote")
    nwb.add_acquisition(
        ElectricalSeries(name="lfp", data=values().T, electrodes=region, rate=RATE, description=NOTE, comments=NOTE)
    )
    written(nwb, folder)
    (folder / "s2.nwb").write_bytes((folder / "s1.nwb").read_bytes()[:20_000])
    return {
        "dataset": "nwb", "choices": ["dataset.source.label=cue", "dataset.source.signal=electrical"], "n_rejected": 1,
    }  # fmt: skip


FORMATS = (edf, broken_edf, fif, epochs, brainvision, eeglab, bids, mat, hdf5, nwb_units, nwb_potentials)


def everything_written(folder: Path) -> bytes:
    """Every byte under a folder, with the columns of compressed tables in plain text."""
    out = []
    for p in sorted(folder.rglob("*")):
        out.append(str(p.relative_to(folder)).encode())
        if p.is_file():
            out.append(p.read_bytes())
        if p.suffix == ".parquet":
            table = pq.read_table(p)
            out.append(json.dumps(table.to_pylist(), default=str).encode())
            out.append(str(table.schema.metadata).encode())
        if p.suffix == ".tar":
            with tarfile.open(p) as tar:
                out.append(" ".join(tar.getnames()).encode())
    return b"\n".join(out)


def leaks(data: bytes) -> list[str]:
    text = data.lower()
    found = [w for w in (*WORDS, *DATES) if w.encode() in text]
    for stamp in STAMPS:
        for code in ("<q", "<d", "<i"):
            if struct.pack(code, stamp) in data:
                found.append(f"{stamp} as {code}")  # noqa: PERF401
        if str(stamp).encode() in text:
            found.append(str(stamp))
    return found


def test_the_search_finds_what_is_planted(tmp_path):
    """The files themselves are full of what may not come out."""
    for plant in FORMATS:
        folder = tmp_path / plant.__name__
        folder.mkdir()
        plant(folder)
        assert len(leaks(everything_written(folder))) >= 3, plant.__name__


@pytest.mark.parametrize("plant", FORMATS, ids=lambda f: f.__name__)
def test_nothing_personal_comes_out(plant, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    how = plant(tmp_path / "raw")
    choices = how.get("choices", []) + ([f"dataset.source.glob='{how['glob']}'"] if "glob" in how else [])
    status = main(
        ["prep", f"dataset={how['dataset']}", "dataset.source.root=raw", "dataset.id=d", "dask=none", "out=shards/d",
         "stages=[{name: demean}]", *choices]
    )  # fmt: skip
    said = capfd.readouterr()
    assert status == 0, said.err
    assert main(["inspect", "shards/d", "--verify", *how.get("plot", ["--plot"])]) == 0
    shown = capfd.readouterr()
    rows = {t: pq.read_table(tmp_path / "shards" / "d" / f"{t}.parquet").to_pylist() for t in ("events", "rejected")}
    assert len(rows["rejected"]) == how.get("n_rejected", 0)
    if how["dataset"] != "arrays":
        assert how.get("labels", {"go"}) <= {e["label"] for e in rows["events"]}, "codes are kept"
    for name, data in {
        "dataset": everything_written(tmp_path / "shards"),
        "report": everything_written(tmp_path / "d-quality"),
        "screen": "".join((said.out, said.err, shown.out, shown.err)).encode(),
    }.items():
        assert leaks(data) == [], name


def test_nothing_personal_reaches_the_run_folder_or_wandb(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    (tmp_path / "raw").mkdir()
    fif(tmp_path / "raw")
    assert main(["prep", "dataset=files", "dataset.source.root=raw", "dataset.source.glob='*.fif'", "dask=none",
                 "out=shards/mine", "stages=[{name: demean}]"]) == 0  # fmt: skip
    assert main(["train", "data=mine", "data.path=shards/mine", "task=windows_1s", "objective=next_state", "name=r",
                 "model.patch_samples=10", "trainer.max_steps=2", "trainer.progress=false", "logger=wandb",
                 "logger.wandb_mode=offline"]) == 0  # fmt: skip
    said = capfd.readouterr()
    runs = tmp_path / "runs" / "r"
    assert list(runs.glob("wandb/offline-run-*")), "W&B wrote nothing: nothing is tested"
    assert yaml.safe_load((runs / "config.yaml").read_text())
    assert leaks(everything_written(runs) + said.out.encode() + said.err.encode()) == []
