"""`neurofm inspect DATASET`: what a prepared dataset holds, whether it is whole, and what it looks like."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from neurofm.cli import inspect_tables as tables
from neurofm.data.storage.files import Folder
from neurofm.schema.errors import DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.manifest import Manifest
from neurofm.schema.tables import read_table
from neurofm.schema.words import counted

TABLES = ("recordings", "streams", "channels", "events", "rejected")


def inspect_dataset(path: str, *, verify: bool = False, plot: str | None = None, everything: bool = False) -> int:
    """Print what is in a dataset; return the number of damaged files found.

    Parameters
    ----------
    path : str
        Folder or URL.
    verify : bool
        Compare every byte with its checksum.
    plot : str, optional
        Folder in which the quality report is written.
    everything : bool
        Show all rows of long tables.
    """
    folder = Folder(path)
    with folder.local(["dataset.json", *(f"{t}.parquet" for t in TABLES)]) as near:
        manifest = Manifest.read(near)
        recordings, streams, channels, events, rejected = (read_table(near, t) for t in TABLES)
    console = Console()
    console.print(
        f"[bold]{manifest.id}[/bold]  {', '.join(manifest.modalities)}  ·  licence: {manifest.licence or 'not stated'}"
    )
    console.print(
        f"{counted(len(recordings), 'recording')} of {counted(len({r['subject'] for r in recordings}), 'subject')}, "
        f"{sum(r['duration_s'] for r in recordings) / 3600:.2f} h, {len(rejected)} rejected, {len(manifest.shards)} "
        f"shards, {sum(s.bytes for s in manifest.shards) / 1e6:.1f} MB, prep {manifest.prep_hash}, "
        f"largest round-trip error {manifest.round_trip_error:.1e} of a channel's range"
    )
    shown = [
        tables.sessions_table(recordings, everything=everything),
        tables.recordings_table(recordings, streams, channels, events, everything=everything),
        tables.kinds_table(channels),
        tables.regions_table(channels, everything=everything),
        tables.rates_table(streams),
        tables.labels_table(events, everything=everything),
        tables.quality_table(recordings),
        tables.rejected_table(rejected),
    ]
    for table in shown:
        if table.row_count:
            tables.show(console, table)
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for c in channels:
        if c["reason"]:
            said[c["recording_id"], f"{'bad: ' if c['bad'] else ''}{c['reason']}"].append(c["name"])
    for (recording, reason), names in list(said.items())[: None if everything else tables.SHOWN]:
        console.print(f"[yellow]{recording}[/yellow] {', '.join(names)}: {reason}")
    if plot is not None:
        # matplotlib and the reader come with it
        from neurofm.report.dataset_quality import write_quality_report

        console.print(f"quality report: {write_quality_report(path, plot)}")
    return verify_dataset(folder, manifest, console) if verify else 0


def verify_dataset(folder: Folder, manifest: Manifest, console: Console) -> int:
    """Compare every file with its checksum; return the number of damaged files.

    Shards and indexes have theirs in dataset.json, dataset.json and the tables in receipt.json.
    """
    n = damaged = 0
    for file, expected in _checksums(folder, manifest):
        n += 1
        with folder.local([file]) as near:
            there = (near / file).exists()
            same = there and sha256_file(near / file) == expected
        if same:
            continue
        damaged += 1
        fault = (
            "its bytes are not those that were written (sha256 differs from what was noted)" if there else "is missing"
        )
        console.print(f"[red]{folder.name(file)}: {fault}; prepare the dataset again with `neurofm prep`[/red]")
    console.print(f"{n - damaged} of {n} files are as they were written")
    return damaged


def _checksums(folder: Folder, manifest: Manifest) -> Iterator[tuple[str, str]]:
    with folder.local(["receipt.json"]) as near:
        path = near / "receipt.json"
        receipt = _receipt(path) if path.exists() else {}
    if "dataset_sha256" in receipt:
        yield "dataset.json", receipt["dataset_sha256"]
    for name, expected in sorted(receipt.get("tables", {}).items()):
        yield f"{name}.parquet", expected
    for shard in manifest.shards:
        yield f"shards/{shard.file}", shard.sha256
        yield f"shards/{shard.file}.idx", shard.index_sha256


def _receipt(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is not readable as JSON ({error}); prepare the dataset again") from error
    return content if isinstance(content, dict) else {}
