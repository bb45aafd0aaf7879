"""Run a Lightning Trainer over a loader, quietly, resumably, into a run folder."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging

from neurofm.schema.errors import ConfigError, nearest
from neurofm.training.callbacks import FiniteGuard, KeepLastAndBest, ProgressLine
from neurofm.training.loggers import CsvLogger, wandb_logger
from neurofm.training.memory import checkpoint_blocks
from neurofm.training.module import NeuroModule
from neurofm.training.parallel import gather, strategy_of
from neurofm.training.ranks import ranks_of, slurm_environment
from neurofm.training.run import RunFolder
from neurofm.training.seeds import seed_of
from neurofm.training.throughput import Throughput

# what Lightning says that is no news here, each with the reason why
_NO_NEWS = (
    r".*does not have many workers.*",  # our loaders read by offset, and say themselves how many workers they use
    r".*`val_dataloader`.*",  # validation is a choice
    r".*number of training batches.*smaller than the logging interval.*",  # small corpora are normal here
    r".*mid-epoch.*resumable.*",  # our loaders are; this is said of any that is not a DataLoader
    r".*isinstance\(treespec, LeafSpec\).*",  # deprecation inside Lightning
    r".*WeightAveraging callback with a model that overrides.*",  # ours shards nothing unless asked, and not then
    r".*exists and is not empty.*",  # the run folder is ours to check
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back Lightning's adverts and device notes (below WARNING) and the warnings listed above."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    before = [(log, log.level) for log in loggers]
    advert = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    try:
        for log in [*loggers, advert]:
            log.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            for message in _NO_NEWS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for log, level in before:
            log.setLevel(level)
        advert.setLevel(logging.NOTSET)


class _Batches:
    """A list of batches as a loader: Lightning takes a bare list for a list of loaders."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def _as_loader(loader: Iterable[Any] | None) -> Iterable[Any] | None:
    return _Batches(loader) if isinstance(loader, Sequence) else loader


