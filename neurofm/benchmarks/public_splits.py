"""The splits of public benchmarks, stored as files beside this module: rules in data, each with its hash.

Benchmarks that fit their models themselves make their folds of a file of `splits/`. Where models come trained, each brings
the split that it was trained under, and a file of `splits/trained/` says what that must have been:

    rule    as in `conf/data`: the name of a rule of `data.splits.rules` and its choices
    free    choices that a model may make otherwise, since the test part does not hang on them
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurofm.data.splits.files import check_rule, read_rule, rule_hash
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import read_json

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


TRAINED = FOLDER / "trained"
# what the rules take where a choice is not given
DEFAULTS = {"seed": 0, "tested_concepts": "refuse", "validation": 0}


def trained_split(name: str) -> dict[str, Any]:
    """Return what a benchmark of trained models says of their split, by the name of its file.

    Raises
    ------
    ConfigError
        When there is no such file.
    DataError
        When it was edited without its hash.
    """
    known = sorted(p.stem for p in TRAINED.glob("*.json"))
    if name not in known:
        raise ConfigError(f"there is no split '{name}' of trained models: {nearest(name, known)}")
    stored = read_json(TRAINED / f"{name}.json")
    if stored.get("hash") != rule_hash(stored):
        raise DataError(
            f"{TRAINED / name}.json: field 'hash' is {stored.get('hash')}, its content gives {rule_hash(stored)}; it was edited"
        )
    return stored


def refuse_other_splits(name: str, folders: Iterable[Path]) -> str:
    """Refuse models that were trained under another split than the benchmark's; return the hash of its file.

    Raises
    ------
    ConfigError
        Naming the model, the choice and what was expected.
    """
    stored = trained_split(name)
    for folder in folders:
        own = read_json(folder / "card.json")["provenance"]["data"].get("split")
        if not isinstance(own, Mapping):
            raise ConfigError(f"{folder}: was trained under the split of a file; the benchmark's is '{name}', a rule")
        for key in sorted({*stored["rule"], *own} - set(stored["free"])):
            asked, given = (x.get(key) if x.get(key) is not None else DEFAULTS.get(key) for x in (stored["rule"], own))
            if asked != given:
                raise ConfigError(
                    f"{folder}: was trained under another split than '{name}': {key} is {given}, the benchmark's is {asked}; "
                    "train with the benchmark's data=…, or pass split=null for a benchmark of your own"
                )
    return str(stored["hash"])
