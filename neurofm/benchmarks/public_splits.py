"""The splits of public benchmarks, stored as files beside this module: rules in data, each with its hash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurofm.data.split_files import check_rule, read_rule
from neurofm.schema.errors import ConfigError, nearest

FOLDER = Path(__file__).parent / "splits"


def split_names() -> list[str]:
    """Names of the stored splits."""
    return sorted(p.stem for p in FOLDER.glob("*.json"))


def split_rule(split: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule by its name or file, or a rule given as it is, checked.

    Raises
    ------
    ConfigError
        When there is no split of that name.
    """
    if not isinstance(split, str):
        return check_rule(split, "split")
    if split in split_names():
        return read_rule(FOLDER / f"{split}.json")
    if split.endswith(".json"):
        return read_rule(split)
    raise ConfigError(f"there is no split '{split}': {nearest(split, split_names())}")
