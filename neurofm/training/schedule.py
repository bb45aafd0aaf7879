"""Learning rate over steps, and which parameters get which rate and decay."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from neurofm.schema.errors import ConfigError

_BLOCK = re.compile(r"(?:^|\.)(?:blocks|layers)\.(\d+)\.")
# tables and single vectors are positions, not maps: pulling them to zero has no reason
_NO_DECAY = ("table", "embedding", "token", "position", "bias")
_FIRST = ("tokenizer", "table", "embed", "position", "mask_token")


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int, floor: float = 0.0) -> float:
    """Return the factor on the peak learning rate at `step` (from 0).

    Linear from 1 / warmup_steps to 1, then half a cosine down to `floor` at `total_steps`.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, *, warmup_steps: int, total_steps: int, floor: float = 0.0, decay_fraction: float = 0.2
) -> float:
    """Return the factor on the peak learning rate at `step` (from 0): linear up, flat, then 1 − √ down to `floor`.

    The flat part can be continued from any checkpoint, so one run serves several lengths (Hägele et al. 2024, "Scaling
    laws and compute-optimal training beyond fixed training durations", eq. 1; the decay over 20 % of the steps there).
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    n_decay = round(decay_fraction * total_steps)
    into = step - (total_steps - n_decay)
    if into <= 0 or n_decay == 0:
        return 1.0
    return floor + (1 - floor) * (1 - math.sqrt(min(1.0, into / n_decay)))


SCHEDULES = ("cosine", "wsd")


def learning_rate_factor(
    step: int, *, schedule: str, warmup_steps: int, total_steps: int, floor: float, decay_fraction: float
) -> float:
    """Return the factor of the schedule called `schedule`."""
    if schedule == "wsd":
        return warmup_stable_decay(
            step, warmup_steps=warmup_steps, total_steps=total_steps, floor=floor, decay_fraction=decay_fraction
        )
    return warmup_cosine(step, warmup_steps=warmup_steps, total_steps=total_steps, floor=floor)


def decays(name: str, owner: nn.Module, ndim: int) -> bool:
    """Whether weight decay applies: to matrices and kernels; not to vectors, norms, biases and tables."""
    leaf = name.rpartition(".")[2]
    return ndim > 1 and not isinstance(owner, nn.Embedding) and not any(word in leaf for word in _NO_DECAY)


def layer_scales(names: Iterable[str], layer_decay: float) -> dict[str, float]:
    """Return the factor on the learning rate of each parameter: layer_decay ** (layers between it and the output).

    Tokenizer and tables count as the layer below the first block; heads and the last norm as the one above the last.
    """
    names = list(names)
    blocks = {n: int(m.group(1)) for n in names if (m := _BLOCK.search(n))}
    top = max(blocks.values(), default=-1) + 2
    layer = {n: blocks[n] + 1 if n in blocks else 0 if any(w in n for w in _FIRST) else top for n in names}
    return {n: layer_decay ** (top - layer[n]) for n in names}


def parameter_groups(
    module: nn.Module, *, lr_peak: float, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of `module` into optimiser groups.

    Parameters
    ----------
    module : nn.Module
        Holds model and objective; parameters without requires_grad are left out.
    lr_peak : float
        Learning rate of the layer nearest the output.
    weight_decay : float
        Decoupled decay of matrices.
    layer_decay : float
        1 gives every layer the same rate.

    Returns
    -------
    list of dict
        ``params``, ``lr``, ``weight_decay``, ``name``; in a fixed order, for resuming.

    Raises
    ------
    ConfigError
        When nothing can be trained, or `layer_decay` is outside (0, 1].
    """
    if not 0 < layer_decay <= 1:
        raise ConfigError(f"layer_decay={layer_decay} must be above 0 and at most 1 (1 = the same rate everywhere)")
    owners = {f"{prefix}.{n}" if prefix else n: m for prefix, m in module.named_modules() for n in m._parameters}
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if not trainable:
        raise ConfigError("no parameter is trainable: every one is frozen")
    scales = layer_scales(trainable, layer_decay)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in trainable.items():
        decay = weight_decay if decays(name, owners[name], parameter.ndim) else 0.0
        key = (scales[name], decay)
        group = groups.setdefault(
            key,
            {"params": [], "lr": lr_peak * key[0], "weight_decay": decay, "name": f"lr×{key[0]:.3g} decay {decay:g}"},
        )
        group["params"].append(parameter)
    return list(groups.values())
