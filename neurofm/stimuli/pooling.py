"""From the hidden states of a transformer to one vector: which layers, and what is done over tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError
from neurofm.stimuli.base import choose

POOLINGS = ("mean", "cls", "tokens")


def check_layers(layers: Sequence[float] | None) -> tuple[float, ...]:
    """Return relative depths in [0, 1]; 1 is the last layer, 0 the embedding before the first."""
    depths = (1.0,) if layers is None else tuple(float(x) for x in layers)
    if not depths or any(not 0 <= x <= 1 for x in depths):
        raise ConfigError(f"layers are {list(depths)}; expected relative depths from 0 (input) to 1 (last layer)")
    return depths


def average_layers(hidden: Sequence[Tensor], depths: Sequence[float]) -> Tensor:
    """Mean of the hidden states at relative depths, [B, token, dim]; hidden[0] is the input of the first layer."""
    last = len(hidden) - 1
    return torch.stack([hidden[round(d * last)] for d in depths]).mean(dim=0)


def pool(tokens: Tensor, mask: Tensor | None, how: str) -> Tensor:
    """Pool [B, token, dim] over the tokens where `mask` [B, token]; "tokens" keeps them all."""
    choose(how, POOLINGS, "pooling")
    if how == "tokens":
        return tokens
    if how == "cls":
        return tokens[:, 0]
    if mask is None:
        return tokens.mean(dim=1)
    weight = mask.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
