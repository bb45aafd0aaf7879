"""`neurofm inspect PATH [--verify]`: what is in this dataset or checkpoint, and is it whole."""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import read_json, sha256_file
from neurofm.schema.manifest import Manifest
from neurofm.schema.tables import read_table


def main(argv: list[str]) -> int:
    """Describe a dataset or a checkpoint; with ``--verify`` compare every byte with its checksum."""
    parser = argparse.ArgumentParser(prog="neurofm inspect", description=__doc__)
    parser.add_argument("path", type=Path, help="a prepared dataset, a run folder or its model/ folder")
    parser.add_argument("--verify", action="store_true", help="re-check the checksum of every shard")
    args = parser.parse_args(argv)
    path: Path = args.path
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if (path / "dataset.json").exists():
        return inspect_dataset(path, verify=args.verify)
    for folder in (path, path / "model"):
        if (folder / "card.json").exists():
            return inspect_checkpoint(folder)
    raise DataError(f"{path}: is neither a prepared dataset (dataset.json) nor a checkpoint (card.json)")


def inspect_dataset(path: Path, *, verify: bool = False) -> int:
    """Print totals, subjects, channels, labels and what was rejected."""
    manifest = Manifest.read(path)
    recordings, streams = read_table(path, "recordings"), read_table(path, "streams")
    channels, events, rejected = (read_table(path, t) for t in ("channels", "events", "rejected"))
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold]  {', '.join(manifest.modalities)}  ·  licence: {manifest.licence}")
    console.print(
        f"{len(recordings)} recordings of {len({r['subject'] for r in recordings})} subjects, "
        f"{sum(r['duration_s'] for r in recordings) / 3600:.2f} h, {len(manifest.shards)} shards, "
        f"{sum(s.bytes for s in manifest.shards) / 1e6:.1f} MB, prep {manifest.prep_hash}, "
        f"largest round-trip error {manifest.round_trip_error:.1e} of a channel's range"
    )
    rate = {s["recording_id"]: s["rate_hz"] for s in streams if s["role"] == "signal"}
    count: dict[str, Counter[str]] = defaultdict(Counter)
    for c in channels:
        count[c["recording_id"]]["bad" if c["bad"] else c["kind"]] += 1
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for e in events:
        labels[e["recording_id"]][e["label"]] += 1
    table = Table(box=None, pad_edge=False)
    for name in ("subject", "session", "task", "part", "minutes", "intervals", "rate Hz", "channels", "events"):
        table.add_column(name)
    for r in recordings:
        key = r["recording_id"]
        table.add_row(
            r["subject"], r["session"], r["task"], r["part"], f"{r['duration_s'] / 60:.1f}", str(len(r["valid"])),
            f"{rate.get(key, float('nan')):.4g}", _counts(count[key]), _counts(labels[key]),
        )  # fmt: skip
    console.print(table)
    for r in rejected:
        console.print(f"[yellow]rejected[/yellow] {r['recording_id'] or r['source_file']}: {r['reason']}")
    return verify_dataset(path, manifest, console) if verify else 0


def verify_dataset(path: Path, manifest: Manifest, console: Console) -> int:
    """Compare every shard and index with its checksum; return the number of damaged files."""
    damaged = 0
    for shard in manifest.shards:
        for file, expected in ((shard.file, shard.sha256), (f"{shard.file}.idx", shard.index_sha256)):
            target = path / "shards" / file
            if not target.exists():
                damaged += 1
                console.print(f"[red]{target}: is missing; prepare the dataset again with `neurofm prep`[/red]")
            elif sha256_file(target) != expected:
                damaged += 1
                console.print(
                    f"[red]{target}: its bytes are not those that were written (sha256 differs from dataset.json); "
                    "prepare the dataset again with `neurofm prep`[/red]"
                )
    console.print(f"{2 * len(manifest.shards) - damaged} of {2 * len(manifest.shards)} files are as they were written")
    return damaged


def inspect_checkpoint(folder: Path) -> int:
    """Print what a model is, what it was trained on, and how it scored."""
    card: dict[str, Any] = read_json(folder / "card.json")
    console = Console()
    console.print(f"[bold]{folder}[/bold]  schema version {card.get('schema_version')}")
    for section in ("model", "objective", "facts", "transforms", "provenance", "metrics"):
        if section in card:
            text = json.dumps(card[section], ensure_ascii=False)
            console.print(f"[bold]{section}[/bold] {text if len(text) < 900 else text[:900] + ' …'}", highlight=False)
    return 0


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {k}" for k, n in counter.most_common(5)) + (" …" if len(counter) > 5 else "")
