"""A public dataset's folder tree: which files there are, and an item for each."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.privacy import starred
from data_prep.sources.base import Item, file_marks, size_of
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording


def folder(root: str | Path, source: str) -> Path:
    """Return an existing folder.

    Raises
    ------
    DataError
        When it is not there.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; set source.root to where {source} was unpacked")
    return path


def found(root: Path, *patterns: str) -> list[Path]:
    """Return the files under `root` that fit any of the patterns, each once, sorted, hidden ones left out."""
    paths = {p for pattern in patterns for p in root.glob(pattern) if p.is_file() and not p.name.startswith(".")}
    return sorted(paths)


def nothing_fits(root: Path, glob: str) -> DataError:
    """Return an error that says what is there instead: other suffixes, the nearest first, and a pattern that would fit.

    A glob's last suffix counts; files in hidden folders do not.
    """
    there = [p for p in root.rglob("*") if p.is_file() and not any(x.startswith(".") for x in _parts(root, p))]
    suffixes = Counter(_suffix(p) for p in there)
    wanted = _suffix(Path(glob))
    begun = f"{root}: no file fits source.glob '{glob}'"
    if not there:
        return DataError(f"{begun}; there is no file at all")
    if wanted in suffixes:
        first = min(p.relative_to(root).as_posix() for p in there if _suffix(p) == wanted)
        return DataError(
            f"{begun}; there are {suffixes[wanted]} {wanted} files, such as '{first}': '**/*{wanted}' takes them"
        )
    near = difflib.get_close_matches(wanted, suffixes, n=3, cutoff=0.5)
    order = [*near, *(s for s, _ in suffixes.most_common() if s not in near)]
    listed = ", ".join(f"{suffixes[s]} {s or 'without a suffix'}" for s in order[:5])
    return DataError(f"{begun}; there are {listed}")


def _parts(root: Path, path: Path) -> tuple[str, ...]:
    return path.relative_to(root).parts


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return "".join(PurePosixPath(name).suffixes[-2:]) if name.endswith(".gz") else PurePosixPath(name).suffix


def tree_item(
    root: Path,
    path: Path,
    load: Callable[..., Recording],
    *facts: Any,
    subject: str,
    session: str = "",
    part: str = "",
    key: str = "",
    beside: Iterable[Path] = (),
) -> Item:
    """Return the item of one file, loaded by ``load(root, name, *facts)`` with the file's name relative to `root`.

    Parameters
    ----------
    root, path : Path
        The dataset's folder and the file.
    load : callable
        Module-level function.
    *facts
        Plain values that change what is read.
    subject, session : str
        For the table of rejected recordings.
    part : str
        Which of several recordings in the file; part of the key.
    key : str
        Instead of the file's name.
    beside : iterable of Path
        Other files that decide what is read.
    """
    name = path.relative_to(root).as_posix()
    marks = file_marks((path, *sorted(beside)))
    return Item(
        key=(key or name) + (f" {part}" if part else ""),
        fingerprint=hash_of([name, marks, [str(f) for f in facts]]),
        open=partial(load, root, name, *facts),
        subject=subject,
        session=session,
        source_file=starred(name),
        n_bytes=size_of(path),
    )
