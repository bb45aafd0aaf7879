"""Where a dataset's bytes come from: a local folder, or any fsspec URL."""

from __future__ import annotations

import os
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from neurofm.schema.errors import DataError

MAX_OPEN = 128
# waits before a remote request is made again, each twice to four times the one before
RETRY_S = (0.2, 0.8, 3.0)


def pauses() -> Iterator[Callable[[], None]]:
    """Yield, for each attempt, what to call when it has failed: a wait, or nothing after the last."""
    for seconds in RETRY_S:
        yield partial(time.sleep, seconds)
    yield lambda: None


def _retried(request: Callable[[], Any]) -> Any:
    """Answer of a remote request, tried again with growing waits while it fails."""
    for pause_s in RETRY_S:
        try:
            return request()
        except OSError:
            time.sleep(pause_s)
    return request()


class Folder:
    """Positioned reads from the files of one folder.

    Handles belong to the process that opened them: a pickled copy opens its own. Remote requests that fail are made
    again after `RETRY_S`.

    Parameters
    ----------
    root : str or Path
        A local folder, or a URL that fsspec knows (``s3://…``, ``memory://…``).
    """

    def __init__(self, root: str | Path) -> None:
        self.is_local = "://" not in str(root)
        self.root = str(Path(root).expanduser().resolve()) if self.is_local else str(root).rstrip("/")
        self._open: OrderedDict[str, int] = OrderedDict()
        self._remote: tuple[int, Any, str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict(), "_remote": None}

    def __del__(self) -> None:
        for handle in self.__dict__.get("_open", {}).values():
            os.close(handle)

    def name(self, file: str) -> str:
        """Full path or URL of a file, for messages."""
        return f"{self.root}/{file}"

    def size(self, file: str) -> int:
        """Bytes of a file.

        Raises
        ------
        DataError
            When it is missing.
        """
        try:
            if self.is_local:
                return os.stat(self.name(file)).st_size
            fs, root = self._filesystem()
            return int(_retried(lambda: fs.size(f"{root}/{file}")))
        except OSError as error:
            raise DataError(f"{self.name(file)}: is missing; copy it again or prepare the dataset again") from error

    def read(self, file: str, offset: int, size: int) -> bytearray:
        """Read `size` bytes at `offset`, into memory that may be written to.

        Raises
        ------
        DataError
            When the file is missing or ends before.
        """
        try:
            # pread moves no shared file position, so a handle inherited by a forked worker stays safe
            if self.is_local:
                data = bytearray(size)
                del data[os.preadv(self._handle(file), [data], offset) :]
            else:
                data = bytearray(self._fetch(file, offset, size))
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"{self.name(file)}: cannot be read ({reason}); copy it again") from error
        if len(data) != size:
            raise DataError(f"{self.name(file)}: ends before byte {offset + size}; it is truncated, copy it again")
        return data

    @contextmanager
    def local(self, files: Sequence[str]) -> Iterator[Path]:
        """Give a local folder that holds `files`: the folder itself, or a passing copy of what exists remotely."""
        if self.is_local:
            yield Path(self.root)
            return
        fs, root = self._filesystem()
        with tempfile.TemporaryDirectory(prefix="neurofm-") as folder:
            for file in files:
                try:
                    if _retried(partial(fs.exists, f"{root}/{file}")):
                        (Path(folder) / file).parent.mkdir(parents=True, exist_ok=True)
                        _retried(partial(fs.get_file, f"{root}/{file}", f"{folder}/{file}"))
                except OSError as error:
                    raise DataError(f"{self.name(file)}: cannot be read ({error}); check the store") from error
            yield Path(folder)

    def open(self, file: str) -> IO[bytes]:
        """Open a file to be read from some place on to its end."""
        if self.is_local:
            return open(self.name(file), "rb")
        fs, root = self._filesystem()
        return _retried(lambda: fs.open(f"{root}/{file}", "rb"))

    def _fetch(self, file: str, offset: int, size: int) -> bytes:
        fs, root = self._filesystem()
        return _retried(lambda: fs.cat_file(f"{root}/{file}", start=offset, end=offset + size))

    def _filesystem(self) -> tuple[Any, str]:
        # asynchronous file systems do not survive a fork, so each process makes its own
        if self._remote is None or self._remote[0] != os.getpid():
            import fsspec

            try:
                fs, root = fsspec.url_to_fs(self.root)
            except (ValueError, ImportError) as error:
                raise DataError(f"{self.root}: cannot be opened ({error})") from error
            self._remote = (os.getpid(), fs, root.rstrip("/"))
        return self._remote[1], self._remote[2]

    def _handle(self, file: str) -> int:
        if file in self._open:
            self._open.move_to_end(file)
        else:
            self._open[file] = os.open(self.name(file), os.O_RDONLY)
            if len(self._open) > MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
        return self._open[file]
