"""Low-rank adaptation (Hu et al. 2022, arXiv:2106.09685), placed as in MVPFormer (arXiv:2506.20354)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurofm.adapt.base import Adapted, begin, freeze_all_but, new_rows
from neurofm.hub.load import LoadedModel
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

# what can be adapted → where it lies: last part of the module's name, its tensor, and the output rows as fractions.
# queries are a map of their own, or the first third of a joint one; keys come before values
_JOINT = (("qkv", "weight"), ("self_attn", "in_proj_weight"))
_TARGETS: dict[str, tuple[tuple[str, str, float, float], ...]] = {
    "query": (("query", "weight", 0, 1), *((*where, 0, 1 / 3) for where in _JOINT)),
    "key": (("key", "weight", 0, 1), ("key_value", "weight", 0, 0.5), *((*where, 1 / 3, 2 / 3) for where in _JOINT)),
    "value": (("value", "weight", 0, 1), ("key_value", "weight", 0.5, 1), *((*where, 2 / 3, 1) for where in _JOINT)),
}
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
    maps = [
        (module, *where[1:])
        for name in targets
        for where in _TARGETS[name]
        for module in _maps(start.model, *where[:2])
    ]
    if not maps:
        leaves = [leaf for name in targets for leaf, *_ in _TARGETS[name]]
        raise ConfigError(
            f"adapt=lora: model '{start.card['model']['name']}' has no attention whose maps are named "
            f"{' or '.join(dict.fromkeys(leaves))}; use adapt=full or probe"
        )
    freeze_all_but(start.model, new_rows(loaded, start))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module, tensor, *rows in maps:
            weight = getattr(module, tensor)
            first, last = (round(share * len(weight)) for share in rows)
            change = LowRank(weight, rank=rank, alpha=alpha, first=first, last=last, magnitude=dora)
            parametrize.register_parametrization(module, tensor, change)
    return Adapted("lora", start, merge=merge_lora)


def merge_lora(model: nn.Module) -> None:
    """Give every changed map its changed weight as a plain parameter.

    Removing the parametrization would do the same to one model, but a copy shares its class with the original, which
    would lose its weights with it; so each module goes back to the class it had, alone.
    """
    for module in list(model.modules()):
        if not parametrize.is_parametrized(module):
            continue
        plain = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
        del module.parametrizations
        module.__class__ = type(module).__bases__[0]
        for name, weight in plain.items():
            module.register_parameter(name, nn.Parameter(weight))


def _maps(model: nn.Module, leaf: str, tensor: str) -> list[nn.Module]:
    """Linear maps and attentions whose name ends in `leaf`, in order."""
    kind = nn.Linear if tensor == "weight" else nn.MultiheadAttention
    named = [m for name, m in model.named_modules() if name.rpartition(".")[2] == leaf and isinstance(m, kind)]
    return [m for m in named if getattr(m, tensor, None) is not None]


def _check_targets(targets: Sequence[str]) -> list[str]:
    names = [targets] if isinstance(targets, str) else list(targets)
    for name in names:
        if name not in _TARGETS:
            raise ConfigError(f"adapt=lora: unknown target '{name}': {nearest(name, _TARGETS)}")
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"adapt=lora: targets={names} must name each of {', '.join(_TARGETS)} at most once, and one")
    return names
