"""Read a model folder back; nothing in it can run code."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neurofm.hub.folder import CARD, WEIGHTS, model_folder, read_card
from neurofm.models import MODELS
from neurofm.models.base import Backbone
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.base import Objective
from neurofm.schema.errors import DataError
from neurofm.schema.facts import Facts
from neurofm.schema.hashing import sha256_file


@dataclass
class LoadedModel:
    """A trained model and all that belongs to it.

    Attributes
    ----------
    model, objective : nn.Module
        In evaluation mode.
    facts : Facts
        Of the data it was trained on.
    transforms : list of dict
        Fitted transforms as JSON; `neurofm.data.transforms.base` builds them.
    card : dict
        card.json as it is.
    folder : Path or None
        Where it came from.
    allow_import : bool
        Whether its card may name classes by import path, then and when its networks are built anew.
    """

    model: Backbone
    objective: Objective
    facts: Facts
    transforms: list[dict[str, Any]]
    card: dict[str, Any]
    folder: Path | None = None
    allow_import: bool = False

    def copy(self) -> LoadedModel:
        """Return a copy whose weights can change without changing these."""
        return copy.deepcopy(self)

    def fresh(self, *, seed: int) -> LoadedModel:
        """Return the same networks with new random weights; what was solved from data, as a vocabulary, stays."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model, objective = build(self.card, self.facts, allow_import=self.allow_import)
        for name in self.model.solved:
            model.get_buffer(name).copy_(self.model.get_buffer(name))
        return replace(self, model=model, objective=objective, transforms=copy.deepcopy(self.transforms))


def build(card: Mapping[str, Any], facts: Facts, *, allow_import: bool = False) -> tuple[Backbone, Objective]:
    """Build the model and objective that a card names, with untrained weights."""
    model = MODELS.build(card["model"]["name"], facts, allow_import=allow_import, **card["model"]["choices"])
    objective = OBJECTIVES.build(
        card["objective"]["name"], model, facts, allow_import=allow_import, **card["objective"]["choices"]
    )
    return model, objective


def load_model(folder: str | Path, *, device: str | torch.device = "cpu", allow_import: bool = False) -> LoadedModel:
    """Load a model folder, or the model of a run folder.

    Parameters
    ----------
    folder : str or Path
        ``runs/<name>/model`` or ``runs/<name>``.
    device : str
        Where the weights go.
    allow_import : bool
        Whether the card may name classes by import path; only for models of your own.

    Raises
    ------
    DataError
        When a file is missing, damaged, of another schema version, or its tensors do not fit.
    ConfigError
        When the card names a model that this version does not know.
    """
    folder = model_folder(folder)
    card = read_card(folder)
    facts = Facts.from_json(card["facts"])
    tensors = _read_tensors(folder, card)
    model, objective = build(card, facts, allow_import=allow_import)
    _fill(folder, {"model": model, "objective": objective}, tensors)
    model.to(device).eval()
    objective.to(device).eval()
    return LoadedModel(model, objective, facts, list(card["transforms"]), card, folder, allow_import)


def _read_tensors(folder: Path, card: Mapping[str, Any]) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.exists():
        raise DataError(f"{path}: no such file; the model folder is incomplete, copy it again")
    # safetensors itself notices a truncated file but not a changed byte
    if sha256_file(path) != card["weights"].get("sha256"):
        raise DataError(f"{path}: does not have the sha256 in {CARD}; the file is damaged or changed, copy it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DataError(f"{path}: is not a readable safetensors file ({error}); copy it again") from error


def _fill(folder: Path, parts: Mapping[str, nn.Module], tensors: dict[str, Tensor]) -> None:
    """Copy tensors into the modules after checking that names and shapes match."""
    expected = {f"{p}.{n}": t for p, module in parts.items() for n, t in module.state_dict().items()}
    path = folder / WEIGHTS
    for problem, names in (("missing", set(expected) - set(tensors)), ("unexpected", set(tensors) - set(expected))):
        if names:
            first, more = sorted(names)[0], f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise DataError(f"{path}: tensor '{first}'{more} {problem}; card and weights are not of the same model")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise DataError(
                f"{path}: tensor '{name}' has shape {tuple(tensor.shape)}, the card's model needs "
                f"{tuple(expected[name].shape)}"
            )
    for prefix, module in parts.items():
        module.load_state_dict({n: tensors[f"{prefix}.{n}"] for n in module.state_dict()})
