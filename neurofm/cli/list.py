"""`neurofm list datasets | models | objectives | experiments | benchmarks | …`: what is here by name."""

from __future__ import annotations

import yaml
from rich.console import Console
from rich.table import Table

from neurofm.cli.conf import conf_dir, options
from neurofm.schema.errors import ConfigError, nearest

# what the user types → the config group that answers it, and the override that chooses one
GROUPS = {
    "datasets": ("dataset", "neurofm prep dataset="),
    "models": ("model", "neurofm train model="),
    "objectives": ("objective", "neurofm train objective="),
    "tasks": ("task", "neurofm finetune task="),
    "experiments": ("experiment", "neurofm train experiment="),
    "strategies": ("adapt", "neurofm finetune adapt="),
    "benchmarks": ("benchmark", "neurofm evaluate benchmark="),
}


def main(argv: list[str]) -> int:
    """Print one table per group named in `argv`, or all."""
    for name in argv:
        if name not in GROUPS:
            raise ConfigError(f"cannot list '{name}': {nearest(name, GROUPS)}")
    console = Console()
    for name in argv or GROUPS:
        group, command = GROUPS[name]
        table = Table(title=f"{name}  ({command}…)", title_justify="left", box=None, pad_edge=False)
        table.add_column("name", style="bold")
        table.add_column("what")
        for option in options(group):
            table.add_row(option, _summary(group, option))
        console.print(table, "")
    return 0


def _summary(group: str, option: str) -> str:
    """Return the first comment of the YAML, which says what it is."""
    text = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    comments = []
    for line in text.splitlines():
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        comments.append(line.lstrip("# "))
    if comments:
        return " ".join(comments).split(". ")[0].rstrip(".")
    content = yaml.safe_load(text) or {}
    return str(content.get("name") or content.get("id") or "")