def fit(
    *,
    module: NeuroModule,
    loader: Iterable[Any],
    validation_loader: Iterable[Any] | None = None,
    run: RunFolder,
    max_steps: int,
    gradient_clip: float | None = 1.0,
    precision: str = "32-true",
    accelerator: str = "cpu",
    devices: int | str = 1,
    num_nodes: int = 1,
    strategy: str = "auto",
    accumulate: int = 1,
    logger: str = "csv",
    wandb_mode: str = "auto",
    wandb_project: str = "neurofm",
    checkpoint_every: int | None = None,
    validate_every: int | None = None,
    log_every: int = 10,
    ema_decay: float | None = None,
    activation_checkpointing: bool = False,
    compile_model: bool = False,
    count_flops: bool = True,
    guard_patience: int = 20,
    progress: bool = True,
) -> dict[str, float]:
    """Train `module` for `max_steps` optimiser steps.

    Parameters
    ----------
    module : NeuroModule
        Holds the trained weights afterwards; the averaged ones with `ema_decay`.
    loader, validation_loader : iterable of NeuralBatch
        For an exact resume the first needs `__len__`, `state_dict` and `load_state_dict`. A list of batches will do.
    run : RunFolder
        Gets metrics, checkpoints and curves. If it was opened with resume=True and holds a checkpoint, training
        continues from there.
    max_steps : int
        Optimiser steps in all, those before a resume included; 0: only what has a closed form is solved.
    gradient_clip : float, optional
        Largest norm of the gradient.
    precision, accelerator, devices, num_nodes
        As Lightning's Trainer takes them.
    strategy : str
        See `parallel.strategy_of`.
    accumulate : int
        Batches per optimiser step.
    logger : str
        ``csv``, or ``wandb`` beside it.
    wandb_mode, wandb_project : str
        See `loggers.wandb_logger`.
    checkpoint_every, validate_every : int, optional
        Optimiser steps; default a tenth of the run, and the last step in any case.
    log_every : int
        Optimiser steps between rows of metrics.csv.
    ema_decay : float, optional
        Decay of an exponential moving average of the weights, which validation and export then use.
    activation_checkpointing : bool
        Compute the model's blocks again in the backward pass instead of keeping what is inside them.
    compile_model : bool
        Compile the model's forward pass (`torch.compile`), dynamic in batch and channels.
    count_flops : bool
        Log achieved FLOP/s; not of compiled models.
    guard_patience : int
        Steps in a row with a gradient that is not finite before the run stops.
    progress : bool
        Whether to print the progress line.

    Returns
    -------
    dict of str to float
        The last value of every metric, ``best/<monitor>`` where there was validation, ``train_seconds``, ``steps``.
    """
    if logger not in ("csv", "wandb"):
        raise ConfigError(f"unknown logger '{logger}': {nearest(logger, ('csv', 'wandb'))}")
    if max_steps < 0:
        raise ConfigError(f"max_steps={max_steps} must be at least 0")
    if max_steps == 0:
        # what has a closed form was solved before; nothing else is asked for
        if run.owner:
            run.finish({"train_seconds": 0.0, "steps": 0.0})
        return {"train_seconds": 0.0, "steps": 0.0}
    ranks = ranks_of({"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes})
    if strategy == "fsdp2" and ema_decay is not None:
        raise ConfigError("trainer.ema_decay averages whole weights, strategy=fsdp2 has them in parts; choose one")
    tenth = max(1, max_steps // 10)
    keep = KeepLastAndBest(folder=run.checkpoint_dir, every=checkpoint_every or tenth, total_steps=max_steps)
    throughput = Throughput(every=log_every, count_flops=count_flops and not compile_model)
    callbacks: list[Callback] = [FiniteGuard(patience=guard_patience), throughput, keep]
    if ema_decay is not None:
        if not 0 < ema_decay < 1:
            raise ConfigError(f"ema_decay={ema_decay} must lie between 0 and 1")
        callbacks.append(EMAWeightAveraging(decay=ema_decay))
    if progress:
        callbacks.append(ProgressLine(total_steps=max_steps))
    if activation_checkpointing:
        checkpoint_blocks(module.model)
    if compile_model:
        module.model.compile(dynamic=True)
    resume_from = str(run.last_checkpoint) if run.resumed else None
    loggers: list[Any] = [CsvLogger(run.metrics_path, resume_at=_step_of(run))]
    if logger == "wandb" and ranks.rank == 0:
        extra = wandb_logger(run.path, mode=wandb_mode, project=wandb_project)
        loggers += [extra] if extra is not None else []
    started = time.perf_counter()
    with quiet():
        pl.seed_everything(seed_of(module.seed, "fit") % 2**32, workers=True, verbose=False)
        trainer = pl.Trainer(
            max_steps=max_steps,
            max_epochs=-1,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=strategy_of(strategy, world_size=ranks.world_size, accelerator=accelerator),
            plugins=[slurm] if (slurm := slurm_environment()) is not None else None,
            precision=precision,  # type: ignore[arg-type]
            gradient_clip_val=gradient_clip,
            accumulate_grad_batches=accumulate,
            logger=loggers,
            callbacks=callbacks,
            log_every_n_steps=log_every,
            # Lightning counts batches here
            val_check_interval=(validate_every or tenth) * accumulate if validation_loader is not None else None,
            check_val_every_n_epoch=None if validation_loader is not None else 1,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            default_root_dir=run.path,
        )
        trainer.fit(module, _as_loader(loader), _as_loader(validation_loader), ckpt_path=resume_from, weights_only=True)
        gather(module)
    metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
    if keep.best_step:
        metrics |= {f"best/{keep.monitor}": keep.best, "best/step": float(keep.best_step)}
    metrics |= {"train_seconds": time.perf_counter() - started, "steps": float(trainer.global_step)}
    if trainer.is_global_zero:
        run.finish(metrics)
    return metrics


def _step_of(run: RunFolder) -> int:
    """Return the optimiser step of the checkpoint that the run resumes from, 0 for a fresh run."""
    if not run.resumed:
        return 0
    import torch

    return int(torch.load(run.last_checkpoint, map_location="cpu", weights_only=True)["global_step"])
