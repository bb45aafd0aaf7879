"""A new subject by example: the calibration is read as context, and nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.adapt.base import Adapted, begin, freeze_all_but
from neurofm.hub.load import LoadedModel
from neurofm.models.base import offers
from neurofm.objectives.base import Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


def in_context(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    seed: int = 0,
) -> Adapted:
    """Read the calibration's (stimulus, response) pairs as context, without a gradient step (BraInCoRL, arXiv:2505.15813).

    What the context says of each channel, the weights of its linear map, is kept with the decoder, so that it answers
    about new stimuli alone. The network's own weights stay to the bit.

    Raises
    ------
    ConfigError
        When the objective reads no context.
    """
    start = begin(loaded, facts, objective, seed=seed)
    reader = start.objective
    if not offers(reader, Objective.read_context):
        raise ConfigError(
            f"adapt=in_context: model '{start.card['model']['name']}' with objective '{start.card['objective']['name']}' "
            "reads no context; pretrain model=braincorl with objective=in_context, or use adapt=probe or full"
        )
    freeze_all_but(start.model, ())
    reader.requires_grad_(False)

    def read(windows: NeuralBatch) -> None:
        start.model.eval()
        reader.read_context(start.model, windows)
        start.card["objective"]["choices"]["held"] = reader.held

    return Adapted("in_context", start, frozen_backbone=True, solve=read)
