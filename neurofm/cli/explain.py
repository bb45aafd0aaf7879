"""What a person meant who mistyped: Hydra's complaints as one sentence with the nearest valid choices."""

from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path
from typing import Any, NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from neurofm.cli.conf import conf_dir, options
from neurofm.schema.errors import ConfigError, nearest

DATA_FLAGS = ("--config-dir", "-cd")


def check_flags(argv: list[str]) -> list[str]:
    """Parse the flags as Hydra will, but complain in one sentence; return them first, the overrides behind.

    Hydra itself takes no override on both sides of a flag.

    Raises
    ------
    ConfigError
        For an unknown flag or a wrong value of one.
    """
    parser = get_args_parser()

    def complain(message: str) -> NoReturn:
        flags = [f for action in parser._actions for f in action.option_strings if f.startswith("--")]
        if found := re.search(r"unrecognized arguments: (\S+)", message):
            raise ConfigError(f"there is no flag '{found.group(1)}': {nearest(found.group(1), flags)}")
        raise ConfigError(message)

    parser.error = complain  # type: ignore[method-assign]
    overrides = list(parser.parse_intermixed_args(argv).overrides)
    return [a for a in argv if a not in overrides] + overrides


def check_types(config: dict[str, Any], usual: DictConfig) -> None:
    """Find words where the configuration, as `composed`, has a number or a switch.

    Raises
    ------
    ConfigError
        Names the key, the value and what was expected.
    """
    default = OmegaConf.to_container(usual, resolve=False, throw_on_missing=False)

    def walk(given: Any, usual: Any, key: str) -> None:
        if isinstance(given, dict) and isinstance(usual, dict):
            for name in given.keys() & usual.keys():
                walk(given[name], usual[name], f"{key}.{name}" if key else name)
        elif isinstance(given, str) and isinstance(usual, (bool, int, float)) and given != "auto":
            expected = "true or false" if isinstance(usual, bool) else "a number"
            raise ConfigError(f"{key} is '{given}'; expected {expected}, such as {str(usual).lower()}")

    walk(config, default, "")


def explain(error: Exception, verb: str, argv: list[str]) -> str:
    """Turn Hydra's message about a wrong override into one sentence."""
    message = str(error)
    override = getattr(error, "override", None)
    if override is not None:
        if "=" not in override:
            return f"'{override}' is not an override: write key=value or group=choice, such as {_example(verb)}"
        return (
            f"'{override}' cannot be read: write key=value, and put quotes around a value that has spaces, brackets, "
            "quotes or '=' in it"
        )
    if found := re.search(r"Could not find '([\w/.-]+)/([\w.-]+)'", message):
        group, option = found.groups()
        return f"{group} has no option '{option}': {nearest(option, options(group, *_folders(argv)))}"
    if found := re.search(r"You must specify '([\w/.-]+)'", message):
        group = found.group(1)
        for token in argv:
            key = token.partition("=")[0].lstrip("+~")
            if "=" in token and key.split(".")[0].split("@")[0] not in _roots(verb):
                return f"there is no key or group '{key}' in {verb}.yaml: {nearest(key, _roots(verb))}"
        return f"choose a {group}: {group}= one of {', '.join(options(group, *_folders(argv)))}"
    if found := re.search(r"Multiple values for ([\w./@-]+)\.", message):
        return f"'{found.group(1)}' is chosen twice: write {found.group(1)}=… once, without a plus"
    if found := re.search(r"An item is already at '([\w./@-]+)'", message):
        return f"'{found.group(1)}' is there already: write {found.group(1)}=… without the plus"
    if found := re.search(r"Could not (?:override|delete)[^']*'([\w./@-]+)'", message) or re.search(
        r"Key '([\w.-]+)' is not in struct", message
    ):
        return _unknown_key(found.group(1), verb, argv)
    if found := re.search(r"Error merging override ([\w.]+)=", message):
        config, words = composed(verb, argv), found.group(1).split(".")
        for key in itertools.accumulate(words, "{}.{}".format):
            if OmegaConf.is_list(OmegaConf.select(config, key)):
                return f"'{key}' of {verb}.yaml is a list: write '{key}=[VALUE,VALUE]', all of it"
    return " ".join(message.split("\n\n")[0].split())


def _unknown_key(key: str, verb: str, argv: list[str]) -> str:
    config = composed(verb, argv)
    group, _, choice = key.partition(".")
    if choice and choice in _arguments(group, OmegaConf.select(config, f"{group}.name")):
        return f"{verb}.yaml does not set '{key}', but this {group} takes it: write +{key}=… to add it"
    if key in _keys(config):
        return f"'{key}' of {verb}.yaml takes entries of your own: write '+{key}={{NAME: VALUE}}', names without quotes"
    close = nearest(key, [*_keys(config), *_roots(verb)])
    # the whole list of keys helps nobody
    return f"there is no key or group '{key}' in {verb}.yaml: {close if '?' in close else nearest('', _roots(verb))}"


def _arguments(group: str, name: str | None) -> list[str]:
    """Arguments of what is registered under a name in the registry of a group."""
    if group == "model":
        from neurofm.models import MODELS as REGISTRY
    elif group == "objective":
        from neurofm.objectives import OBJECTIVES as REGISTRY
    else:
        return []
    if name not in REGISTRY.names():
        return []
    return list(inspect.signature(REGISTRY.get(name)).parameters)


def _folders(argv: list[str]) -> list[Path]:
    """The user's own configuration folders."""
    apart = [b for a, b in itertools.pairwise(argv) if a in DATA_FLAGS]
    joined = [a.partition("=")[2] for a in argv if a.startswith(tuple(f"{f}=" for f in DATA_FLAGS))]
    return [Path(p) for p in (*apart, *joined)]


def composed(verb: str, argv: list[str]) -> DictConfig:
    """The configuration with the groups that were chosen, and nothing else changed; empty when that fails."""
    extra = [p for p in _folders(argv) if p.is_dir()]
    chosen = [a for a in argv if (pair := a.partition("="))[0] and pair[2] in options(pair[0], *extra)]
    chosen += [f"hydra.searchpath=[{','.join(f'file://{p.absolute()}' for p in extra)}]"] if extra else []
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose(verb, overrides=chosen)
    except HydraException:  # a group that must be chosen was not
        return OmegaConf.create()


def _keys(config: DictConfig) -> list[str]:
    """Every key of a configuration, dotted."""
    keys: list[str] = []

    def walk(node: DictConfig, prefix: str) -> None:
        for key in map(str, node):
            keys.append(f"{prefix}{key}")
            child = node._get_node(key)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                walk(child, f"{prefix}{key}.")

    walk(config, "")
    return keys


def _roots(verb: str) -> list[str]:
    """Top-level keys and groups of a verb's configuration."""
    root = OmegaConf.load(conf_dir() / f"{verb}.yaml")
    assert isinstance(root, DictConfig)
    groups = [str(next(iter(d))).removeprefix("override ") for d in root.defaults if isinstance(d, DictConfig)]
    return sorted({*(g for g in groups if "/" not in g), *(str(k) for k in root if k != "defaults")})


def _example(verb: str) -> str:
    return {"prep": "dataset=hcp7", "train": "data=hcp7", "evaluate": "benchmark=hcp7"}.get(verb, "seed=1")
