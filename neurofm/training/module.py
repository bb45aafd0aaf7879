"""Model + objective + optimiser as one Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.objectives.base import Loss, Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.training.callbacks import log_due
from neurofm.training.parallel import shard, summed_over_ranks
from neurofm.training.schedule import SCHEDULES, learning_rate_factor, parameter_groups
from neurofm.training.seeds import seed_of, torch_generator


class NeuroModule(pl.LightningModule):
    """Train `model` on `objective` with AdamW, warm-up and a decay.

    Parameters
    ----------
    model, objective : Backbone, Objective
        As built by their registries.
    lr_peak : float
        Learning rate after warm-up.
    weight_decay : float
        Decoupled decay of matrices; vectors, norms and tables have none.
    betas : pair of float
        AdamW's moment decays.
    warmup_steps, total_steps : int
        Optimiser steps.
    lr_floor : float
        Last learning rate as a fraction of the peak.
    schedule : str
        What follows the warm-up: ``cosine``, or ``wsd`` (stable, then decay).
    decay_fraction : float
        Share of the steps in which ``wsd`` decays.
    layer_decay : float
        Factor on the learning rate per layer below the output; 1 = none.
    seed : int
        Keys masks by (seed, batch number) and dropout by (seed, batch number, rank), so a resumed run draws what an
        uninterrupted one would have. Masks have no rank in their key: objectives add the window's own number.
    """

    def __init__(
        self,
        *,
        model: Backbone,
        objective: Objective,
        lr_peak: float = 1e-3,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        warmup_steps: int = 0,
        total_steps: int,
        lr_floor: float = 0.0,
        schedule: str = "cosine",
        decay_fraction: float = 0.2,
        layer_decay: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if total_steps < 1 or not 0 <= warmup_steps <= total_steps:
            raise ConfigError(f"warmup_steps={warmup_steps} must lie between 0 and total_steps={total_steps}")
        if lr_peak <= 0:
            raise ConfigError(f"lr_peak={lr_peak} must be above 0")
        if schedule not in SCHEDULES:
            raise ConfigError(f"optim.schedule is '{schedule}': {nearest(schedule, SCHEDULES)}")
        if not 0 <= decay_fraction <= 1 or (
            warmup_steps + decay_fraction * total_steps > total_steps and schedule == "wsd"
        ):
            raise ConfigError(
                f"decay_fraction={decay_fraction} must lie between 0 and what warmup_steps={warmup_steps} leaves of "
                f"total_steps={total_steps}"
            )
        self.model, self.objective = model, objective
        freeze_idle(model, (*model.idle, *objective.idle, *(() if objective.takes_terms else model.only_for_terms)))
        self.schedule, self.decay_fraction = schedule, decay_fraction
        self.lr_peak, self.weight_decay, self.betas = lr_peak, weight_decay, (float(betas[0]), float(betas[1]))
        self.warmup_steps, self.total_steps, self.lr_floor = warmup_steps, total_steps, lr_floor
        self.layer_decay, self.seed = layer_decay, seed
        self.batches_seen = 0
        # sum and count of every training figure since the last row of metrics, and the step that row belongs to
        self._sums: dict[str, tuple[Tensor, float]] = {}
        self._reported = -1
        # the same of the validation that is going on
        self._val_sums: dict[str, tuple[Tensor, float]] = {}
        self.is_sharded = False

    def loss(self, batch: NeuralBatch, generator: torch.Generator) -> Loss:
        """Compute the objective after checking that the batch has what it needs."""
        for name in self.objective.needs:
            if getattr(batch, name) is None:
                raise ConfigError(
                    f"objective '{type(self.objective).__name__}' needs batch.{name}, which these data do not have"
                )
        return self.objective(self.model, batch, generator)

    def forward_only(self, batch: NeuralBatch) -> Tensor:
        """Return the loss of one batch; changes nothing, not even counters."""
        return self.loss(batch, torch_generator(self.seed, "forward only")).total

    def training_step(self, batch: NeuralBatch, batch_idx: int) -> Tensor:
        """One batch; Lightning's hook."""
        number = self.batches_seen
        self.batches_seen += 1
        torch.manual_seed(seed_of(self.seed, "dropout", number, self.global_rank))
        loss = self.loss(batch, torch_generator(self.seed, "mask", number))
        self._log_mean(loss, batch)
        return loss.total

    def validation_step(self, batch: NeuralBatch, batch_idx: int) -> None:
        """One batch of validation, with the same masks at every validation; Lightning's hook."""
        values = _figures(self.loss(batch, torch_generator(self.seed, "val", batch_idx)))
        n = 0 if batch.repeated else len(batch)
        for name, value in values.items():
            total, seen = self._val_sums.get(name, (torch.zeros_like(value), 0))
            self._val_sums[name] = (total + value * n, seen + n)

    def on_validation_epoch_end(self) -> None:
        """Log the means over the windows of all ranks; Lightning's hook."""
        sums, self._val_sums = summed_over_ranks(self._val_sums), {}
        self.log_dict({f"val/{k}": total / n for k, (total, n) in sums.items() if n})

    def _log_mean(self, loss: Loss, batch: NeuralBatch) -> None:
        """Log the mean of every figure since the last row."""
        step = self.trainer.global_step
        if self._reported not in (-1, step):
            self._sums, self._reported = {}, -1
        for name, value in _figures(loss).items():
            total, n = self._sums.get(name, (torch.zeros_like(value), 0))
            total = total.to(value)
            self._sums[name] = (total + value, n + 1)
        if log_due(self.trainer):
            self._reported = step
            means = {f"train/{k}": total / n for k, (total, n) in summed_over_ranks(self._sums).items()}
            self.log_dict(means, batch_size=len(batch))

    def configure_model(self) -> None:
        """Shard the weights where the strategy does; Lightning's hook, which it calls more than once."""
        if self._device_mesh is not None and not self.is_sharded:
            entries = ("training_step", "validation_step", "forward_only")
            shard(self, self._device_mesh["data_parallel"], entries=entries)
            self.is_sharded = True

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule; Lightning's hook."""
        groups = parameter_groups(
            self, lr_peak=self.lr_peak, weight_decay=self.weight_decay, layer_decay=self.layer_decay
        )
        optimizer = torch.optim.AdamW(groups, lr=self.lr_peak, betas=self.betas)

        def factor(step: int) -> float:
            return learning_rate_factor(
                step, schedule=self.schedule, warmup_steps=self.warmup_steps, total_steps=self.total_steps,
                floor=self.lr_floor, decay_fraction=self.decay_fraction,
            )  # fmt: skip

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the batch number, which keys masks and dropout, and the sums of the next row of metrics.

        Only one rank's checkpoint is written, so each rank keeps its share of what all have.
        """
        checkpoint["batches_seen"] = self.batches_seen
        n_ranks = self.trainer.world_size
        together = summed_over_ranks(self._sums)
        checkpoint["figures"] = {k: [total / n_ranks, n / n_ranks] for k, (total, n) in together.items()}
        checkpoint["figures_reported"] = self._reported

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue counting where the checkpoint stopped."""
        self.batches_seen = int(checkpoint["batches_seen"])
        self._sums = {k: (torch.tensor(total), n) for k, (total, n) in checkpoint["figures"].items()}
        self._reported = int(checkpoint["figures_reported"])


def freeze_idle(model: nn.Module, idle: Sequence[str]) -> None:
    """Freeze what cannot learn: named by the model with its path, or by an objective's last word for what it leaves unused."""
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] in idle or any(f"{name}.".startswith(f"{part}.") for part in idle):
            parameter.requires_grad_(False)


def _figures(loss: Loss) -> dict[str, Tensor]:
    terms = loss.terms if len(loss.terms) > 1 else {}
    return {"loss": loss.total.detach(), **loss.metrics, **terms}
