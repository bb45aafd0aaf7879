"""Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685), placed as in MVPFormer (arXiv:2506.20354)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurofm.adapt.base import Adapted, begin, freeze_all_but
from neurofm.hub.load import LoadedModel
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

# last part of the module's name → first output row adapted, as a fraction: queries as a whole, of the joint
# key/value map only the values, which are its second half
_TARGETS = {"query": 0.0, "key_value": 0.5}


class LowRank(nn.Module):
    """Weight (out, in) plus (alpha / rank) · up · down on its rows from `first_row` on; zero at first."""

    def __init__(self, weight: Tensor, *, rank: int, alpha: float, first_row: int) -> None:
        super().__init__()
        self.scale, self.first_row = alpha / rank, first_row
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0] - first_row, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight."""
        change = self.scale * (self.up @ self.down)
        return torch.cat([weight[: self.first_row], weight[self.first_row :] + change])


def lora(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    seed: int = 0,
) -> Adapted:
    """Train low-rank changes of queries and values, and the objective's head; merged into the weights on export.

    Parameters
    ----------
    loaded, facts, objective
        See `adapt.base.begin`.
    rank : int
        Of each change (published: 8).
    alpha : float
        The change is scaled by alpha / rank (published: 16).
    seed : int
        Of the changes' random halves.
    """
    if rank < 1:
        raise ConfigError(f"adapt=lora: rank={rank} must be at least 1")
    start = begin(loaded, facts, objective, seed=seed)
    targets = _targets(start.model)
    if not targets:
        raise ConfigError(
            f"adapt=lora: model '{start.card['model']['name']}' has no linear maps named {' or '.join(_TARGETS)}; "
            "use adapt=full or probe"
        )
    freeze_all_but(start.model, ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for linear, fraction in targets:
            first_row = int(fraction * linear.out_features)
            change = LowRank(linear.weight, rank=rank, alpha=alpha, first_row=first_row)
            parametrize.register_parametrization(linear, "weight", change)
    return Adapted("lora", start, merge=merge_lora)


def merge_lora(model: nn.Module) -> None:
    """Fold every low-rank change into its weight, in place."""
    for linear, _ in _targets(model):
        if parametrize.is_parametrized(linear, "weight"):
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=True)


def _targets(model: nn.Module) -> list[tuple[nn.Linear, float]]:
    """Linear maps to adapt, and from which fraction of their rows on."""
    found = []
    for name, module in model.named_modules():
        leaf = name.rpartition(".")[2]
        if leaf in _TARGETS and isinstance(module, nn.Linear):
            found.append((module, _TARGETS[leaf]))
    return found
