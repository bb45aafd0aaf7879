"""`neurofm list [datasets | models | …] [--config-dir DIR]`: what is here by name."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from neurofm.cli.conf import conf_dir, options
from neurofm.schema.errors import ConfigError, nearest

# what the user types → the config group that answers it, and the override that chooses one
GROUPS = {
    "datasets": ("dataset", "neurofm prep dataset="),
    "preps": ("prep", "neurofm prep dataset=files prep@dataset="),
    "data": ("data", "neurofm train data="),
    "models": ("model", "neurofm train model="),
    "objectives": ("objective", "neurofm train objective="),
    "tasks": ("task", "neurofm finetune task="),
    "experiments": ("experiment", "neurofm train experiment="),
    "strategies": ("adapt", "neurofm finetune adapt="),
    "benchmarks": ("benchmark", "neurofm evaluate benchmark="),
    "suites": ("suite", "neurofm evaluate suite="),
    "encoders": ("encoder", "neurofm embed data=stimuli encoder="),
    "optimisers": ("optim", "neurofm train optim="),
    "trainers": ("trainer", "neurofm train trainer="),
    "ablations": ("ablation", "neurofm train ablation="),
}


def main(argv: list[str]) -> int:
    """Print one table per group named in `argv`, or all."""
    parser = argparse.ArgumentParser(prog="neurofm list", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="GROUP", help=f"any of {', '.join(GROUPS)}; default all")
    parser.add_argument("--config-dir", type=Path, help="a configuration folder of your own, as for the other verbs")
    args = parser.parse_args(argv)
    # the word of the override means the same: `neurofm list encoder`
    asked = {group: name for name, (group, _) in GROUPS.items()}
    names = [asked.get(name, name) for name in args.names]
    for name in names:
        if name not in GROUPS:
            raise ConfigError(f"cannot list '{name}': {nearest(name, GROUPS)}")
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise ConfigError(f"{args.config_dir}: no such configuration folder")
    folders = [conf_dir(), *([args.config_dir] if args.config_dir else [])]
    console = Console()
    for name in names or GROUPS:
        group, command = GROUPS[name]
        table = Table(title=f"{name}  ({command}…)", title_justify="left", box=None, pad_edge=False)
        table.add_column("name", style="bold", no_wrap=True)
        table.add_column("what")
        for option in options(group, *folders[1:]):
            # of a name in both, Hydra takes the first
            table.add_row(option, summary(next(p for f in folders if (p := f / group / f"{option}.yaml").exists())))
        console.print(table, "")
    return 0


def first_sentence(text: str) -> str:
    """Return what comes before the first full stop that ends a sentence: none in brackets, after "et al" or an initial."""
    for stop in re.finditer(r"(?<!\bal)(?<!\b[A-Z])\.\s", text):
        before = text[: stop.start()]
        if before.count("(") <= before.count(")"):
            return before
    return text


def summary(file: Path) -> str:
    """Return the first sentence of a YAML's first comment, which says what it is."""
    text = file.read_text(encoding="utf-8")
    comments = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# "))
    if comments:
        return first_sentence(" ".join(comments)).rstrip(".")
    content = yaml.safe_load(text) or {}
    return str(content.get("name") or content.get("id") or "")
