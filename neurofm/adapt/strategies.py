"""Strategies that choose which of the model's own parameters move; rows of units not met before move in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.adapt.base import Adapted, begin, freeze_all_but, new_rows, refuse_new_rows, require_head
from neurofm.adapt.known_rows import seek_among_known
from neurofm.adapt.lora import merge_lora
from neurofm.adapt.ridge_head import ridge_head
from neurofm.hub.load import LoadedModel
from neurofm.models.base import Backbone, offers
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

SOLVERS = ("steps", "ridge")


def full(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    layer_decay: float = 1.0,
    start: str = "kept",
    seed: int = 0,
) -> Adapted:
    """Train everything, from the pretrained weights; `layer_decay` < 1 moves the lower layers less.

    What belongs to a new subject starts as pretraining left it ("kept"), or from the "mean" of the known subjects.
    """
    if start not in ("kept", "mean"):
        raise ConfigError(f"adapt=full: unknown start '{start}': {nearest(start, ('kept', 'mean'))}")
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"adapt=full: layer_decay={layer_decay} must be above 0 and at most 1")
    begun = begin(loaded, facts, objective, seed=seed)
    if start == "mean":
        if not offers(begun.model, Backbone.start_new_subject):
            name = begun.card["model"]["name"]
            raise ConfigError(f"adapt=full: model '{name}' has nothing that belongs to a subject; leave start=kept")
        begun.model.start_new_subject()
    begun.model.requires_grad_(True)
    return Adapted("full", begun, layer_decay=layer_decay)


def probe(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    solver: str = "steps",
    seed: int = 0,
) -> Adapted:
    """Train the objective's head on the frozen model: by "steps" of gradient, or as "ridge" regression in closed form.

    Ridge refuses data with units that the model has not met: their embeddings have no closed form.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"adapt=probe: unknown solver '{solver}': {nearest(solver, SOLVERS)}")
    start = begin(loaded, facts, objective, seed=seed)
    require_head(start, "probe")
    if solver == "ridge":
        refuse_new_rows(loaded, start, "adapt=probe with solver=ridge")
    freeze_all_but(start.model, new_rows(loaded, start))
    return Adapted("probe", start, frozen_backbone=True, solve=ridge_head(start) if solver == "ridge" else None)


def bitfit(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    seed: int = 0,
) -> Adapted:
    """Train the model's biases and the objective's head (Ben Zaken et al. 2022, arXiv:2106.10199)."""
    start = begin(loaded, facts, objective, seed=seed)
    biases = [n for n, _ in start.model.named_parameters() if n.rpartition(".")[2].endswith("bias")]
    if not biases:
        raise ConfigError(f"adapt=bitfit: model '{start.card['model']['name']}' has no biases; use adapt=lora or probe")
    freeze_all_but(start.model, [*biases, *new_rows(loaded, start)])
    return Adapted("bitfit", start)


def unit_embedding(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    prior: str = "none",
    seed: int = 0,
) -> Adapted:
    """Train only the embeddings of the new session's units, and of the session (POYO's unit identification).

    Source: Azabou et al. 2023, arXiv:2310.16046. The tables take part as a whole, but rows of units that the
    calibration does not hold get no gradient, no weight decay and, as the optimiser starts afresh, no momentum: they
    stay to the bit. The rest of the network stays in evaluation mode.

    With `prior` "known", new rows are sought in coordinates in which the known ones have mean 0 and unit covariance, from
    near 0, and `prior_strength` of the loop draws by their Gaussian. Not published; see `adapt.known_rows`.
    """
    if prior not in ("none", "known"):
        raise ConfigError(f"adapt=unit_embedding: unknown prior '{prior}': {nearest(prior, ('none', 'known'))}")
    start = begin(loaded, facts, objective, seed=seed)
    owned = start.model.subject_parameters() if offers(start.model, Backbone.grow) else []
    if not owned:
        raise ConfigError(
            f"adapt=unit_embedding: model '{start.card['model']['name']}' has no embedding per unit; use adapt=full or probe"
        )
    freeze_all_but(start.model, owned)
    freeze_all_but(start.objective, start.objective.subject_parameters())
    if prior == "none":
        return Adapted("unit_embedding", start, frozen_backbone=True)
    for part, old in ((start.model, loaded.model), (start.objective, loaded.objective)):
        seek_among_known(part, old, seed=seed)
    return Adapted("unit_embedding", start, frozen_backbone=True, merge=merge_lora)


def norm(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    seed: int = 0,
) -> Adapted:
    """Train the gains and offsets of the model's norm layers, and the objective's head (Frankle et al. 2021, 2003.00152)."""
    start = begin(loaded, facts, objective, seed=seed)
    gains = [
        f"{prefix}.{name}" if prefix else name
        for prefix, part in start.model.named_modules()
        if "norm" in type(part).__name__.lower()
        for name, _ in part.named_parameters(recurse=False)
    ]
    if not gains:
        raise ConfigError(
            f"adapt=norm: model '{start.card['model']['name']}' has no norm layer with weights; use adapt=bitfit or lora"
        )
    freeze_all_but(start.model, [*gains, *new_rows(loaded, start)])
    return Adapted("norm", start)


def scratch(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    seed: int = 0,
) -> Adapted:
    """Train the same network from new random weights: what the pretraining has to beat."""
    start = begin(loaded.fresh(seed=seed), facts, objective, seed=seed)
    start.model.requires_grad_(True)
    return Adapted("scratch", start)
