"""`neurofm inspect`: every question has its table, every damaged byte is found, and the report shows what is there."""

from __future__ import annotations

import re
from functools import partial

import fsspec
import numpy as np
import pytest

from data_prep.pipeline import prepare
from data_prep.sources.base import Item, Source
from neurofm.cli.main import main
from neurofm.data.dataset import Dataset
from neurofm.report.dataset_quality import spectrum
from neurofm.report.spike_quality import intervals_of
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel, Event, EventStream, Recording, Stream
from neurofm.schema.tables import read_table

NAMES = ("Fz", "Cz", "Pz", "Oz")


def load(subject: str, session: str, n_channels: int, flat: int | None = None) -> Recording:
    if subject == "x":
        raise DataError("header says 3 channels, found 2")
    rng = np.random.default_rng(len(subject + session))
    values = rng.standard_normal((2000, n_channels)) * 10
    values += np.sin(2 * np.pi * 10 * np.arange(2000) / 100)[:, None] * 50
    if flat is not None:
        values[:, flat] = 0
    channels = tuple(
        Channel(name=n, canonical=n.lower(), kind="eeg", unit="uV", x=0.01 * i, y=0.02 * i, z=0.05, frame="head")
        for i, n in enumerate(NAMES[:n_channels])
    )
    events = tuple(Event(onset_s=float(i), kind="cue", label="left" if i % 3 else "right") for i in range(6))
    return Recording(
        dataset="toy", subject=subject, session=session, modality="eeg", events=events,
        streams=(Stream.from_arrays([values], rate_hz=100.0, channels=channels, unit="uV"),),
    )  # fmt: skip


class Toy(Source):
    name = id = "toy"
    modalities = ("eeg",)

    def list(self):
        known = [("a", "1", 4, None), ("a", "2", 4, 2), ("b", "1", 3, None), ("x", "1", 3, None)]
        return [
            Item(key="-".join(k[:2]), fingerprint="1", open=partial(load, *k), subject=k[0], session=k[1])
            for k in known
        ]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    prepare(source=Toy(), stages=[{"name": "quality"}], out=tmp_path / "d", dask="none", progress=False, licence="CC0")
    return tmp_path / "d"


def lines(capsys) -> list[str]:
    return [re.sub(" +", " ", line).strip() for line in capsys.readouterr().out.splitlines()]


def test_every_question_has_its_table(toy, capsys):
    assert main(["inspect", "d"]) == 0
    said = lines(capsys)
    assert any("3 recordings of 2 subjects, 0.02 h, 1 rejected" in x for x in said)
    assert "subject session 1 session 2 all" in said
    assert "a 1, 0.01 h 1, 0.01 h 2, 0.01 h" in said
    assert "b 1, 0.01 h – 1, 0.01 h" in said
    assert "eeg uV 11 1 3 4 11 head" in said
    assert "signal signal 100 3" in said
    assert "cue left 12 3 0" in said
    assert "cue right 6 3 0" in said
    assert any(x.startswith("1 header says 3 channels, found 2") for x in said)
    assert any(x.startswith("toy_sub-a_ses-2 Pz: bad:") for x in said)
    figures = next(i for i, x in enumerate(said) if x.startswith("figure recordings least"))
    assert said[figures + 1].split()[1] == "3"


class Mixed(Toy):
    """EEG in µV with one channel in nV, and a second recording in V throughout."""

    def list(self):
        return [Item(key=k, fingerprint="1", open=partial(self.load, k), subject=k) for k in ("one", "volts")]

    def load(self, who):
        x = 20 * np.random.default_rng(0).standard_normal((3000, 5))
        x = x * [1, 1, 1, 1000, 1] if who == "one" else x * 1e-6
        channels = tuple(Channel(name=n, kind="eeg", unit="uV") for n in ("Fz", "Cz", "Pz", "C3", "C4"))
        return Recording(dataset="toy", subject=who, modality="eeg",
                         streams=(Stream.from_arrays([x], rate_hz=100.0, channels=channels),))  # fmt: skip


def test_wrong_units_are_said_by_prep_inspect_and_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stages = [{"name": "unit_repair"}, {"name": "quality"}]
    report = prepare(source=Mixed(), stages=stages, out="d", dask="none", progress=False)
    assert report.sentence().endswith(
        "; units repaired in 1 recording; 1 channel far off the scale of its kind, first in toy_sub-one (see neurofm inspect)"
    )
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["inspect", "d", "--plot"]) == 0
    said = " ".join(lines(capsys))
    assert re.search(r"toy_sub-one C3: amplitude is \d{3,4} times the median of its kind \(eeg\); check its unit", said)
    page = (tmp_path / "d-quality/report.html").read_text()
    assert "No channel is far off the scale of its kind in its recording." in page
    assert "1 (toy_sub-one: C3, amplitude is " in page


def test_no_letter_is_lost_on_a_narrow_terminal(toy, capsys, monkeypatch):
    """A pipe counts as narrow, too."""
    wide, narrow = [], []
    for columns, said in (("200", wide), ("30", narrow)):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["inspect", "d"]) == 0
        tables = capsys.readouterr().out.split("subjects × sessions")[1].split("toy_sub-a")[0]
        said += sorted("".join(tables.split()))
        assert "bad_channels" in tables
    assert wide == narrow


def test_long_tables_are_cut_unless_asked_for(toy, capsys, monkeypatch):
    monkeypatch.setattr("neurofm.cli.inspect_tables.SHOWN", 1)
    assert main(["inspect", "d"]) == 0
    assert "… and 2 more (--all)" in lines(capsys)
    assert main(["inspect", "d", "--all"]) == 0
    assert not any("more (--all)" in x for x in lines(capsys))


