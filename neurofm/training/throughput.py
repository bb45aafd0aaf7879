"""How fast a run goes, what it waits for, and how much of the machine it uses."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from neurofm.schema.batch import NeuralBatch
from neurofm.training.flops import dtype_of, matmul_peak, step_flops


class Throughput(Callback):
    """Log windows/s, tokens/s, the shares of waiting and padding, achieved FLOP/s, and what the loader left out.

    A token is one valid channel in one patch (one sample where the model cuts no patches). FLOPs are those of matrix
    products, convolutions and attention, counted once for every shape of batch (`flops.step_flops`); the share of the peak is against this machine's own plain matrix product, measured as the training starts.

    Parameters
    ----------
    every : int
        Optimiser steps between two rows.
    count_flops : bool
        Off for compiled models, whose operations cannot be counted.
    """

    def __init__(self, *, every: int, count_flops: bool = True) -> None:
        self.every, self.count_flops = every, count_flops
        self._per_sample: dict[tuple[int, ...], float] = {}
        self._peak = math.nan
        self._reset(time.perf_counter())
        self._ended = math.nan

    def _reset(self, now: float) -> None:
        self._since, self._wait_s, self._windows, self._flops = now, 0.0, 0, 0.0
        self._valid: Tensor | int = 0
        self._cells, self._tokens_per_channel = 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the peak and start the clock."""
        if self.count_flops:
            self._peak = matmul_peak(pl_module.device, dtype_of(str(trainer.precision)))
        self._reset(time.perf_counter())
        self._ended = self._since

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the time since the last batch ended as waiting."""
        self._wait_s += time.perf_counter() - self._ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: NeuralBatch, batch_idx: int
    ) -> None:
        """Count the batch; log when it is time."""
        patch = int(pl_module.model.patch_samples) or 1  # type: ignore[union-attr,arg-type]
        self._windows += len(batch)
        self._flops += self._flops_of(pl_module, batch) if self.count_flops else 0.0
        self._valid = self._valid + batch.channel_mask.sum()  # stays on the device until it is logged
        self._cells += batch.channel_mask.numel()
        self._tokens_per_channel = batch.signal.shape[-1] // patch
        if trainer.global_step % self.every == 0:
            self._log(trainer, pl_module)
        self._ended = time.perf_counter()

    def _flops_of(self, module: Any, batch: NeuralBatch) -> float:
        """Operations of a step on a batch of this shape; sharded weights are counted once, and scaled by samples."""
        shape = () if module.is_sharded else tuple(batch.signal.shape)
        if shape not in self._per_sample:
            started = time.perf_counter()
            self._per_sample[shape] = step_flops(module, batch) / batch.signal.numel()
            self._since += time.perf_counter() - started  # counting is not part of the step
        return self._per_sample[shape] * batch.signal.numel()

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        passed = max(now - self._since, 1e-9)
        valid = float(self._valid)
        if torch.cuda.is_available() and pl_module.device.type == "cuda":
            now = time.perf_counter()  # reading `valid` waited for the device
            passed = max(now - self._since, 1e-9)
        figures = {
            "speed/windows_per_s": self._windows * trainer.world_size / passed,
            "speed/tokens_per_s": valid * self._tokens_per_channel * trainer.world_size / passed,
            "speed/data_wait_percent": 100 * self._wait_s / passed,
            "speed/padding_percent": 100 * (1 - valid / max(1, self._cells)),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        if self.count_flops:
            figures["speed/flops_per_s"] = self._flops * trainer.world_size / passed
            figures["speed/peak_percent"] = 100 * self._flops / passed / self._peak
        skipped = skipped_by(trainer.train_dataloader)
        if skipped is not None:
            figures["data/skipped_windows"] = float(skipped)
        pl_module.log_dict(figures)
        self._reset(now)


def skipped_by(loader: Any) -> int | None:
    """Return how many windows a loader has left out as damaged; None where it does not say."""
    if hasattr(loader, "n_skipped"):
        return int(loader.n_skipped)
    return len(loader.skipped) if hasattr(loader, "skipped") else None
