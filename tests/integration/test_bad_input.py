"""Whatever labs have on their disks: each bad file is rejected in a sentence, the others go on, nothing is run."""

from __future__ import annotations

import json
import pickle
import shutil
import tarfile
from functools import partial
from pathlib import Path

import edfio
import h5py
import mne
import numpy as np
import pytest
from scipy.io import savemat

from data_prep.pipeline import prepare
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import DataError
from neurofm.schema.tables import read_table

RATE, SECONDS = 100.0, 20
RNG = np.random.default_rng(0)
QUALITY = [{"name": "quality"}]


def edf(path: Path, *, labels=("Fz", "Cz"), rate=RATE, notes=()) -> Path:
    x = RNG.standard_normal((len(labels), int(SECONDS * rate))) * 20
    signals = [edfio.EdfSignal(v, rate, label=n, physical_dimension="uV") for v, n in zip(x, labels, strict=True)]
    edfio.Edf(signals, annotations=[edfio.EdfAnnotation(*n) for n in notes] or None).write(path)
    return path


def patched(path: Path, at: int, text: bytes) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:at] + text + data[at + len(text) :])


def fif(path: Path, values: np.ndarray, **info) -> None:
    raw = mne.io.RawArray(values, mne.create_info(len(values), RATE, "eeg", **info), verbose="error")
    raw.save(path, verbose="error")


