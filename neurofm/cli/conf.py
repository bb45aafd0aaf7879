"""Where the configuration lives, and what can be chosen in it."""

from __future__ import annotations

from pathlib import Path

import neurofm
from neurofm.schema.errors import ConfigError


def conf_dir() -> Path:
    """Return the folder of the YAML files: inside an installed wheel, beside the package in a checkout."""
    package = Path(neurofm.__file__).parent
    for folder in (package / "conf", package.parent / "conf"):
        if (folder / "train.yaml").exists():
            return folder
    raise ConfigError(f"{package}: the conf/ folder is missing from this installation; install neurofm again")


def options(group: str, *extra: Path) -> list[str]:
    """Return the names of the YAML files of one group, here and in the user's own folders."""
    folders = [conf_dir(), *extra]
    return sorted({p.stem for folder in folders for p in (folder / group).glob("*.yaml")})