@pytest.mark.parametrize(
    "file", ["dataset.json", "events.parquet", "shards/sub-b_ses-1-000000.tar", "shards/sub-b_ses-1-000000.tar.idx"]
)
def test_verify_finds_one_changed_byte_anywhere(toy, capsys, file):
    assert main(["inspect", "d", "--verify"]) == 0
    n = 1 + 5 + 2 * 3
    assert f"{n} of {n} files are as they were written" in lines(capsys)
    data = bytearray((toy / file).read_bytes())
    if file.endswith(".json"):
        data[-2:] = b" }"  # still JSON
        data = data.replace(b"}", b"} ", 1) if bytes(data) == (toy / file).read_bytes() else data
    else:
        data[len(data) // 2] ^= 1
    (toy / file).write_bytes(bytes(data))
    if file == "events.parquet":
        # the table cannot be read at all any more, or its checksum differs
        assert main(["inspect", "d", "--verify"]) == 1
        return
    assert main(["inspect", "d", "--verify"]) == 1
    assert any(file in x.replace("\n", "") or "bytes are not those" in x for x in lines(capsys))


def test_by_url(toy, capsys, tmp_path):
    fs = fsspec.filesystem("memory")
    fs.put(str(toy), f"/{tmp_path.name}", recursive=True)
    try:
        assert main(["inspect", f"memory://{tmp_path.name}", "--verify"]) == 0
        assert any("12 of 12 files" in x for x in lines(capsys))
    finally:
        fs.rm(f"/{tmp_path.name}", recursive=True)


def test_the_quality_report(toy, capsys):
    assert main(["inspect", "d", "--plot"]) == 0
    page = (toy.parent / "d-quality" / "report.html").read_text()
    for words in ("Quality of toy", "FAILED", "No recording was rejected", "1 of 11 are bad", "header says 3 channels"):
        assert words in page
    assert not re.search(r'(src|href)="http', page)
    rows = read_table(toy.parent / "d-quality", "report_figures")
    cells = {(r["series"], r["panel"]): r["label"] for r in rows if r["figure"] == "channels"}
    assert cells["oz", "toy_sub-b_ses-1"] == "missing"
    assert cells["pz", "toy_sub-a_ses-2"] == "bad"
    assert cells["pz", "toy_sub-a_ses-1"] == "good"
    assert len(cells) == 4 * 3
    assert {r["series"] for r in rows if r["figure"] == "sensors"} == {"fz", "cz", "pz", "oz"}
    x = {r["series"]: r["y"] for r in rows if r["figure"] == "sensors" and r["panel"] == "head x"}
    assert x["oz"] == pytest.approx(30)
    peak = max((r for r in rows if r["figure"] == "signals" and r["panel"] == "spectrum"), key=lambda r: r["y"])
    assert peak["x"] == pytest.approx(10, abs=0.3)


def test_the_spectrum_has_the_signals_power(toy):
    frequency, density = spectrum(Dataset(toy), "toy_sub-a_ses-1")
    power = float(density.sum() * (frequency[1] - frequency[0]))
    assert power == pytest.approx(50**2 / 2 + 10**2, rel=0.05)


def test_plot_is_of_datasets(toy, capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert main(["inspect", "empty", "--plot"]) == 1
    assert "--plot shows a prepared dataset" in capsys.readouterr().err


def load_spikes(subject: str, session: str) -> Recording:
    rng = np.random.default_rng([ord(c) for c in subject + session])
    time_s = np.sort(rng.uniform(0, 60, 3000))
    unit = rng.integers(0, 5, 3000)
    unit[unit == 4] = 0  # one silent, one that fires twice as often
    channels = tuple(Channel(name=f"{session}-u{i}", kind="unit") for i in range(5))
    stream = EventStream.from_arrays([(time_s, unit)], duration_s=[60.0], channels=channels)
    return Recording(dataset="pop", subject=subject, session=session, modality="spikes", streams=(stream,))


class Population(Source):
    name = id = "pop"
    modalities = ("spikes",)

    def list(self):
        known = [("a", "1"), ("a", "2"), ("b", "1")]
        return [Item(key="-".join(k), fingerprint="1", open=partial(load_spikes, *k)) for k in known]


def test_the_quality_report_of_spikes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    prepare(source=Population(), out=tmp_path / "d", dask="none", progress=False)
    assert main(["inspect", "d", "--plot"]) == 0
    page = (tmp_path / "d-quality" / "report.html").read_text()
    for heading in ("Firing rates", "intervals below 1.5 ms", "silent units", "spikes/s", "Quality of pop"):
        assert heading in page
    drawn = read_table(tmp_path / "d-quality", "report_figures")
    rates = sorted(r["x"] for r in drawn if r["panel"] == "rates" and r["series"] == "b")
    assert rates[0] == 0
    assert sum(rates) == pytest.approx(3000 / 60)
    assert rates[-1] == pytest.approx(20, rel=0.15)
    # exponential intervals of the pooled units: half of them lie below ln 2 / rate for each
    share = [(r["x"], r["y"]) for r in drawn if r["panel"] == "intervals" and r["series"] == "b"]
    assert sum(y for _, y in share) == pytest.approx(1)
    assert sum(x * y for x, y in share) == pytest.approx(1000 * 60 * 4 / 3000, rel=0.1)
    cells = {(r["panel"], r["series"]): r["y"] for r in drawn if r["figure"] == "units"}
    assert cells == {("a", "1"): 5, ("a", "2"): 5, ("b", "1"): 5}


def test_intervals_are_of_one_unit():
    found = intervals_of(np.array([0.0, 0.1, 0.3, 0.35]), np.array([1, 0, 1, 0]))
    assert sorted(found) == pytest.approx([0.25, 0.3])
