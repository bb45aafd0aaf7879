"""`neurofm train resume=RUN`: the run's own configuration, and what is changed in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from neurofm.cli.explain import check_types
from neurofm.schema.errors import ConfigError, nearest

_SWITCH = ("true", "false", "null", "")


def resumed_config(argv: list[str]) -> dict[str, Any] | None:
    """Return the configuration of the run named by ``resume=RUN``, with the other ``key=value`` changed in it.

    Parameters
    ----------
    argv : list of str
        The arguments of `neurofm train`.

    Returns
    -------
    dict or None
        None when no run is named (``resume=true`` included).

    Raises
    ------
    ConfigError
        When there is no such run, or it has no such key.
    """
    named = [a.partition("=")[2] for a in argv if a.startswith("resume=")]
    if not named or named[-1].lower() in _SWITCH:
        return None
    folder = Path(named[-1])
    path = folder / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{folder}: holds no run to continue (config.yaml is missing); expected a folder of runs/")
    config = OmegaConf.create(yaml.safe_load(path.read_text(encoding="utf-8")))
    before = OmegaConf.create(OmegaConf.to_container(config))
    for argument in argv:
        key, equals, value = argument.partition("=")
        if key in ("resume", "run_dir", "overwrite") or key.startswith("hydra."):
            continue
        if not equals or key.startswith(("-", "~")):
            raise ConfigError(f"'{argument}' does not go with resume={folder}: only key=value can be changed in a run")
        key, added = key.lstrip("+"), key.startswith("+")
        if not added and OmegaConf.select(config, key, default=_SWITCH) is _SWITCH:
            raise ConfigError(f"{path} has no key '{key}': {nearest(key, _keys(config))}")
        OmegaConf.update(config, key, yaml.safe_load(value))
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    check_types({str(k): v for k, v in resolved.items()}, before)  # type: ignore[arg-type]
    return {**resolved, "run_dir": str(folder), "resume": True, "overwrite": False}


def _keys(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found.append(f"{prefix}{key}")
        if OmegaConf.is_dict(value):
            found += _keys(value, f"{prefix}{key}.")
    return found
