"""Published splits as data: a JSON says in columns, numbers and seeds who is trained on and who is tested.

A rule file holds

    name, source     which split, and where it is published
    leave_out        column → values of recordings that nobody uses
    per              columns; each of their values (each person, each session) is split on its own
    one of           parts    part → {column: values}; {"numbers": [first, last]} takes values by the digits in them
                     trials   {"kind": …, part: [first, stop]}: events of a kind by their trial number
                     folds    {"unit": …, "n": number or "all", "seed": …}: every unit is tested once
    promises         what the guards hold it to: new_subject, gap_s, shared_stimuli (a reason),
                     banned (subject/session that nobody may pretrain on)
    hash             of all the rest, so that an edited rule is noticed
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurofm.data.dataset import Dataset
from neurofm.data.keyed import keyed_generator
from neurofm.data.splits.parts import check_lengths, whole
from neurofm.data.splits.spans import Span, Split
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.hashing import hash_of, read_json

KEYS = ("name", "source", "note", "leave_out", "per", "parts", "trials", "folds", "promises", "hash")
WAYS = ("parts", "trials", "folds")
COLUMNS = ("subject", "session", "task", "run", "part", "recording_id")
UNITS = ("subject", "session", "run", "recording_id", "trial", "stimulus")
PROMISES = ("new_subject", "gap_s", "shared_stimuli", "banned")


def rule_hash(rule: Mapping[str, Any]) -> str:
    """Sixteen hex digits of all of a rule but its own hash."""
    return hash_of({k: v for k, v in rule.items() if k != "hash"})


def check_rule(rule: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the rule as a plain dict when its keys are known ones.

    Raises
    ------
    ConfigError
        Naming the key and the nearest known one, or when a gap below 0 is promised.
    """
    for key in rule:
        if key not in KEYS:
            raise ConfigError(f"{where}: a split rule has no key '{key}': {nearest(key, KEYS)}")
    for key in rule.get("promises") or {}:
        if key not in PROMISES:
            raise ConfigError(f"{where}: a split cannot promise '{key}': {nearest(key, PROMISES)}")
    check_lengths(gap_s=float((rule.get("promises") or {}).get("gap_s", 0.0)))
    if len([w for w in WAYS if w in rule]) != 1:
        raise ConfigError(f"{where}: a split rule needs exactly one of {', '.join(WAYS)}")
    return dict(rule)


def read_rule(path: str | Path) -> dict[str, Any]:
    """Read a rule file.

    Raises
    ------
    DataError
        When it was changed without its hash.
    """
    rule = check_rule(read_json(path), str(path))
    if rule.get("hash") != rule_hash(rule):
        raise DataError(
            f"{path}: field 'hash' is {rule.get('hash')}, its content gives {rule_hash(rule)}; it was edited"
        )
    return rule


def folds_of(dataset: Dataset, rule: Mapping[str, Any]) -> dict[str, Split]:
    """Name → split, in sorted order; a pure function of the tables and the rule.

    Raises
    ------
    ConfigError
        When a part is empty, or a value occurs nowhere.
    """
    where = str(rule.get("name", "split"))
    left = _without(dataset, rule.get("leave_out") or {}, where)
    columns = list(rule.get("per") or ())
    for column in columns:
        _known(column, COLUMNS, where)
    groups: dict[tuple[str, ...], list[str]] = {}
    for r in left:
        groups.setdefault(tuple(str(dataset.recordings[r][c]) for c in columns), []).append(r)
    found: dict[str, Split] = {}
    for key in sorted(groups):
        for name, parts in _cut(dataset, groups[key], rule, where).items():
            label = " ".join([*(f"{c} {v}" for c, v in zip(columns, key, strict=True)), name]).strip() or "all"
            for part in ("train", "test"):
                if not parts.get(part):
                    raise ConfigError(f"{dataset.path}: part '{part}' of split '{where}' is empty for {label}")
            found[label] = Split(
                parts=parts,
                gap_s=float((rule.get("promises") or {}).get("gap_s", 0.0)),
                rule=f"{where} ({rule_hash(rule)}), {label}",
                seed=(rule.get("folds") or {}).get("seed"),
            )
    return found