class Deadly:
    """Unpickling it writes a file."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self):
        return (open, (self.where, "w"))


def evil_tar(path: Path, folder: Path) -> None:
    inner = folder / "inner.txt"
    inner.write_text("x")
    with tarfile.open(path, "w") as tar:
        tar.add(inner, arcname="../../escaped.txt")
    inner.unlink()


def prep(out: Path, source: dict, **choices):
    defaults = {"stages": QUALITY, "dask": "none", "progress": False}
    return prepare(source=source, out=out, **{**defaults, **choices})


def reasons(out: Path) -> dict[str, str]:
    return {r["source_file"]: r["reason"] for r in read_table(out, "rejected")}


# file → how it is made, and what is said of it
FILES = {
    "truncated.edf": (lambda p: p.write_bytes(edf(p).read_bytes()[:-1000]), "is truncated: its header promises 20"),
    "rate.edf": (lambda p: patched(edf(p), 244, b"0       "), "no sampling rate; give the true one"),
    "twice.edf": (partial(edf, labels=("Fz", "Fz")), "two channels share a name ('Fz')"),
    "empty.edf": (lambda p: p.write_bytes(b""), "ends within its EDF header|no readable EDF header"),
    "zero.edf": (lambda p: p.write_bytes(patched(edf(p), 236, b"0       ") or p.read_bytes()[: 256 * 3]), "no samples"),
    "late.edf": (partial(edf, notes=[(1.0, None, "go"), (99.0, None, "stop")]), "1 of 2 events lie past the end"),
    "text.edf": (lambda p: p.write_text("this is no EDF file " * 40), "no readable EDF header"),
    "pickle.edf": (lambda p: p.write_bytes(pickle.dumps(Deadly(str(p.parent / "opened")))), "EDF header"),
    "nan_raw.fif": (lambda p: fif(p, np.full((2, 2000), np.nan)), "all 2 channels are bad"),
    "flat_raw.fif": (lambda p: fif(p, np.zeros((2, 2000))), "all 2 channels are bad"),
    "cut_raw.fif": (lambda p: (fif(p, np.ones((2, 2000))), p.write_bytes(p.read_bytes()[:3000])), "could not be read|damaged"),
    "archive.tar": (lambda p: evil_tar(p, p.parent), "could not be read"),
    "lonely.vhdr": (lambda p: p.write_text("Brain Vision Data Exchange Header File Version 1.0\n"), "could not be read"),
}  # fmt: skip


def test_files(tmp_path):
    raw = tmp_path / "deep" / "raw"
    raw.mkdir(parents=True)
    for name, (make, _) in FILES.items():
        make(raw / name)
    edf(raw / "good1.edf")
    edf(raw / "good2.edf", notes=[(1.0, None, "go")])
    report = prep(tmp_path / "d", {"name": "files", "root": raw, "glob": "*.*"})
    said = reasons(tmp_path / "d")
    assert set(said) == set(FILES)
    for name, (_, sentence) in FILES.items():
        assert any(s in said[name] for s in sentence.split("|")), (name, said[name])
        assert "\n" not in said[name]
        assert str(tmp_path) not in said[name]
    assert report.totals["n_recordings"] == 2
    assert Dataset(tmp_path / "d").subjects == ["good1", "good2"]
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not (raw / "opened").exists()


ARRAYS = {
    "pickle.npy": (lambda p: p.write_bytes(pickle.dumps(Deadly(str(p.parent / "opened")))), "pickled objects are refused"),
    "objects.npz": (lambda p: np.savez(p, data=np.array([Deadly(str(p.parent / "opened"))], dtype=object)), "pickled objects are refused"),
    "model.pkl": (lambda p: p.write_bytes(pickle.dumps(Deadly(str(p.parent / "opened")))), "can run code when it is opened"),
    "cells.mat": (lambda p: savemat(p, {"data": np.array([np.eye(3), np.eye(4)], dtype=object)}), "a cell array"),
    "short.mat": (lambda p: (savemat(p, {"data": np.ones((500, 2))}), p.write_bytes(p.read_bytes()[:300])), "not a readable MAT"),
    "nan.npy": (lambda p: np.save(p, np.full((500, 2), np.nan)), "all 2 channels are bad"),
    "zero.npy": (lambda p: np.save(p, np.zeros((0, 2))), "no samples (length zero)"),
    "none.npy": (lambda p: np.save(p, np.zeros((500, 0))), "has no channels"),
    "empty.h5": (lambda p: p.write_bytes(b""), "is empty (0 bytes)"),
    "late.npz": (lambda p: np.savez(p, data=RNG.standard_normal((500, 2)), rate_hz=RATE, t=[1.0, 9.0]), "has no array 't2'|past the end"),
    "evil.tar": (lambda p: evil_tar(p, p.parent), "'.tar' is none of the formats"),
}  # fmt: skip


def test_arrays(tmp_path):
    raw = tmp_path / "deep" / "raw"
    raw.mkdir(parents=True)
    for name, (make, _) in ARRAYS.items():
        make(raw / name)
    with h5py.File(raw / "good.h5", "w") as f:
        f["data"] = RNG.standard_normal((500, 2))
        f["t"] = [1.0, 2.0]
    source = {"name": "arrays", "root": raw, "glob": "*.*", "rate_hz": RATE}
    late = {"name": "arrays", "root": raw, "glob": "*.[nh]*[z5]", "rate_hz": RATE, "events": {"onset_s": "t"}}
    prep(tmp_path / "late", late)
    assert "past the end" in reasons(tmp_path / "late")["late.npz"]
    (raw / "late.npz").unlink()
    prep(tmp_path / "d", source)
    said = reasons(tmp_path / "d")
    assert set(said) == set(ARRAYS) - {"late.npz"}
    for name, reason in said.items():
        assert any(s in reason for s in ARRAYS[name][1].split("|")), (name, reason)
    assert Dataset(tmp_path / "d").subjects == ["good"]
    assert not list(tmp_path.rglob("escaped.txt"))
    assert not (raw / "opened").exists()


def test_without_the_quality_stage_nan_is_still_told(tmp_path):
    np.save(tmp_path / "nan.npy", np.full((500, 2), np.nan))
    np.save(tmp_path / "good.npy", np.ones((500, 2)))
    prep(tmp_path / "d", {"name": "arrays", "root": tmp_path, "glob": "*.npy", "rate_hz": RATE}, stages=[])
    assert "'ch00' holds values that are not finite" in reasons(tmp_path / "d")["nan.npy"]


def test_mixed_rates_in_a_session(tmp_path):
    for run, rate in (("1", 100.0), ("2", 100.0), ("3", 200.0)):
        edf(tmp_path / f"anna_run-{run}.edf", rate=rate)
    edf(tmp_path / "ben_run-1.edf", rate=200.0)
    source = {"name": "files", "root": tmp_path, "glob": "*.edf", "pattern": "{subject}_run-{run}.edf"}
    prep(tmp_path / "d", source, stages=[])
    (told,) = reasons(tmp_path / "d").items()
    assert told[0] == "anna_run-3.edf"
    assert "sampled at 200 Hz, most of its session at 100 Hz; add the stage 'resample'" in told[1]
    with pytest.raises(DataError, match=r"anna_run-3\.edf: is sampled at 200 Hz.*strict=true"):
        prep(tmp_path / "strict", source, stages=[], strict=True)
    prep(tmp_path / "e", source, stages=[{"name": "resample", "rate_hz": 50}])
    assert reasons(tmp_path / "e") == {}


@pytest.mark.parametrize("name", ["truncated.edf", "late.edf", "pickle.edf"])
def test_strict_is_fatal_and_leaves_no_dataset(tmp_path, name):
    edf(tmp_path / "a.edf")
    FILES[name][0](tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: .*\(strict=true\)"):
        prep(tmp_path / "d", {"name": "files", "root": tmp_path, "glob": "*.edf"}, strict=True)
    assert not (tmp_path / "d" / "dataset.json").exists()


def test_a_strangers_dataset_that_points_elsewhere_is_not_read(tmp_path):
    edf(tmp_path / "a.edf")
    prep(tmp_path / "d", {"name": "files", "root": tmp_path, "glob": "*.edf"})
    for name in ("../../secret.tar", "/etc/passwd", "a/../b.tar"):
        shutil.copytree(tmp_path / "d", tmp_path / "e", dirs_exist_ok=True)
        manifest = json.loads((tmp_path / "e" / "dataset.json").read_text())
        manifest["shards"][0]["file"] = name
        (tmp_path / "e" / "dataset.json").write_text(json.dumps(manifest))
        with pytest.raises(DataError, match="no plain file name"):
            Dataset(tmp_path / "e")
