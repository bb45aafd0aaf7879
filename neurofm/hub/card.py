"""The model card for people, written from the one for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.schema.words import counted

_LIMITS = """\
For research. It is not a medical device: no diagnosis, no treatment, no decision about a person may rest on it.
It has seen only the recordings listed above; expect it to do worse with other amplifiers, electrode layouts, ages,
conditions and tasks, and test it on your own held-out recordings, beside a linear baseline, before you rely on it.
Recordings of the subjects it was trained on must not be used to judge it."""


def readme(card: Mapping[str, Any]) -> str:
    """Return README.md of a model folder."""
    facts, provenance = card["facts"], card["provenance"]
    name = card["model"]["name"]
    sections = [
        f"# {name}, trained on {card['objective']['name'].replace('_', ' ')}",
        card["description"] or f"A {name} model trained with neurofm.",
        f"{card['n_parameters']:,} parameters. It reads windows of {facts['window_s']:g} s at {facts['rate_hz']:g} Hz "
        f"with up to {facts['max_channels']} channels"
        + (
            f" and tells {len(facts['classes'])} classes apart: {', '.join(facts['classes'])}."
            if facts["classes"]
            else "."
        ),
        '## Use\n\n```python\nimport neurofm\n\nm = neurofm.load("path/to/this/folder")\nz = m.embed(raw)'
        "  # an mne Raw, an array with rate and channel names, or a NIfTI path\n```\n\n"
        "Preprocessing and fitted transforms travel with the model: pass recordings as they come.",
        "## Trained on\n\n" + _data(provenance),
        "## Figures\n\n" + _figures(card["metrics"]),
        "## Intended use and limits\n\n" + _LIMITS,
        "## Settings\n\n" + _settings(card),
    ]
    return "\n\n".join(sections) + "\n"


def _data(provenance: Mapping[str, Any]) -> str:
    lines = []
    for dataset in provenance.get("datasets", []):
        words = [f"**{dataset.get('id', 'unnamed')}**"]
        if "hours" in dataset:
            words.append(f"{dataset['hours']:.3g} hours")
        words.append(f"licence: {dataset.get('licence') or 'not stated; ask its owners before you pass anything on'}")
        if dataset.get("citation"):
            words.append(f"cite: {dataset['citation']}")
        lines.append("- " + "; ".join(words))
    subjects = provenance.get("subjects")
    if subjects is not None:
        lines.append(f"- {counted(len(subjects), 'subject')}")
    split = provenance.get("split") or {}
    if split:
        lines.append(f"- split: {split.get('rule') or 'by file'} (hash `{split.get('hash', 'unknown')}`)")
    if "seed" in provenance:
        lines.append(f"- seed {provenance['seed']}")
    return "\n".join(lines) or "The data were not recorded when this model was saved."


def _figures(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "None recorded."
    rows = [f"| {k} | {v:.4g} |" for k, v in sorted(metrics.items())]
    note = "From training and its validation part; scores on held-out subjects are in the benchmark report."
    return "\n".join(["| metric | value |", "| --- | --- |", *rows, "", note])


def _settings(card: Mapping[str, Any]) -> str:
    lines = []
    for part in ("model", "objective"):
        choices = ", ".join(f"{k}={v}" for k, v in card[part]["choices"].items()) or "defaults"
        lines.append(f"- {part} `{card[part]['name']}`: {choices}")
    kinds = [str(t.get("name", "?")) for t in card["transforms"]]
    lines.append(f"- transforms: {', '.join(kinds) or 'none'}")
    versions = card["provenance"].get("versions", {})
    if versions:
        lines.append("- versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    return "\n".join(lines)
