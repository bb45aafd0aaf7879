"""One Hydra app per verb, with errors that a person can act on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from neurofm.cli.conf import conf_dir
from neurofm.cli.explain import check_flags, check_types, composed, explain
from neurofm.schema.errors import ConfigError, NeurofmError


def run_app(
    verb: str, task: Callable[[dict[str, Any]], Any], argv: list[str],
    points: Callable[[DictConfig], list[DictConfig]] | None = None,
) -> int:  # fmt: skip
    """Compose ``conf/<verb>.yaml`` with the overrides in `argv` and call `task` with the resolved plain dict.

    `points` makes several configs of one, for which `task` is called in turn.

    Raises
    ------
    ConfigError
        One sentence for an unknown key, group, option or value, with the nearest valid ones.
    """
    # without this Hydra catches the task's exceptions itself and prints its own page
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    real = list(sys.argv)
    argv = check_flags(argv)
    usual = composed(verb, argv)
    failed: list[NeurofmError] = []

    def entry(config: DictConfig) -> Any:
        # raised after Hydra is through: it would print a page of its own, and a sweep's other points can still run
        try:
            result = None
            for point in points(config) if points else [config]:
                resolved = plain(point)
                check_types(resolved, usual)
                # Lightning starts further processes by repeating sys.argv, which must then be the real one
                sys.argv = real
                result = task(resolved)
            return result
        except NeurofmError as error:
            if "SUBMITIT_EXECUTOR" in os.environ:  # a job of its own: nobody here looks into `failed`
                raise
            failed.append(error)
            return None
        finally:
            sys.argv = [f"neurofm {verb}", *argv]

    app = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=verb)(entry)
    sys.argv = [f"neurofm {verb}", *argv]
    try:
        app()
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, verb, argv)) from error
    finally:
        sys.argv = real
    for other in failed[1:]:
        print(f"neurofm {verb}: {other}", file=sys.stderr)
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


def sweeping() -> bool:
    """Whether this is one point of several, or a job of a launcher."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def chosen(group: str) -> str:
    """Return the name of the YAML that was chosen of a group."""
    from hydra.core.hydra_config import HydraConfig

    return str(HydraConfig.get().runtime.choices[group])
