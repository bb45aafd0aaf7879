"""Which process of how many this is, told by whoever starts the others: srun, torchrun, or Lightning itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from neurofm.schema.errors import ConfigError


class Ranks(NamedTuple):
    """Rank of this process, the number of ranks, and whether they were started from outside (srun, torchrun)."""

    rank: int
    world_size: int
    external: bool


def slurm_environment() -> SLURMEnvironment | None:
    """Return Lightning's view of the srun that started this process, without its requeueing; None elsewhere.

    One party may answer the scheduler's signal: submitit does, and starts the same command again.
    """
    if "SLURM_PROCID" not in os.environ or not SLURMEnvironment.detect():
        return None
    return SLURMEnvironment(auto_requeue=False)


def ranks_of(trainer: Mapping[str, Any]) -> Ranks:
    """Return this process's place among those that train together.

    Lightning starts further processes only inside `fit`, but the loader has to know its slice before.

    Parameters
    ----------
    trainer : mapping
        ``accelerator``, ``devices`` and ``num_nodes``, as `fit` takes them.

    Raises
    ------
    ConfigError
        When srun or torchrun started another number of processes than `devices` × `num_nodes`.
    """
    n_nodes = int(trainer.get("num_nodes", 1))
    per_node = _devices(trainer.get("devices", 1), str(trainer.get("accelerator", "cpu")))
    asked = per_node * n_nodes
    slurm = slurm_environment()
    if slurm is not None:
        return _agreeing(Ranks(slurm.global_rank(), slurm.world_size(), True), asked, "srun")
    if TorchElasticEnvironment.detect():
        torchrun = TorchElasticEnvironment()
        return _agreeing(Ranks(torchrun.global_rank(), torchrun.world_size(), True), asked, "torchrun")
    rank = int(os.environ.get("NODE_RANK", 0)) * per_node + int(os.environ.get("LOCAL_RANK", 0))
    return Ranks(rank, asked, False)


def _agreeing(ranks: Ranks, asked: int, starter: str) -> Ranks:
    if ranks.world_size != asked:
        raise ConfigError(
            f"{starter} started {ranks.world_size} processes and trainer.devices × trainer.num_nodes is {asked}; "
            "give trainer.devices the processes per machine and trainer.num_nodes the machines"
        )
    return ranks


def _devices(devices: Any, accelerator: str) -> int:
    """Processes per machine: a number, a list of devices, or all there are (-1, "auto")."""
    if isinstance(devices, (list, tuple)):
        return len(devices)
    if str(devices) in ("-1", "auto"):
        import torch

        return max(1, torch.cuda.device_count()) if accelerator in ("gpu", "cuda", "auto") else 1
    if not str(devices).isdigit() or int(devices) < 1:
        raise ConfigError(f"trainer.devices is '{devices}'; expected a number of processes, a list of devices, or auto")
    return int(devices)


def was_requeued() -> bool:
    """Whether the scheduler has started this very job before, so that it goes on instead of beginning again."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def refuse_nested(*, sweeping: bool, ranks: Ranks, relaunchable: bool) -> None:
    """Refuse processes that Lightning would start by repeating a command that must not be repeated.

    Parameters
    ----------
    sweeping : bool
        Whether the command is a sweep (Hydra's multirun): each child would walk the whole sweep again.
    ranks : Ranks
        From `ranks_of`.
    relaunchable : bool
        Whether the command line of this process is the training's own.

    Raises
    ------
    ConfigError
    """
    if ranks.external or ranks.world_size == 1:
        return
    if sweeping:
        raise ConfigError(
            f"a sweep with {ranks.world_size} processes per point would start the sweep again in each of them: use "
            "trainer.devices=1, cluster=slurm (one job per point), or one command per point"
        )
    if not relaunchable:
        raise ConfigError(
            f"{ranks.world_size} processes are started by repeating the command, but this training was called from "
            "another program: use the command `neurofm train`, torchrun, or trainer.devices=1"
        )
