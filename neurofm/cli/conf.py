"""Where the configuration lives, and what can be chosen in it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import neurofm
from neurofm.schema.errors import ConfigError, nearest


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


def check_held_out(config: Mapping[str, Any]) -> None:
    """Refuse a `held_out` that the data's split does not use: the person would be trained on.

    Raises
    ------
    ConfigError
        Naming the split's rule and what to choose instead.
    """
    held_out, data = config.get("held_out"), config.get("data")
    if held_out is None or data is None:
        return
    if isinstance(data.get("split"), str):
        return  # a file says itself who is left out
    split = dict(data.get("split") or {})
    if str(held_out) not in [str(v) for v in split.values()]:
        raise ConfigError(
            f"held_out={held_out} has no effect: the split of data '{data.get('id', '')}' (rule {split.get('rule')}) leaves "
            "nobody out; write data.split.rule=new_subject and '+data.split.subject=${held_out}'"
        )


def check_data(data: Mapping[str, Any], task: Mapping[str, Any] | None = None) -> None:
    """Check that choices of `conf/data` and `conf/task` are known ones, and that the shards are there.

    Raises
    ------
    ConfigError
        When a key is unknown, or nothing is prepared; the sentence says how to prepare it.
    """
    given, name = data["path"], str(data.get("id", ""))
    several = [e["path"] if isinstance(e, Mapping) else e for e in ([given] if isinstance(given, str) else given)]
    absent = [str(p) for p in several if "://" not in str(p) and not (Path(p) / "dataset.json").exists()]
    if absent:
        path = absent[0]
        name = name if len(several) == 1 else Path(path).name
        command = f"neurofm prep dataset={name if name in options('dataset') else '…'}"
        if path != f"shards/{name}":
            command += f" out={path}"
        raise ConfigError(
            f"{path}: is not a prepared dataset; run `{command}` first, or say where it is with data.path=…"
        )
    # torch comes with it, so it is not imported before the data are found
    from neurofm.data.corpus import LABELS, Corpus
    from neurofm.data.task import Task

    for section, made, choices in (("data", Corpus, data), ("task", Task, task or {})):
        known = {k for k in inspect.signature(made).parameters if k != "task"} | set(LABELS)
        for key in choices:
            if key not in known:
                raise ConfigError(f"{section} has no key '{key}': {nearest(key, known)}")
