"""A public dataset's folder tree: which files there are, and an item for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.privacy import starred
from data_prep.sources.base import Item, file_marks
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
        n_bytes=path.stat().st_size,
    )
