"""A prepared dataset at an fsspec URL: S3 and other object stores, or a file system in memory.

Recordings are staged in a local working folder with the same receipts as for a local dataset, and finished files
are uploaded. An object appears whole or not at all, but there is neither a rename nor a lock that dies with its
holder; how far the promises of a local folder hold is said in docs/remote.md.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_prep.fetch import cache_dir
from data_prep.writer.atomic import WriteError
from data_prep.writer.lock import only_one
from data_prep.writer.place import Place
from data_prep.writer.shards import TABLES, clear
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import atomic_write, hash_of, read_json, write_json
from neurofm.schema.manifest import Manifest, ShardEntry

LOCK = ".prep-lock.json"


class RemotePlace(Place):
    """Objects under a URL.

    Parameters
    ----------
    url : str
        What fsspec opens; credentials come from the driver's own configuration, never from the URL.
    work : path, optional
        Local folder for unfinished work, as large as the dataset twice over; on a cluster one that all nodes see.
        Default: in the cache, by the URL.

    Raises
    ------
    ConfigError
        When no driver for the URL is installed.
    """

    def __init__(self, url: str, *, work: str | Path | None = None) -> None:
        import fsspec

        self.name = re.sub(r"//[^/@]+@", "//", url.rstrip("/"))
        try:
            # listings that are remembered would show a lock or a shard that is gone
            self.fs, root = fsspec.url_to_fs(url.rstrip("/"), use_listings_cache=False)
        except (ValueError, ImportError, TypeError) as error:
            raise ConfigError(f"{self.name}: cannot be opened ({' '.join(str(error).split())})") from error
        self.root = root.rstrip("/")
        self.home = cache_dir() / "prep" / hash_of(url.rstrip("/")) if work is None else Path(work).expanduser()
        self.work = self.home / "work"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a lock on the working folder and an object under the URL that names us.

        An object left behind by a killed run is ours again when it carries the token in our working folder, where
        the first lock says that nobody else is at work.
        """
        with only_one(Path(self.name), self.work):
            token = self._token()
            self._claim(token)
            try:
                yield
            finally:
                self._quietly_remove(LOCK)

    def notes(self) -> dict[str, Any] | None:
        """Return what stands there; see `Place.notes`."""
        text = self._read("dataset.json")
        if text is None:
            return None
        noted = json.loads(self._read("receipt.json") or b"{}")
        whole = noted.get("dataset_sha256") == hashlib.sha256(text).hexdigest() and self._is_whole(text)
        return {"run_key": noted.get("run_key"), "whole": whole, "totals": json.loads(text)["totals"] if whole else {}}

    def publish(self, new: Path) -> None:
        """Upload shards, tables and receipt, and dataset.json last; what an earlier try uploaded is not sent again."""
        manifest = Manifest.read(new)
        try:
            if self.fs.exists(self._at("dataset.json")):
                self.fs.rm_file(self._at("dataset.json"))
            coming = {f"shards/{s.file}{end}" for s in manifest.shards for end in ("", ".idx")}
            for old in self._shards_there() - coming:
                self.fs.rm_file(self._at(old))
            self.fs.makedirs(self._at("shards"), exist_ok=True)
            sent = self._sent()
            for shard in manifest.shards:
                if sent.get(shard.file) != shard.sha256 or self._size(f"shards/{shard.file}") != shard.bytes:
                    self._send(new, f"shards/{shard.file}")
                    sent[shard.file] = shard.sha256
                    write_json(self.home / "sent.json", sent)
                self._send(new, f"shards/{shard.file}.idx")
            stimuli = sorted(p.relative_to(new).as_posix() for p in (new / "stimuli").rglob("*") if p.is_file())
            for name in stimuli:
                self.fs.makedirs(self._at(name.rpartition("/")[0]), exist_ok=True)
            for name in (*stimuli, *(f"{table}.parquet" for table in TABLES), "receipt.json", "dataset.json"):
                self._send(new, name)
        except OSError as error:
            raise WriteError(
                f"{self.name}: could not be written ({error}); run the same command again: finished recordings are kept"
            ) from error
        (self.home / "sent.json").unlink(missing_ok=True)

    def abandon(self) -> None:
        """Remove the working folder; under the URL nothing was written but the lock."""
        clear(self.work)

    def _token(self) -> str:
        """Return the secret by which a lock under the URL is known to be of this working folder."""
        path = self.home / "token"
        if not path.exists():
            with atomic_write(path, "w") as f:
                f.write(uuid.uuid4().hex)
        return path.read_text().strip()

    def _claim(self, token: str) -> None:
        mine = json.dumps({"token": token}).encode()
        try:
            try:
                self.fs.makedirs(self.root, exist_ok=True)
                self.fs.pipe_file(self._at(LOCK), mine, mode="create")
            except FileExistsError:
                pass
            except (NotImplementedError, TypeError, ValueError):
                # a driver that cannot create exclusively: two runs in the same instant see the later one's token
                if not self.fs.exists(self._at(LOCK)):
                    self.fs.pipe_file(self._at(LOCK), mine)
            there = self._read(LOCK)
        except OSError as error:
            raise DataError(f"{self.name}: cannot be written ({error}); choose another output URL") from error
        if there != mine:
            raise ConfigError(
                f"{self.name}: another `neurofm prep` is writing here; wait until it ends or choose another output. If "
                f"it was killed on another machine, start it again there, or remove {LOCK} under the URL"
            )

    def _is_whole(self, dataset: bytes) -> bool:
        shards = [ShardEntry(**s) for s in json.loads(dataset)["shards"]]
        for s in shards:
            index = self._read(f"shards/{s.file}.idx")
            if self._size(f"shards/{s.file}") != s.bytes or index is None:
                return False
            if hashlib.sha256(index).hexdigest() != s.index_sha256:
                return False
        return all(self.fs.exists(self._at(f"{name}.parquet")) for name in TABLES)

    def _shards_there(self) -> set[str]:
        if not self.fs.exists(self._at("shards")):
            return set()
        names = (str(p).rsplit("/", 1)[-1] for p in self.fs.ls(self._at("shards"), detail=False))
        return {f"shards/{n}" for n in names if n.startswith("sub-") and n.endswith((".tar", ".tar.idx"))}

    def _sent(self) -> dict[str, str]:
        path = self.home / "sent.json"
        return read_json(path) if path.exists() else {}

    def _send(self, new: Path, name: str) -> None:
        self.fs.put_file(str(new / name), self._at(name))

    def _size(self, name: str) -> int | None:
        try:
            return int(self.fs.size(self._at(name)))
        except FileNotFoundError:
            return None

    def _read(self, name: str) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(self._at(name)))
        except FileNotFoundError:
            return None

    def _quietly_remove(self, name: str) -> None:
        try:
            self.fs.rm_file(self._at(name))
        except OSError:  # the next run of ours recognises it by its token
            return

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"
