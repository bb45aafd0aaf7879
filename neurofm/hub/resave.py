"""Save a loaded model again, after it was adapted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurofm.hub.load import LoadedModel
from neurofm.hub.save import save_model


def save_loaded(
    folder: str | Path,
    loaded: LoadedModel,
    *,
    transforms: Sequence[Mapping[str, Any]] | None = None,
    prep: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    description: str | None = None,
) -> Path:
    """Write `loaded` as a model folder; what is given takes the place of that entry of its card."""
    card = loaded.card
    return save_model(
        folder,
        model=loaded.model,
        objective=loaded.objective,
        model_name=card["model"]["name"],
        model_choices=card["model"]["choices"],
        objective_name=card["objective"]["name"],
        objective_choices=card["objective"]["choices"],
        facts=loaded.facts,
        transforms=loaded.transforms if transforms is None else transforms,
        prep=card.get("prep") if prep is None else prep,
        provenance=card["provenance"] if provenance is None else provenance,
        metrics=card.get("metrics") if metrics is None else metrics,
        description=card.get("description", "") if description is None else description,
    )
