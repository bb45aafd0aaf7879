"""`neurofm inspect PATH [--verify]`: what is in this dataset, checkpoint or set of embeddings, and is it whole."""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import read_json, sha256_file
from neurofm.schema.manifest import Manifest
from neurofm.schema.tables import read_table


def main(argv: list[str]) -> int:
    """Describe a dataset or a checkpoint; with ``--verify`` compare every byte with its checksum."""
    parser = argparse.ArgumentParser(prog="neurofm inspect", description=__doc__)
    parser.add_argument("path", type=Path, help="a prepared dataset, a run folder, its model/ folder, or embeddings")
    parser.add_argument("--verify", action="store_true", help="compare every byte with its checksum")
    args = parser.parse_args(argv)
    path: Path = args.path
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if (path / "dataset.json").exists():
        return inspect_dataset(path, verify=args.verify)
    for folder in (path, path / "model"):
        if (folder / "card.json").exists():
            return inspect_checkpoint(folder, verify=args.verify)
    if (path / "embeddings.json").exists():
        return inspect_embeddings(path)
    raise DataError(f"{path}: is neither a prepared dataset (dataset.json) nor a checkpoint (card.json)")


def inspect_dataset(path: Path, *, verify: bool = False) -> int:
    """Print totals, subjects, channels, labels and what was rejected."""
    manifest = Manifest.read(path)
    recordings, streams = read_table(path, "recordings"), read_table(path, "streams")
    channels, events, rejected = (read_table(path, t) for t in ("channels", "events", "rejected"))
    console = Console()
    console.print(
        f"[bold]{manifest.id}[/bold]  {', '.join(manifest.modalities)}  ·  licence: {manifest.licence or 'not stated'}"
    )
    console.print(
        f"{len(recordings)} recordings of {len({r['subject'] for r in recordings})} subjects, "
        f"{sum(r['duration_s'] for r in recordings) / 3600:.2f} h, {len(manifest.shards)} shards, "
        f"{sum(s.bytes for s in manifest.shards) / 1e6:.1f} MB, prep {manifest.prep_hash}, "
        f"largest round-trip error {manifest.round_trip_error:.1e} of a channel's range"
    )
    rate = {
        s["recording_id"]: f"{s['rate_hz']:.4g}" if s["regular"] else "events" for s in streams if s["role"] == "signal"
    }
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
            rate.get(key, ""), _counts(count[key]), _counts(labels[key]),
        )  # fmt: skip
    console.print(table)
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for c in channels:
        if c["reason"]:
            said[c["recording_id"], f"{'bad: ' if c['bad'] else ''}{c['reason']}"].append(c["name"])
    for (recording, reason), names in said.items():
        console.print(f"[yellow]{recording}[/yellow] {', '.join(names)}: {reason}")
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


def inspect_checkpoint(folder: Path, *, verify: bool = False) -> int:
    """Print what a model is, what it was trained on, and how it scored."""
    from neurofm.hub.load import read_card  # torch comes with it

    card = read_card(folder)
    facts, provenance = card["facts"], card["provenance"]
    console = Console(highlight=False)
    console.print(f"[bold]{folder}[/bold]  {card.get('n_parameters', 0):,} parameters", card.get("description") or "")
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for part in ("model", "objective"):
        choices = ", ".join(f"{k}={v}" for k, v in card[part]["choices"].items() if v is not None)
        table.add_row(part, f"{card[part]['name']}  {choices}")
    table.add_row(
        "reads",
        f"windows of {facts['window_s']:g} s at {facts['rate_hz']:g} Hz, up to {facts['max_channels']} channels: "
        f"{_some(facts['channels'])}",
    )
    if facts["classes"]:
        table.add_row("tells apart", ", ".join(facts["classes"]))
    table.add_row("transforms", ", ".join(t["name"] for t in card["transforms"]) or "none")
    stages = [str(s.get("name", "?")) for s in card.get("prep", {}).get("stages", [])]
    table.add_row("stages", ", ".join(stages) or "none")
    for d in provenance.get("datasets", []):
        table.add_row("trained on", f"{d['id']}, {d.get('hours', 0):.3g} h, content {d.get('content_hash')}")
    if "subjects" in provenance:
        table.add_row("subjects", _some(provenance["subjects"]))
    if split := provenance.get("split"):
        table.add_row("split", f"{split.get('part', '')} of {split.get('rule', '')} ({split.get('hash', '')})")
    for key in ("role", "strategy", "budget", "seed"):
        if key in provenance:
            table.add_row(key, str(provenance[key]))
    metrics = {k: v for k, v in card.get("metrics", {}).items() if k.startswith(("val/", "best/"))}
    if metrics:
        table.add_row("metrics", ", ".join(f"{k} {v:.4g}" for k, v in metrics.items()))
    console.print(table)
    weights = folder / card["weights"]["file"]
    if not weights.exists():
        raise DataError(f"{weights}: is missing; the model folder is incomplete, copy it again")
    if verify and sha256_file(weights) != card["weights"]["sha256"]:
        console.print(f"[red]{weights}: its bytes are not those that were written; copy it again[/red]")
        return 1
    if verify:
        console.print("1 of 1 files are as they were written")
    return 0


def inspect_embeddings(folder: Path) -> int:
    """Print where vectors come from."""
    about = read_json(folder / "embeddings.json")
    rows = read_table(folder, "windows")
    console = Console(highlight=False)
    console.print(
        f"[bold]{folder}[/bold]  {about['n_windows']} windows of {about['window_s']:g} s × {about['dim']}, "
        f"{about['part']} of {about['dataset']['id']}, {len({r['subject'] for r in rows})} subjects, "
        f"model {about['model'][:16]}" + (", transductive" if about["transductive"] else "")
    )
    for note in about["notes"]:
        console.print(f"  {note}")
    return 0


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:8])}{' …' if len(names) > 8 else ''})"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{n} {k}" for k, n in counter.most_common(5)) + (" …" if len(counter) > 5 else "")
