"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from neurofm.schema.errors import DataError


class WriteError(DataError):
    """The output could not be written; unlike a bad recording this ends the whole preparation."""


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when whole; a full disk leaves nothing behind.

    Raises
    ------
    WriteError
        When the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        f = _Guarded(part)
    except OSError as error:
        raise WriteError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        with f.file:
            yield f  # type: ignore[misc]
            f.guard(f.file.flush)
            f.guard(lambda: os.fsync(f.file.fileno()))
        f.guard(lambda: os.replace(part, path))
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class _Guarded:
    """A file whose failing writes are told apart from failing reads of the recording."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = open(path, "wb")  # noqa: SIM115

    def write(self, data: bytes) -> int:
        return self.guard(lambda: self.file.write(data))

    def tell(self) -> int:
        return self.file.tell()

    def guard(self, action: Any) -> Any:
        try:
            return action()
        except OSError as error:
            raise WriteError(
                f"{self.path.parent}: could not be written ({error.strerror}); "
                "make room or choose another folder, then run the same command again: finished recordings are kept"
            ) from error
