"""Staged fragments → shards, tables and dataset.json, in an order that depends on nothing but the recordings."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_prep.writer.atomic import WriteError, writing
from data_prep.writer.segment import END_OF_TAR
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import hash_of, read_json
from neurofm.schema.manifest import Manifest, ShardEntry
from neurofm.schema.recording import slug
from neurofm.schema.segments import SegmentEntry, StreamSpan, index_text
from neurofm.schema.tables import write_table

# Packages whose version can change the numbers, and those that do for files of some kinds and some stages only.
VERSIONED = ("neurofm", "numpy", "scipy", "mne", "mne-bids")
VERSIONED_FOR = {
    "nibabel": (".nii", ".nii.gz", ".mgh", ".mgz", "regions"),
    "nilearn": (".nii", ".nii.gz", "run_filter"),
    "pynwb": (".nwb",),
    "h5py": (".nwb", ".h5", ".hdf5"),
}
# The tables of a dataset; the schema knows others, which belong to runs and reports.
TABLES = ("recordings", "streams", "channels", "events", "rejected")
NAN_COLUMNS = ("x", "y", "z", "value", "rate_hz", "depth_um")


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A recording that is ready to be packed: its receipt and its fragment."""

    item_key: str
    receipt: dict[str, Any]
    fragment: Path

    @property
    def recording(self) -> dict[str, Any]:
        """Its row in recordings.parquet."""
        return self.receipt["recording"]

    @property
    def owner(self) -> tuple[str, str]:
        """Subject and session as they stand in the shard's name."""
        return slug(self.recording["subject"]) or "unknown", slug(self.recording["session"])


def pack(staged: Sequence[Staged], folder: Path, shard_bytes: int) -> tuple[list[ShardEntry], dict[str, list[str]]]:
    """Write ``folder/*.tar`` and ``*.tar.idx``.

    Parameters
    ----------
    staged : sequence of Staged
        Sorted by recording id.
    folder : Path
        Where the shards go.
    shard_bytes : int
        Size at which a new shard is begun; a single segment may exceed it.

    Returns
    -------
    shards : list of ShardEntry
        Sorted by file name.
    where : dict
        Recording id → its shards.
    """
    entries: list[ShardEntry] = []
    where: dict[str, list[str]] = {s.recording["recording_id"]: [] for s in staged}
    for owner in sorted({s.owner for s in staged}):
        subject, session = owner
        mine = [s for s in staged if s.owner == owner]
        base = f"sub-{subject}" + (f"_ses-{session}" if session else "")
        for number, chunk in enumerate(_chunks(mine, shard_bytes)):
            name = f"{base}-{number:06d}.tar"
            entries.append(_write_shard(folder / name, chunk, mine[0].recording))
            for s, _ in chunk:
                files = where[s.recording["recording_id"]]
                if name not in files:
                    files.append(name)
    return sorted(entries, key=lambda e: e.file), where


Piece = tuple[Staged, dict[str, Any]]


def _chunks(staged: Sequence[Staged], shard_bytes: int) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    size = 0
    for s in staged:
        for segment in s.receipt["segments"]:
            length = segment["stop"] - segment["start"]
            if chunk and size + length > shard_bytes:
                yield chunk
                chunk, size = [], 0
            chunk.append((s, segment))
            size += length
    if chunk:
        yield chunk


def _write_shard(path: Path, chunk: list[Piece], owner: dict[str, Any]) -> ShardEntry:
    digest = hashlib.sha256()
    segments: list[SegmentEntry] = []
    at = 0
    with writing(path) as out:
        for staged, segment in chunk:
            with open(staged.fragment, "rb") as f:
                f.seek(segment["start"])
                data = f.read(segment["stop"] - segment["start"])
            segments.append(_shifted(segment["entry"], at - segment["start"]))
            out.write(data)
            digest.update(data)
            at += len(data)
        out.write(END_OF_TAR)
        digest.update(END_OF_TAR)
    size = at + len(END_OF_TAR)
    text = index_text(path.name, size, segments).encode()
    with writing(path.with_name(path.name + ".idx")) as out:
        out.write(text)
    return ShardEntry(
        file=path.name,
        subject=owner["subject"],
        session=owner["session"],
        bytes=size,
        sha256=digest.hexdigest(),
        index_sha256=hashlib.sha256(text).hexdigest(),
        n_segments=len(segments),
    )


def _shifted(entry: dict[str, Any], by: int) -> SegmentEntry:
    spans = {name: StreamSpan(**{**span, "offset": span["offset"] + by}) for name, span in entry["streams"].items()}
    return SegmentEntry(entry["key"], entry["recording_id"], entry["interval"], entry["start_s"], spans)


