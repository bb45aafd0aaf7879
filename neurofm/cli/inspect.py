"""`neurofm inspect PATH [--verify] [--plot]`: what is in this dataset, checkpoint or set of embeddings, and is it whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neurofm.cli.inspect_dataset import inspect_dataset
from neurofm.hub.folder import read_card
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import read_json, sha256_file
from neurofm.schema.tables import read_table
from neurofm.schema.words import some


def main(argv: list[str]) -> int:
    """Describe a dataset or a checkpoint; with ``--verify`` compare every byte with its checksum."""
    parser = argparse.ArgumentParser(prog="neurofm inspect", description=__doc__)
    parser.add_argument(
        "path", help="a prepared dataset (folder or URL), a run folder, its model/ folder, or embeddings"
    )
    parser.add_argument("--verify", action="store_true", help="compare every byte with its checksum")
    parser.add_argument(
        "--plot", nargs="?", const="", metavar="FOLDER",
        help="write a dataset's quality report as HTML, default into NAME-quality",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="show all rows of long tables")
    args = parser.parse_args(argv)
    plot = f"{args.path.rstrip('/').rsplit('/', 1)[-1]}-quality" if args.plot == "" else args.plot
    if "://" in args.path:
        return inspect_dataset(args.path, verify=args.verify, plot=plot, everything=args.all)
    path = Path(args.path)
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if (path / "dataset.json").exists():
        return inspect_dataset(str(path), verify=args.verify, plot=plot, everything=args.all)
    if plot is not None:
        raise ConfigError(f"{path}: --plot shows a prepared dataset, and this is none (no dataset.json)")
    for folder in (path, path / "model"):
        if (folder / "card.json").exists():
            return inspect_checkpoint(folder, verify=args.verify)
    if (path / "embeddings.json").exists():
        return inspect_embeddings(path)
    raise DataError(f"{path}: is neither a prepared dataset (dataset.json) nor a checkpoint (card.json)")


def inspect_checkpoint(folder: Path, *, verify: bool = False) -> int:
    """Print what a model is, what it was trained on, and how it scored."""
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
        f"{some(facts['channels'])}",
    )
    if facts["classes"]:
        table.add_row("tells apart", ", ".join(facts["classes"]))
    table.add_row("transforms", ", ".join(t["name"] for t in card["transforms"]) or "none")
    stages = [str(s.get("name", "?")) for s in card.get("prep", {}).get("stages", [])]
    table.add_row("stages", ", ".join(stages) or "none")
    for d in provenance.get("datasets", []):
        table.add_row("trained on", f"{d['id']}, {d.get('hours', 0):.3g} h, content {d.get('content_hash')}")
    if "subjects" in provenance:
        table.add_row("subjects", some(provenance["subjects"]))
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
