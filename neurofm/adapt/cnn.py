"""A small convolutional network trained on the calibration alone: what most laboratories would try first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from neurofm.adapt.base import Adapted, begin
from neurofm.hub.load import LoadedModel, build
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

# kernel, pool and stride of TSConv (models.nice) in seconds, at the 250 Hz they were published for
KERNEL_S, POOL_S, STRIDE_S = 0.1, 0.204, 0.02


def cnn(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    model: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Adapted:
    """Train another network from new random weights on the same windows, through the same transforms.

    Parameters
    ----------
    loaded, facts, objective
        As for every strategy; of the pretrained model only facts are used, none of its weights.
    model : mapping, optional
        ``{"name": …, **choices}``; default the temporal-spatial convolution of NICE (`models.nice`), close to
        ShallowNet, with kernels of the published length in seconds.
    seed : int
        Of its weights.

    Raises
    ------
    ConfigError
        When there is no objective that such a network can be trained by.
    """
    facts = facts or loaded.facts
    wanted = dict(objective) if objective is not None else {
        "name": loaded.card["objective"]["name"], **loaded.card["objective"]["choices"]
    }  # fmt: skip
    # its name comes from the user's own choices, or from a card that was allowed to name it
    if not OBJECTIVES.get(str(wanted.get("name")), allow_import=True).is_classifier:
        raise ConfigError(
            f"adapt=cnn classifies windows, the objective is '{wanted.get('name')}'; give objective=supervised, or use "
            "adapt=scratch"
        )
    if "readout" in wanted:
        # its one token has no channel to be flattened by
        wanted["readout"] = "pool"
    choices = dict(model or _published(facts))
    name = str(choices.pop("name"))
    card = {
        **loaded.card,
        "model": {"name": name, "choices": choices},
        "objective": {"name": wanted["name"], "choices": {k: v for k, v in wanted.items() if k != "name"}},
        "facts": facts.to_json(),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, head = build(card, facts, allow_import=True)
    start = begin(replace(loaded, model=network, objective=head, card=card, facts=facts), facts, None)
    start.model.requires_grad_(True)
    return Adapted("cnn", start)


def _published(facts: Facts) -> dict[str, Any]:
    kernel, pool, stride = (max(1, round(s * facts.rate_hz)) for s in (KERNEL_S, POOL_S, STRIDE_S))
    n = facts.window_samples
    if n < 4:
        raise ConfigError(f"adapt=cnn: a window of {n} samples is too short to convolve; use adapt=scratch")
    # a short window has room for one pool at least
    kernel = min(kernel, max(1, n // 4))
    return {"name": "nice", "kernel": kernel, "pool": min(pool, n - kernel + 1), "stride": stride}
