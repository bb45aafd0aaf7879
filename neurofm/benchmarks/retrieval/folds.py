"""Folds that were searched in one gallery become one line; what models are called where one name is not enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.benchmarks.retrieval.controls import Control, verdict
from neurofm.benchmarks.retrieval.line import Line
from neurofm.benchmarks.retrieval.ranks import summarise
from neurofm.schema.hashing import hash_of, read_json


def labels_of(folders: Sequence[Path]) -> dict[Path, str]:
    """What each model is called: kind and seed, and its run where these are not enough."""
    plain = {f: plain_name(read_json(f / "card.json")) for f in folders}
    several = {n for n in plain.values() if list(plain.values()).count(n) > 1}
    return {f: f"{n}, {f.parent.name}" if n in several else n for f, n in plain.items()}


def kinds_of(labels: Mapping[Path, str]) -> dict[str, str]:
    """Label of a model → what those of one recipe are called together: seeds, folds and people of it are one story in a report.

    The model's name; where several recipes share it, the label of the first of each.
    """
    cards = {f: read_json(f / "card.json") for f in labels}
    recipe = {
        f: hash_of([c["model"], c.get("objective"), [[t["name"], t["choices"]] for t in c.get("transforms", [])]])
        for f, c in cards.items()
    }
    name = {f: c["model"]["name"] for f, c in cards.items()}
    found: dict[str, str] = {}
    for f, label in labels.items():
        alike = {recipe[g] for g in labels if name[g] == name[f]}
        first = next(labels[g] for g in labels if recipe[g] == recipe[f])
        found[label] = name[f] if len(alike) == 1 else first
    return found


def pooled(model: str, folds: Sequence[Line]) -> Line:
    """One line of several folds that were searched in the same gallery: their queries together.

    Hub skewness and the controls are means over folds, the upper ends of controls their largest.
    """
    ranks = np.concatenate([x.scores.ranks for x in folds])
    size = np.array([len(x.scores.ranks) for x in folds]) / len(ranks)
    scores = summarise(ranks, folds[0].scores.n_candidates)
    controls = {
        name: Control(
            float(sum(w * x.controls[name].top1 for w, x in zip(size, folds, strict=True))),
            max(x.controls[name].high for x in folds),
        )
        for name in folds[0].controls
    }
    return replace(
        folds[0], model=model, rule=f"{len(folds)} folds", scores=replace(scores, hubness=float(size @ [x.scores.hubness for x in folds])),
        two_way=float(size @ [x.two_way for x in folds]), ceiling=float(size @ [x.ceiling for x in folds]), controls=controls,
        verdict=verdict(scores.top[1].low, controls),
    )  # fmt: skip


def plain_name(card: Mapping[str, Any]) -> str:
    """Kind and seed of a model."""
    return f"{card['model']['name']}, seed {card['provenance'].get('seed', 0)}"
