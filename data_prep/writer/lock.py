"""One preparation per folder: a lock that the operating system releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurofm.schema.errors import ConfigError, DataError


@contextmanager
def only_one(folder: Path, work: Path) -> Iterator[None]:
    """Hold ``work/lock`` while the block runs; `work` may be removed inside the block.

    Parameters
    ----------
    folder : Path
        The folder that is being prepared, for the message.
    work : Path
        Working folder inside it, made when missing.

    Raises
    ------
    ConfigError
        When another process holds it.
    DataError
        When the folder cannot be written.
    """
    path = work / "lock"
    while True:
        try:
            work.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror}); choose another output folder") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise ConfigError(
                f"{folder}: another `neurofm prep` is writing here; wait until it ends or choose another output folder"
            ) from error
        # The former holder may have removed the file between our open and our lock: then this lock guards nothing.
        if path.exists() and os.fstat(handle).st_ino == path.stat().st_ino:
            break
        os.close(handle)
    try:
        yield
    finally:
        os.close(handle)
