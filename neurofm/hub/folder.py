"""A model folder as files: their names, and its card. Without torch, so that a wrong path is said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.schema.errors import DataError
from neurofm.schema.hashing import read_json

SCHEMA_VERSION = 1
WEIGHTS = "model.safetensors"
CARD = "card.json"
_FIELDS = ("model", "objective", "facts", "transforms", "provenance", "weights")


def model_folder(path: str | Path) -> Path:
    """Return the model folder that a path means: itself, or the ``model/`` of a run folder."""
    folder = Path(path)
    return folder / "model" if not (folder / CARD).exists() and (folder / "model" / CARD).exists() else folder


def read_card(path: str | Path) -> dict[str, Any]:
    """Read and check card.json of a model folder or a run folder.

    Raises
    ------
    DataError
        When it is missing, of another schema version, or lacks a field.
    """
    card_path = model_folder(path) / CARD
    if not card_path.exists():
        raise DataError(
            f"{card_path}: no such file; a model folder holds {CARD} and {WEIGHTS}, as `neurofm train` writes it"
        )
    card = read_json(card_path)
    version = card.get("schema_version") if isinstance(card, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{card_path}: schema_version is {version}, this neurofm reads {SCHEMA_VERSION}; "
            "load it with the version of neurofm that wrote it, or export it again"
        )
    for field in _FIELDS:
        if field not in card:
            raise DataError(f"{card_path}: field '{field}' is missing; export the model again")
    return card
