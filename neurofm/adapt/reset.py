"""Reset-tuning (MindBridge, Wang et al., CVPR 2024, arXiv:2404.07850, sec. 3.4): new shallow layers on a frozen trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from neurofm.adapt.base import Adapted, begin, freeze_all_but, new_rows
from neurofm.hub.load import LoadedModel
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts


def reset(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    layers: Sequence[str] = (),
    train_head: bool = True,
    seed: int = 0,
) -> Adapted:
    """Give the layers nearest to the electrodes new random weights and train them; everything deeper stays frozen.

    As published, but without replay of the source subjects, whose data are not at hand when a new subject is adapted to.

    Parameters
    ----------
    loaded, facts, objective
        As for every strategy.
    layers : sequence of str
        Beginnings of parameter names, such as ``tokenizer``; default what belongs to a subject.
    train_head : bool
        Whether the objective's head moves as well.
    seed : int
        Of the new weights.

    Raises
    ------
    ConfigError
        When the model has nothing that belongs to a subject and no layers are named, or none is called so.
    """
    begun = begin(loaded, facts, objective, seed=seed)
    names = [n for n, _ in begun.model.named_parameters()]
    name = begun.card["model"]["name"]
    if layers:
        chosen = [n for n in names if any(n == p or n.startswith(f"{p}.") for p in layers)]
        for prefix in layers:
            if not any(n == prefix or n.startswith(f"{prefix}.") for n in chosen):
                known = sorted({n.partition(".")[0] for n in names})
                raise ConfigError(f"adapt=reset: model '{name}' has no layer '{prefix}': {nearest(prefix, known)}")
    else:
        chosen = list(begun.model.subject_parameters())
        if not chosen:
            raise ConfigError(
                f"adapt=reset: model '{name}' has no layer that belongs to a subject; name its shallow layers with "
                f"adapt.layers=[{names[0].partition('.')[0]}], or use adapt=lora"
            )
    fresh = dict(loaded.fresh(seed=seed).model.named_parameters())
    with torch.no_grad():
        for n, p in begun.model.named_parameters():
            if n in chosen:
                if n not in fresh or fresh[n].shape != p.shape:
                    raise ConfigError(f"adapt=reset: '{n}' of model '{name}' grew with its subjects; use subject_layer")
                p.copy_(fresh[n])
    freeze_all_but(begun.model, [*chosen, *new_rows(loaded, begun)])
    begun.objective.requires_grad_(train_head)
    return Adapted("reset", begun, frozen_backbone=True)
