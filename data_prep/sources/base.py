"""What a source is: a list of cheap items, each of which can be turned into a recording somewhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording


@dataclass(frozen=True, kw_only=True)
class Item:
    """One recording that could be loaded; small enough to be sent to any worker.

    Attributes
    ----------
    key : str
        Unique in its source.
    fingerprint : str
        Changes whenever the recording would.
    open : callable () -> Recording
        A module-level function or partial, so that it travels.
    subject, session, source_file : str
        For the table of rejected recordings.
    n_bytes : int
        Size of what will be read, 0 = unknown; decides whether a cluster pays.
    """

    key: str
    fingerprint: str
    open: Callable[[], Recording] = field(repr=False)
    subject: str = ""
    session: str = ""
    source_file: str = ""
    n_bytes: int = 0

    def load(self) -> Recording:
        """Return the recording.

        Raises
        ------
        DataError
            When it cannot be read as what it claims to be.
        """
        return self.open()


class Source:
    """Where recordings come from; a registered source is built from plain keyword arguments.

    Attributes
    ----------
    name : str
        As registered.
    id, licence, citation : str
        Default id of the dataset, terms and reference of the data; "" where unknown.
    modalities : tuple of str
        Kinds of recording it may yield.
    version : int
        Raised whenever the same files give other recordings.
    """

    name = ""
    id = ""
    licence = ""
    citation = ""
    modalities: tuple[str, ...] = ()
    version = 1

    def remarks(self, channels: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Say at the end what the user's choices did not do, from the rows of all prepared recordings' channels."""
        return []

    def stimuli(self, folder: Path) -> list[dict[str, Any]]:
        """Write what was shown or heard into `folder`, where the source has it, and return rows of stimuli.parquet.

        Called once, after the recordings. A row without bytes in `folder` names a file of the user's own, relative to
        a folder that `neurofm embed data=stimuli` is given.
        """
        return []

    def list(self) -> list[Item]:
        """Return the recordings there are, without reading their signals."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Return what is written into dataset.json: name and choices, no absolute paths."""
        return {"name": self.name, "version": self.version}


def file_fingerprint(path: Path, **how: Any) -> str:
    """Hash of a file's name, size and modification time, and of how it will be read."""
    return hash_of([*file_marks([path])[0], how])


def file_marks(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return each file's name, size and modification time: what changes when the file does; zeros for one not there."""
    return [(p.name, *_size_and_time(p)) for p in paths]


def size_of(path: Path) -> int:
    """Return a file's size; 0 where a link leads to no file, which is told when the recording is loaded."""
    return _size_and_time(path)[0]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
