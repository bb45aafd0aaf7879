"""dataset.json and the shard index: what a prepared dataset says of itself (contract version 1)."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of, read_json, write_json

SCHEMA_VERSION = 1
PLAIN_NAME = re.compile(r"[\w-][\w.-]*\.tar")


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One tar of the dataset: its name under ``shards/``, whose it is, and how to tell that it is whole."""

    file: str
    subject: str
    session: str
    bytes: int
    sha256: str
    index_sha256: str
    n_segments: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of dataset.json.

    Attributes
    ----------
    id, licence, citation : str
        Dataset id, licence and citation of the source data.
    modalities : list of str
        What kinds of recording it holds.
    prep : dict
        Source, stages and storage as resolved; `prep_hash` is their hash.
    versions : dict of str to str
        Package versions that made it.
    totals : dict
        n_recordings, n_rejected, n_subjects, hours, bytes …
    round_trip_error : float
        Largest |stored − original| / channel range over the dataset.
    shards : list of ShardEntry
        Every tar, sorted by file name.
    """

    id: str
    licence: str
    citation: str
    modalities: list[str]
    prep: dict[str, Any]
    versions: dict[str, str]
    totals: dict[str, float]
    round_trip_error: float
    shards: list[ShardEntry] = field(default_factory=list)
    schema_version: int = SCHEMA_VERSION

    @property
    def prep_hash(self) -> str:
        """Hash of the resolved preparation."""
        return hash_of(self.prep)

    @property
    def content_hash(self) -> str:
        """Hash of the data themselves: the id and the hash of every shard."""
        return hash_of([self.id, [(s.file, s.sha256) for s in self.shards]])

    def write(self, folder: str | Path) -> None:
        """Write dataset.json atomically."""
        write_json(Path(folder) / "dataset.json", {**asdict(self), "prep_hash": self.prep_hash})

    @classmethod
    def read(cls, folder: str | Path) -> Manifest:
        """Read and check dataset.json.

        Raises
        ------
        DataError
            When the folder is no prepared dataset, or one of another schema version.
        """
        path = Path(folder) / "dataset.json"
        if not path.exists():
            raise DataError(f"{folder}: is not a prepared dataset (no dataset.json); run `neurofm prep` first")
        raw = read_json(path)
        if not isinstance(raw, dict) or "schema_version" not in raw:
            raise DataError(f"{path}: field 'schema_version' is missing; this is not a dataset of neurofm")
        if raw["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{path}: schema_version is {raw['schema_version']}, this neurofm reads {SCHEMA_VERSION}; "
                "prepare the dataset again or install the matching release"
            )
        raw.pop("prep_hash", None)
        try:
            shards = [ShardEntry(**s) for s in raw.pop("shards")]
            manifest = cls(**raw, shards=shards)
        except (TypeError, KeyError) as error:
            raise DataError(f"{path}: does not follow the dataset contract ({error})") from error
        for shard in shards:
            # a stranger's dataset must not make us open files elsewhere
            if not PLAIN_NAME.fullmatch(str(shard.file)):
                raise DataError(f"{path}: the shard '{shard.file}' is no plain file name; this dataset is not trusted")
        return manifest
