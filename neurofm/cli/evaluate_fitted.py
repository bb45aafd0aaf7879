"""The parts of a benchmark that fit their models themselves: any estimator or network on any dataset, and Neuroprobe."""

from __future__ import annotations

from typing import Any

from neurofm.benchmarks.decoding.folds import Protocol, protocol_of
from neurofm.benchmarks.decoding.neuroprobe import neuroprobe_protocol
from neurofm.benchmarks.decoding.task import score_decoding
from neurofm.benchmarks.public_splits import split_rule
from neurofm.cli.part import Part, last_of
from neurofm.report import decoding as page


def decoding(
    *, data: dict[str, Any], task: dict[str, Any], split: Any, relabel: dict[str, str | None] | None = None,
    target: str = "class", title: str = "", note: str = "", **choices: Any,
) -> Part:  # fmt: skip
    """Fit any models on the training part of each fold and score them on its test part.

    `split` is a rule, the name of one of `benchmarks/splits`, or a JSON file.
    """
    protocol = protocol_of(data=data, task=task, split=split_rule(split), relabel=relabel, target=target)
    return _decoded(protocol, title or choices["name"], str(task.get("name", "")), note, choices)


def neuroprobe(
    *, data: dict[str, Any], task: str, split: str = "cross_session", title: str = "", note: str = "", **choices: Any
) -> Part:  # fmt: skip
    """Score models on one of Neuroprobe's tasks; `split`: within_session, cross_session or cross_subject."""
    protocol = neuroprobe_protocol(data=data, task=task, split=split)
    choices = {"align": "region" if split == "cross_subject" else "common", "metrics": ["auroc"], **choices}
    return _decoded(protocol, title or f"{choices['name']}: {task}, {split}", task, note, choices)


def _decoded(protocol: Protocol, title: str, task: str, note: str, choices: dict[str, Any]) -> Part:
    scored = last_of(score_decoding(protocol, task=task or "decoding", **choices))
    dataset = protocol.dataset
    return Part(
        claims=page.claims_of(scored, title),
        sections=[page.section_of(scored, title, note=note, split=protocol.split_name)],
        rows=scored.rows,
        looks={f"{dataset.id}, {title}": scored.looks},
        facts={f"{title}: protocol": scored.protocol_hash, f"{title}: split": protocol.split_hash},
    )
