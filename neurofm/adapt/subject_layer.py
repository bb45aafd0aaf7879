"""A new subject's own layer on a frozen trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neurofm.adapt.base import Adapted, begin, freeze_all_but
from neurofm.hub.load import LoadedModel
from neurofm.models.base import Backbone, offers
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

STARTS = ("mean", "kept", "reset")


def subject_layer(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    start: str = "mean",
    train_head: bool = False,
    seed: int = 0,
) -> Adapted:
    """Train what belongs to a subject, and nothing else.

    The row of whoever is not in the model's vocabulary starts as the "mean" of the known subjects' rows, "kept" as
    pretraining left it (its average subject, where `subject_dropout` trained one), or "reset" to new random numbers, as
    MindBridge's reset-tuning does (Wang et al. 2024), for inputs that mean something else in everybody. Rows of others get no gradient; they
    share a table with it, so weight decay shrinks them, which nobody's decoder sees.

    Parameters
    ----------
    loaded, facts, objective
        As for every strategy.
    start : str
        "mean", "kept" or "reset".
    train_head : bool
        Whether the objective's head moves as well.
    seed : int
        Of a new objective's weights, and of a row that is reset.

    Raises
    ------
    ConfigError
        When the model has nothing that belongs to a subject.
    """
    if start not in STARTS:
        raise ConfigError(f"adapt=subject_layer: unknown start '{start}': {nearest(start, STARTS)}")
    begun = begin(loaded, facts, objective, seed=seed)
    names = begun.model.subject_parameters()
    if not names:
        name = begun.card["model"]["name"]
        raise ConfigError(f"adapt=subject_layer: model '{name}' has no layer that belongs to a subject; use adapt=lora")
    if start == "mean":
        if not offers(begun.model, Backbone.start_new_subject):
            name = begun.card["model"]["name"]
            raise ConfigError(
                f"adapt=subject_layer: what belongs to a subject in model '{name}' has no mean over subjects; use "
                "adapt.start=kept"
            )
        begun.model.start_new_subject()
    elif start == "reset":
        _reset(begun, names, seed)
    freeze_all_but(begun.model, names)
    begun.objective.requires_grad_(train_head)
    return Adapted("subject_layer", begun, frozen_backbone=True)


@torch.no_grad()
def _reset(begun: LoadedModel, names: Sequence[str], seed: int) -> None:
    """Draw the new subject's rows as those of a new model."""
    new = dict(begun.fresh(seed=seed).model.named_parameters())
    for name, table in begun.model.named_parameters():
        if name in names:
            table[0] = new[name][0]
