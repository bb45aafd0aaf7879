"""Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685), placed as in MVPFormer (arXiv:2506.20354)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurofm.adapt.base import Adapted, begin, freeze_all_but
from neurofm.hub.load import LoadedModel
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

# what can be adapted → last part of the module's name, and which of its output rows, as fractions: queries are a map
# of their own, of the joint key/value map the keys are the first half and the values the second
_TARGETS = {"query": ("query", 0.0, 1.0), "key": ("key_value", 0.0, 0.5), "value": ("key_value", 0.5, 1.0)}
PUBLISHED = ("query", "value")


class LowRank(nn.Module):
    """Weight (out, in) plus (alpha / rank) · up · down on its rows `first` to `last` (excluded); zero at first.

    With `magnitude` each of these rows is then set to a length that is trained too (DoRA, Liu et al. 2024,
    arXiv:2402.09353, eq. 5; rows are outputs here). The length it is divided by counts as a constant (sec. 4.3).
    """

    def __init__(
        self, weight: Tensor, *, rank: int, alpha: float, first: int, last: int, magnitude: bool = False
    ) -> None:
        super().__init__()
        self.magnitude = nn.Parameter(weight[first:last].detach().norm(dim=1, keepdim=True)) if magnitude else None
        self.scale, self.first, self.last = alpha / rank, first, last
        self.down = nn.Parameter(weight.new_empty(rank, weight.shape[1]))
        self.up = nn.Parameter(weight.new_zeros(last - first, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight."""
        rows = weight[self.first : self.last] + self.scale * (self.up @ self.down)
        if self.magnitude is not None:
            rows = rows * (self.magnitude / rows.detach().norm(dim=1, keepdim=True).clamp(min=1e-12))
        return torch.cat([weight[: self.first], rows, weight[self.last :]])


def lora(
    loaded: LoadedModel,
    facts: Facts | None = None,
    objective: Mapping[str, Any] | None = None,
    /,
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] = PUBLISHED,
    dora: bool = False,
    seed: int = 0,
) -> Adapted:
    """Train low-rank changes of the attention's maps, and the objective's head; merged into the weights on export.

    Parameters
    ----------
    loaded, facts, objective
        See `adapt.base.begin`.
    rank : int
        Of each change (published: 8).
    alpha : float
        The change is scaled by alpha / rank (published: 16).
    targets : sequence of str
        Which maps change, of ``query``, ``key`` and ``value``, each with a change of its own (published: query and
        value).
    dora : bool
        Whether the length of each changed row is trained apart from its direction.
    seed : int
        Of the changes' random halves.
    """
    if rank < 1:
        raise ConfigError(f"adapt=lora: rank={rank} must be at least 1")
    targets = _check_targets(targets)
    start = begin(loaded, facts, objective, seed=seed)
    maps = [(linear, name) for name in targets for linear in _maps(start.model, _TARGETS[name][0])]
    if not maps:
        raise ConfigError(
            f"adapt=lora: model '{start.card['model']['name']}' has no linear maps named "
            f"{' or '.join(sorted({_TARGETS[name][0] for name in targets}, reverse=True))}; use adapt=full or probe"
        )
    freeze_all_but(start.model, ())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for linear, name in maps:
            first, last = (int(share * linear.out_features) for share in _TARGETS[name][1:])
            change = LowRank(linear.weight, rank=rank, alpha=alpha, first=first, last=last, magnitude=dora)
            parametrize.register_parametrization(linear, "weight", change)
    return Adapted("lora", start, merge=merge_lora)


def merge_lora(model: nn.Module) -> None:
    """Put a plain linear map with the changed weight in the place of every changed one.

    Removing the parametrization would do the same to one model, but a copy shares its class with the original, which
    would lose its weights with it.
    """
    leaves = {leaf for leaf, _, _ in _TARGETS.values()}
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in leaves and isinstance(child, nn.Linear) and parametrize.is_parametrized(child, "weight"):
                plain = nn.Linear(child.in_features, child.out_features, bias=child.bias is not None, device="meta")
                plain.weight, plain.bias = nn.Parameter(child.weight.detach()), child.bias
                setattr(parent, name, plain.train(child.training))


def _maps(model: nn.Module, leaf: str) -> list[nn.Linear]:
    """Linear maps whose name ends in `leaf`, in order."""
    named = model.named_modules()
    return [m for name, m in named if name.rpartition(".")[2] == leaf and isinstance(m, nn.Linear)]


def _check_targets(targets: Sequence[str]) -> list[str]:
    names = [targets] if isinstance(targets, str) else list(targets)
    for name in names:
        if name not in _TARGETS:
            raise ConfigError(f"adapt=lora: unknown target '{name}': {nearest(name, _TARGETS)}")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"adapt=lora: targets={names} must name each of {', '.join(_TARGETS)} at most once, and one")
    return names