def _cut(dataset: Dataset, ids: Sequence[str], rule: Mapping[str, Any], where: str) -> dict[str, dict[str, list[Span]]]:
    if "parts" in rule:
        return {
            "": {p: whole(dataset, [r for r in ids if _fits(dataset, r, w, where)]) for p, w in rule["parts"].items()}
        }
    if "trials" in rule:
        choices = dict(rule["trials"])
        events = _events(dataset, ids, choices.pop("kind"))
        return {"": {p: [s for n, s in events if first <= n < stop] for p, (first, stop) in choices.items()}}
    return _dealt(dataset, ids, rule["folds"], where)


def _dealt(
    dataset: Dataset, ids: Sequence[str], folds: Mapping[str, Any], where: str
) -> dict[str, dict[str, list[Span]]]:
    unit, n, seed = folds["unit"], folds.get("n", "all"), int(folds.get("seed", 0))
    _known(unit, UNITS, where)
    members: dict[str, list[Span]] = {}
    if unit in ("trial", "stimulus"):
        for i, span in _events(dataset, ids, folds.get("kind")):
            name = span.stimulus_id if unit == "stimulus" else f"{span.recording_id} {i:06d}"
            members.setdefault(name, []).append(span)
    else:
        for r in ids:
            members.setdefault(str(dataset.recordings[r][unit]), []).extend(whole(dataset, [r]))
    names = sorted(members)
    count = len(names) if n == "all" else int(n)
    if not 2 <= count <= len(names):
        raise ConfigError(f"{dataset.path}: split '{where}' asks for {n} folds of {len(names)} of {unit}")
    if n == "all":
        fold = {name: i for i, name in enumerate(names)}
    else:
        order = keyed_generator(seed, where, unit).permutation(len(names))
        fold = {names[j]: i % count for i, j in enumerate(order)}
    out = {}
    for k in range(count):
        label = names[k] if n == "all" else f"fold {k + 1} of {count}"
        out[f"{unit} {label}" if n == "all" else label] = {
            "train": sorted(s for m in names if fold[m] != k for s in members[m]),
            "test": sorted(s for m in names if fold[m] == k for s in members[m]),
        }
    return out


def _events(dataset: Dataset, ids: Iterable[str], kind: str | None) -> list[tuple[int, Span]]:
    """(trial number, its span inside the valid interval it begins in) of the events of a kind."""
    found = []
    for r in ids:
        valid = dataset.valid(r)
        for e in dataset.events(r):
            if kind is not None and e["kind"] != kind:
                continue
            for a, b in valid:
                if a - 1e-9 <= e["onset_s"] < b:
                    stop = min(b, e["onset_s"] + e["duration_s"])
                    if stop > e["onset_s"]:
                        found.append((int(e["trial"]), Span(r, e["onset_s"], stop, e["stimulus_id"])))
    if not found:
        raise DataError(
            f"{dataset.path}: no event of kind '{kind}' lasts in {len(list(ids))} recordings; check the split"
        )
    return found


def _without(dataset: Dataset, leave_out: Mapping[str, Any], where: str) -> list[str]:
    return [
        r for r in sorted(dataset.recordings) if not any(_fits(dataset, r, {c: v}, where) for c, v in leave_out.items())
    ]


def _fits(dataset: Dataset, recording_id: str, asked: Mapping[str, Any], where: str) -> bool:
    for column, wanted in asked.items():
        _known(column, COLUMNS, where)
        value = str(dataset.recordings[recording_id][column])
        if isinstance(wanted, Mapping):
            digits = re.findall(r"\d+", value)
            first, last = wanted["numbers"]
            if not digits or not first <= int(digits[-1]) <= last:
                return False
        elif value not in [str(w) for w in ([wanted] if isinstance(wanted, str) else wanted)]:
            return False
    return True


def _known(name: str, known: Sequence[str], where: str) -> None:
    if name not in known:
        raise ConfigError(f"split '{where}': '{name}' is unknown: {nearest(name, known)}")
