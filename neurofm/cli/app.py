"""One Hydra app per verb, with errors that a person can act on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import hydra
from neurofm.cli.conf import conf_dir, options
from neurofm.schema.errors import ConfigError, NeurofmError, nearest


def run_app(verb: str, task: Callable[[dict[str, Any]], Any], argv: list[str]) -> int:
    """Compose ``conf/<verb>.yaml`` with the overrides in `argv` and call `task` with the resolved plain dict.

    Raises
    ------
    ConfigError
        One sentence for an unknown key, group, option or value, with the nearest valid ones.
    """
    # without this Hydra catches the task's exceptions itself and prints its own page
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")

    failed: list[NeurofmError] = []

    def entry(config: DictConfig) -> Any:
        # raised after Hydra is through: it would print a page of its own, and a sweep's other points can still run
        try:
            return task(plain(config))
        except NeurofmError as error:
            failed.append(error)
            return None

    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(entry)
    saved, sys.argv = sys.argv, [f"neurofm {verb}", *argv]
    try:
        app()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(str(error), verb, argv)) from error
    finally:
        sys.argv = saved
    for error in failed[1:]:
        print(f"neurofm {verb}: {error}", file=sys.stderr)
    if failed:
        raise failed[0]
    return 0


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve a config to plain dicts and lists; a value that must be given and was not is an error."""
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(f"'{missing[0]}' must be given: add {missing[0]}=… to the command")
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def explain(message: str, verb: str, argv: list[str]) -> str:
    """Turn Hydra's message about a wrong override into one sentence with the nearest valid choices."""
    extra = [Path(argv[i + 1]) for i, a in enumerate(argv[:-1]) if a in ("--config-dir", "-cd")]
    if found := re.search(r"Could not find '([\w/.-]+)/([\w.-]+)'", message):
        group, option = found.groups()
        return f"{group} has no option '{option}': {nearest(option, options(group, *extra))}"
    if found := re.search(r"Could not override '([\w./@-]+)'", message):
        key = found.group(1)
        return f"there is no key or group '{key}' in {verb}.yaml: {nearest(key, _keys(verb, argv))}"
    if found := re.search(r"Key '([\w.-]+)' is not in struct", message):
        return f"there is no key '{found.group(1)}' in {verb}.yaml: {nearest(found.group(1), _keys(verb, argv))}"
    return " ".join(message.split())


def _keys(verb: str, argv: list[str]) -> list[str]:
    """Return every key and group that could have been meant, given the groups that were chosen."""
    chosen = [a for a in argv if (pair := a.partition("="))[0] and pair[2] in options(pair[0])]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            config = compose(verb, overrides=chosen)
        except HydraException:  # a group that must be chosen was not
            config = OmegaConf.create()
    keys: list[str] = []

    def walk(node: DictConfig, prefix: str) -> None:
        for key in node:
            keys.append(f"{prefix}{key}")
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none():
                walk(child, f"{prefix}{key}.")

    walk(config, "")
    return keys + [p.name for p in conf_dir().iterdir() if p.is_dir()]


__all__ = ["NeurofmError", "explain", "plain", "run_app"]