def write_tables(
    folder: Path, staged: Sequence[Staged], where: dict[str, list[str]], rejected: list[dict[str, Any]]
) -> None:
    """Write the five parquet tables."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for s in staged:
        shards, content = where[s.recording["recording_id"]], s.receipt["content"]
        # of the values after all stages: what an audit finds copies under other names by
        fingerprint = hash_of(content) if any(content) else ""
        rows["recordings"].append({**s.recording, "shards": shards, "content": fingerprint})
        for table in ("streams", "channels", "events"):
            rows[table] += [_with_nan(row) for row in s.receipt[table]]
    rows["rejected"] = sorted(rejected, key=lambda r: (r["recording_id"], r["start_s"]))
    for table in TABLES:
        try:
            write_table(folder, table, rows[table])
        except DataError as error:
            raise WriteError(str(error)) from error


def write_stimuli(folder: Path, rows: list[dict[str, Any]]) -> dict[str, int]:
    """Write stimuli/stimuli.parquet; return file → bytes of all that lies under stimuli/, none without rows."""
    if not rows:
        return {}
    ids = sorted(r["stimulus_id"] for r in rows)
    for a, b in pairwise(ids):
        if a == b:
            raise DataError(f"the source lists the stimulus '{a}' twice; stimulus ids must be unique")
    empty = {"part": "", "file": "", "sha256": "", "caption": "", "start_s": float("nan"), "stop_s": float("nan")}
    home = folder / "stimuli"
    write_table(home, "stimuli", [{**empty, **r} for r in sorted(rows, key=lambda r: r["stimulus_id"])])
    return {p.relative_to(home).as_posix(): p.stat().st_size for p in sorted(home.rglob("*")) if p.is_file()}


def _with_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {k: float("nan") if v is None and k in NAN_COLUMNS else v for k, v in row.items()}


def make_manifest(
    staged: Sequence[Staged],
    shards: list[ShardEntry],
    *,
    dataset_id: str,
    licence: str,
    citation: str,
    prep: dict[str, Any],
    n_rejected: int,
) -> Manifest:
    """Return what dataset.json will say."""
    totals = {
        "n_recordings": len(staged),
        "n_rejected": n_rejected,
        "n_subjects": len({s.recording["subject"] for s in staged}),
        "n_segments": sum(s.n_segments for s in shards),
        "hours": round(sum(s.recording["duration_s"] for s in staged) / 3600, 6),
        "bytes": sum(s.bytes for s in shards),
    }
    return Manifest(
        id=dataset_id,
        licence=licence,
        citation=citation,
        modalities=sorted({s.recording["modality"] for s in staged}),
        prep=prep,
        versions=package_versions(
            {s.recording["source_file"].lower() for s in staged}, {stage["name"] for stage in prep.get("stages", ())}
        ),
        totals=totals,
        round_trip_error=max(s.receipt["round_trip_error"] for s in staged),
        shards=shards,
    )


def package_versions(files: Collection[str] = (), stages: Collection[str] = ()) -> dict[str, str]:
    """Return the versions of what can change the numbers of recordings from these files (lower case) by these stages."""
    found = {}
    used = [p for p, of in VERSIONED_FOR.items() if any(f.endswith(of) for f in files) or set(stages) & set(of)]
    for name in (*VERSIONED, *used):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def publish(new: Path, out: Path) -> None:
    """Move shards and tables from the working folder to their place; dataset.json goes last.

    A dataset that stood there ceases to be one (its dataset.json goes first), so that at no time a manifest
    describes files that are not its own.
    """
    try:
        (out / "dataset.json").unlink(missing_ok=True)
        shards = out / "shards"
        shards.mkdir(exist_ok=True)
        coming = {p.name for p in (new / "shards").iterdir()}
        for old in [*shards.glob("sub-*.tar"), *shards.glob("sub-*.tar.idx")]:
            if old.name not in coming:
                old.unlink()
        for p in sorted((new / "shards").iterdir()):
            os.replace(p, shards / p.name)
        for name in TABLES:
            os.replace(new / f"{name}.parquet", out / f"{name}.parquet")
        # embeddings that were made meanwhile stay: they carry the hash of what they were made from
        for p in sorted((new / "stimuli").rglob("*")):
            if p.is_file():
                there = out / p.relative_to(new)
                there.parent.mkdir(parents=True, exist_ok=True)
                os.replace(p, there)
        os.replace(new / "receipt.json", out / "receipt.json")
        os.replace(new / "dataset.json", out / "dataset.json")
    except OSError as error:
        raise WriteError(f"{out}: could not be written ({error.strerror}); run the same command again") from error


def is_whole(out: Path) -> bool:
    """Whether every file that dataset.json names is there in its size."""
    manifest = Manifest.read(out)
    for s in manifest.shards:
        tar, idx = out / "shards" / s.file, out / "shards" / f"{s.file}.idx"
        if not (tar.exists() and idx.exists() and tar.stat().st_size == s.bytes):
            return False
        if hashlib.sha256(idx.read_bytes()).hexdigest() != s.index_sha256:
            return False
    return all((out / f"{name}.parquet").exists() for name in TABLES)


def load_staged(item_key: str, receipt: Path, fragment: Path) -> Staged:
    """Read a receipt back."""
    return Staged(item_key=item_key, receipt=read_json(receipt), fragment=fragment)


def clear(folder: Path) -> None:
    """Remove a working folder with all it holds."""
    shutil.rmtree(folder, ignore_errors=True)
