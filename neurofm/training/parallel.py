"""Strategies for several processes: which of Lightning's, how a model is sharded, and how it is made whole again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import nn

from neurofm.schema.errors import ConfigError, nearest

STRATEGIES = ("auto", "ddp", "fsdp2")


def strategy_of(name: str, *, world_size: int, accelerator: str) -> Strategy | str:
    """Return Lightning's strategy.

    Parameters
    ----------
    name : str
        ``auto``: one process, or DDP that minds parameters without a gradient (objectives often leave some of a
        model's out); ``ddp``: without that search, a little faster where every parameter takes part; ``fsdp2``:
        weights, gradients and moments sharded over the ranks.
    world_size : int
        Number of ranks.
    accelerator : str
        Decides how ranks talk: gloo on the CPU, NCCL on GPUs.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"trainer.strategy is '{name}': {nearest(name, STRATEGIES)}")
    backend = "gloo" if accelerator == "cpu" else None
    if name == "fsdp2":
        # one file that any world size can load, and that opens with weights_only=True
        return ModelParallelStrategy(
            data_parallel_size=world_size, tensor_parallel_size=1, save_distributed_checkpoint=False,
            process_group_backend=backend,
        )  # fmt: skip
    if world_size == 1:
        return "auto"
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=name == "auto")


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """Return the repeated layers of a model: members of every `nn.ModuleList` called blocks or layers."""
    return [
        block
        for name, child in module.named_modules()
        if isinstance(child, nn.ModuleList) and name.rpartition(".")[2] in ("blocks", "layers")
        for block in child
    ]


def shard(module: nn.Module, mesh: Any, *, entries: Sequence[str]) -> None:
    """Shard `module` over the ranks of `mesh` (FSDP2): blocks one by one, the rest together.

    The rest is gathered for the whole of the methods called `entries`, so an objective may call any method of its model.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for block in blocks_of(module):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for entry in entries:
        register_fsdp_forward_method(module, entry)


def gather(module: nn.Module) -> None:
    """Replace sharded parameters by whole ones, in place; every rank must call it. No effect on others."""
    from torch.distributed.tensor import DTensor

    for child in module.modules():
        for name, parameter in list(child._parameters.items()):
            if isinstance(parameter, DTensor):
                whole = parameter.full_tensor().detach().cpu()
                child._parameters[name] = nn.Parameter(whole, requires_grad=parameter.requires_grad)


def summed_over_ranks(sums: Mapping[str, tuple[torch.Tensor, float]]) -> dict[str, tuple[float, float]]:
    """Add up sums and counts over all ranks; a figure that some rank lacks counts where it is. All ranks must call."""
    mine = {name: (float(whole(total)), n) for name, (total, n) in sums.items()}
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return mine
    everybody: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everybody, mine)
    names = dict.fromkeys(name for theirs in everybody for name in theirs)
    parts = {name: [theirs[name] for theirs in everybody if name in theirs] for name in names}
    return {name: (sum(t for t, _ in part), sum(n for _, n in part)) for name, part in parts.items()}


def whole(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor that may be spread over the ranks as an ordinary one."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
