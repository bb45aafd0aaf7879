"""Write a trained model as a folder that needs no code of ours to be looked at.

model/
  model.safetensors   tensors, named "model.…" and "objective.…"
  card.json           what it is, for programs: names, choices, facts, transforms, provenance, metrics
  README.md           the same for people
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from neurofm.hub.card import readme
from neurofm.hub.folder import CARD, SCHEMA_VERSION, WEIGHTS
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts
from neurofm.schema.hashing import sha256_file, write_json


def save_model(
    folder: str | Path,
    *,
    model: nn.Module,
    objective: nn.Module,
    model_name: str,
    model_choices: Mapping[str, Any],
    objective_name: str,
    objective_choices: Mapping[str, Any],
    facts: Facts,
    transforms: Sequence[Mapping[str, Any]] = (),
    prep: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    description: str = "",
) -> Path:
    """Write the model folder; whatever was there is replaced as a whole, or not at all.

    Parameters
    ----------
    folder : str or Path
        Usually ``runs/<name>/model``.
    model, objective : nn.Module
        With their trained weights, on any device.
    model_name, model_choices, objective_name, objective_choices
        What the registries need to build them again.
    facts : Facts
        What the data dictated; holds the vocabulary of channel names.
    transforms : sequence of mapping
        Fitted transforms as JSON, in the order they are applied.
    prep : mapping, optional
        Stages and settings that made the training data, for preparing new recordings alike.
    provenance : mapping, optional
        ``datasets`` (id, content_hash, prep_hash, licence, citation, hours), ``split`` (hash, rule, spans trained
        on), ``subjects``, ``seed``, ``versions``.
    metrics : mapping, optional
        Figures to print in the card.
    description : str
        A sentence or two on what the model is.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        When a weight is not finite, a choice is no JSON, or the folder cannot be written.
    """
    folder = Path(folder)
    tensors = {
        f"{prefix}.{name}": tensor.detach().cpu().contiguous().clone()
        for prefix, part in (("model", model), ("objective", objective))
        for name, tensor in part.state_dict().items()
    }
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{folder}: tensor '{name}' holds values that are not finite; the model was not saved")
    card = {
        "schema_version": SCHEMA_VERSION,
        "description": description,
        "model": {"name": model_name, "choices": dict(model_choices)},
        "objective": {"name": objective_name, "choices": dict(objective_choices)},
        "facts": facts.to_json(),
        "transforms": [dict(t) for t in transforms],
        "prep": dict(prep or {}),
        "provenance": dict(provenance or {}),
        "metrics": {k: float(v) for k, v in (metrics or {}).items() if v == v and abs(v) != float("inf")},
        "n_parameters": sum(p.numel() for p in model.parameters()),
    }
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(tensors, part / WEIGHTS)
        card["weights"] = {"file": WEIGHTS, "sha256": sha256_file(part / WEIGHTS)}
        # a split's fractions are dealt in their order, and are read back from here
        write_json(part / CARD, card, sort_keys=False)
        (part / "README.md").write_text(readme(card), encoding="utf-8")
        if folder.exists():
            _remove_model(folder)
        os.replace(part, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the model could not be written ({error.strerror}); choose another folder"
        ) from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{folder}: the model card could not be written ({error}); use plain values only") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _remove_model(folder: Path) -> None:
    """Remove an earlier model; never a folder that holds something else."""
    foreign = [p.name for p in folder.iterdir() if p.name not in (WEIGHTS, CARD, "README.md")]
    if foreign:
        raise DataError(f"{folder}: holds '{foreign[0]}', which is not of a model; choose another folder")
    shutil.rmtree(folder)
