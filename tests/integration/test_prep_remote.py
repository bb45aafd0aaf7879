"""Output at a URL: the same bytes as in a folder, read back through the URL, whole or absent after a kill."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from data_prep.pipeline import prepare
from neurofm.data.dataset import Dataset
from neurofm.schema.errors import ConfigError, DataError

SOURCE = {"name": "simulated", "n_subjects": 4, "n_channels": 4, "duration_s": 12, "n_trials": 3}
ROOT = Path(__file__).parents[2]


class Drive(LocalFileSystem):
    """A store that other processes see and that is no local folder to us."""

    protocol = "drive"

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(str(path).removeprefix("drive://"))


fsspec.register_implementation("drive", Drive, clobber=True)


def prep(out, **choices):
    return prepare(**{"source": SOURCE, "out": out, "dask": "none", "progress": False, "segment_s": 5.0, **choices})


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def memory(tmp_path):
    url = f"memory://{tmp_path.name}/d"
    fs, root = fsspec.url_to_fs(url)
    yield url, lambda: {p[len(root) + 1 :]: fs.cat_file(p) for p in fs.find(root)}
    fs.rm(f"/{tmp_path.name}", recursive=True) if fs.exists(f"/{tmp_path.name}") else None


def test_the_same_bytes_as_in_a_folder_and_read_by_url(tmp_path, memory):
    url, stored = memory
    report = prep(url, work=tmp_path / "w")
    assert report.out == url
    prep(tmp_path / "local")
    assert stored() == content(tmp_path / "local")
    assert not (tmp_path / "w" / "work").exists()
    far, near = Dataset(url), Dataset(tmp_path / "local")
    for r in near.recordings:
        start = near.recordings[r]["valid"][0][0]
        assert np.array_equal(far.read(r, start, 50), near.read(r, start, 50))


def test_again_changed_and_damaged(tmp_path, memory):
    url, stored = memory
    prep(url, work=tmp_path / "w")
    before = stored()
    assert prep(url, work=tmp_path / "w").unchanged
    with pytest.raises(ConfigError, match="overwrite=true"):
        prep(url, work=tmp_path / "w", storage_dtype="float32")
    assert stored() == before
    fs, root = fsspec.url_to_fs(url)
    fs.pipe_file(f"{root}/shards/sub-02-000000.tar", b"cut")
    assert not prep(url, work=tmp_path / "w").unchanged
    assert stored() == before
    prep(url, work=tmp_path / "w", overwrite=True, source={**SOURCE, "n_subjects": 2})
    prep(tmp_path / "local", source={**SOURCE, "n_subjects": 2})
    assert stored() == content(tmp_path / "local"), "shards of subjects that are gone are gone"


def test_the_default_working_folder_is_in_the_cache(tmp_path, memory, monkeypatch):
    url, stored = memory
    monkeypatch.setenv("NEUROFM_CACHE", str(tmp_path / "cache"))
    prep(url)
    assert (tmp_path / "cache" / "prep").is_dir()
    assert "dataset.json" in stored()


def test_another_machine_at_work_is_noticed(tmp_path, memory):
    url, stored = memory
    fs, root = fsspec.url_to_fs(url)
    fs.pipe_file(f"{root}/.prep-lock.json", b'{"token": "of another"}')
    with pytest.raises(ConfigError, match=r"another `neurofm prep` is writing here.*remove \.prep-lock\.json"):
        prep(url, work=tmp_path / "w")
    assert list(stored()) == [".prep-lock.json"]


def test_a_failing_upload_is_a_sentence_and_can_be_repeated(tmp_path, memory, monkeypatch):
    url, stored = memory
    fs, _ = fsspec.url_to_fs(url)
    original, sent = type(fs).put_file, []

    def failing(self, lpath, rpath, **rest):
        sent.append(rpath)
        if len(sent) == 4:
            raise OSError("the network is down")
        original(self, lpath, rpath, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(type(fs), "put_file", failing)
        with pytest.raises(DataError, match=r"the network is down.*finished recordings are kept"):
            prep(url, work=tmp_path / "w")
    assert "dataset.json" not in stored()
    assert ".prep-lock.json" not in stored()
    prep(url, work=tmp_path / "w")
    prep(tmp_path / "local")
    assert stored() == content(tmp_path / "local")


def test_nothing_is_left_of_a_dataset_that_never_was(tmp_path, memory):
    url, stored = memory
    np.save(tmp_path / "s1.npy", np.zeros((10, 2), complex))
    with pytest.raises(DataError, match="all 1 recordings were rejected"):
        prep(url, work=tmp_path / "w", source={"name": "arrays", "root": tmp_path, "glob": "*.npy", "rate_hz": 1.0})
    assert stored() == {}


def test_file_urls_are_folders(tmp_path):
    prep(f"file://{tmp_path}/d")
    prep(tmp_path / "e")
    assert content(tmp_path / "d") == content(tmp_path / "e")
    with pytest.raises(ConfigError, match="work is for an output URL"):
        prep(tmp_path / "e", work=tmp_path / "w")


@pytest.mark.skipif(importlib.util.find_spec("s3fs") is not None, reason="the driver is installed")
def test_a_missing_driver_is_named():
    with pytest.raises(ConfigError, match="s3fs"):
        prep("s3://bucket/d")


DEADLY = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import fsspec
from test_prep_remote import Drive, prep
original, sent = Drive.put_file, []
def put_file(self, lpath, rpath, **rest):
    sent.append(rpath)
    if len(sent) == {k}:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, lpath, rpath, **rest)
Drive.put_file = put_file
prep("drive://" + sys.argv[1], work=sys.argv[2])
"""


@pytest.mark.parametrize(("k", "n_again"), [(1, 4), (6, 1), (14, 0)])
def test_kill_minus_nine_while_uploading(tmp_path, k, n_again, monkeypatch):
    script = tmp_path / "run.py"
    script.write_text(DEADLY.format(tests=str(Path(__file__).parent), k=k))
    command = [sys.executable, str(script), str(tmp_path / "d"), str(tmp_path / "w")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    left = content(tmp_path / "d")
    assert "dataset.json" not in left
    assert ".prep-lock.json" in left
    with pytest.raises(ConfigError, match="another `neurofm prep`"):
        prep(f"drive://{tmp_path}/d", work=tmp_path / "elsewhere")
    again = []
    original = Drive.put_file

    def noting(self, lpath, rpath, **rest):
        again.append(Path(rpath).name)
        original(self, lpath, rpath, **rest)

    monkeypatch.setattr(Drive, "put_file", noting)
    prep(f"drive://{tmp_path}/d", work=tmp_path / "w")
    assert sum(n.endswith(".tar") for n in again) == n_again, "what had arrived is not sent again"
    prep(tmp_path / "e")
    assert content(tmp_path / "d") == content(tmp_path / "e")
