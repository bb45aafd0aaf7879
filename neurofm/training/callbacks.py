"""What watches a run: progress, numbers that are not finite, checkpoints."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint

from neurofm.schema.errors import NeurofmError
from neurofm.training.parallel import whole


def log_due(trainer: pl.Trainer) -> bool:
    """Whether the step being taken gets a row of metrics; asking first saves Lightning's bookkeeping on the others."""
    step = trainer.global_step + 1
    return step % trainer.log_every_n_steps == 0 or step == trainer.max_steps  # type: ignore[attr-defined]


class FiniteGuard(Callback):
    """Skip steps whose gradient is not finite, count them, and stop when they do not cease.

    The gradients are removed, so neither weights nor the optimiser's moments move.
    """

    def __init__(self, *, patience: int = 20) -> None:
        self.patience = patience
        self.skipped, self._in_a_row = 0, 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Look at the norm of all gradients before clipping."""
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        finite = bool(torch.isfinite(norm))
        if finite:
            self._in_a_row = 0
            if log_due(trainer):
                pl_module.log("train/gradient_norm", norm)
        else:
            self.skipped, self._in_a_row = self.skipped + 1, self._in_a_row + 1
            for p in pl_module.parameters():
                p.grad = None
        if not finite or log_due(trainer):
            pl_module.log("train/skipped_steps", float(self.skipped))
        if self._in_a_row >= self.patience:
            raise NeurofmError(
                f"{self._in_a_row} steps in a row had a loss or gradient that is not finite (at step "
                f"{trainer.global_step}): lower lr_peak, use precision=32-true, or check the data for NaN"
            )

    def state_dict(self) -> dict[str, Any]:
        """Keep the count over a resume."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the count."""
        self.skipped = int(state_dict["skipped"])


class ProgressLine(Callback):
    """One line that says where the run is: rewritten in a terminal, printed now and then elsewhere."""

    def __init__(self, *, total_steps: int, label: str = "train", stream: IO[str] | None = None) -> None:
        self.total, self.label = total_steps, label
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        # a log file gets at most some twenty lines, a terminal five updates a second
        self.min_gap_s = 0.2 if self.live else 5.0
        self._start, self._first, self._last = 0.0, 0, -math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._start, self._first = time.perf_counter(), trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print when enough time has passed."""
        now = time.perf_counter()
        step = trainer.global_step
        due = now - self._last >= self.min_gap_s and (self.live or step % max(1, self.total // 20) == 0)
        if trainer.is_global_zero and (due or step == self.total):
            self._last = now
            self._print(step, trainer.callback_metrics, now - self._start)

    def _print(self, step: int, metrics: dict[str, Any], passed_s: float) -> None:
        left_s = passed_s / max(1, step - self._first) * (self.total - step)
        parts = [f"{self.label} {step}/{self.total}"]
        parts += [f"{k} {float(metrics[k]):.4g}" for k in ("train/loss", "val/loss") if k in metrics]
        if "speed/windows_per_s" in metrics:
            parts.append(f"{float(metrics['speed/windows_per_s']):.0f} windows/s")
        parts.append(f"{_clock(passed_s)} passed, {_clock(left_s)} left")
        text = " · ".join(parts)
        self.stream.write(f"\r\x1b[2K{text}" if self.live else text + "\n")
        self.stream.flush()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the line standing."""
        if self.live and trainer.is_global_zero:
            self.stream.write("\n")


class KeepLastAndBest(Checkpoint):
    """Write ``last.ckpt`` every so many steps and at the end, ``best.ckpt`` when the monitored metric falls.

    In a job of submitit, the scheduler's warning before it takes the machine away is answered at the end of the step:
    the checkpoint first, then submitit's own answer, which puts the job back into the queue.

    Parameters
    ----------
    folder : Path
        Where both go.
    every : int
        Steps between two writes of the last one.
    total_steps : int
        The run's length; the last step is always written, before averaging replaces the weights.
    monitor : str
        A metric to be minimised, looked at after each validation.
    """

    def __init__(self, *, folder: Path, every: int, total_steps: int, monitor: str = "val/loss") -> None:
        self.folder, self.every, self.total_steps, self.monitor = folder, every, total_steps, monitor
        self.best: float = math.inf
        self.best_step = 0
        self._written = -1
        self._warned = False
        self._answer: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen for the scheduler's warning."""
        if "SUBMITIT_EXECUTOR" in os.environ and hasattr(signal, "SIGUSR2"):
            self._answer = signal.signal(signal.SIGUSR2, self._note)

    def _note(self, *_: Any) -> None:
        self._warned = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the last checkpoint when due; not twice for one step under gradient accumulation."""
        step = trainer.global_step
        if step != self._written and step > 0 and (step % self.every == 0 or step >= self.total_steps):
            self._written = step
            trainer.save_checkpoint(self.folder / "last.ckpt")
        # the warning may reach one rank before another, and a checkpoint is the work of all
        if self._answer is not None and trainer.strategy.reduce_boolean_decision(self._warned, all=False):
            self._warned = False
            if step != self._written:
                trainer.save_checkpoint(self.folder / "last.ckpt")
            if callable(self._answer):
                self._answer(signal.SIGUSR2, None)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the signal to whoever had it."""
        if self._answer is not None:
            signal.signal(signal.SIGUSR2, self._answer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the best checkpoint when the metric has improved."""
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.state.fn == "fit" and value is not None and float(value) < self.best:
            self.best, self.best_step = float(value), trainer.global_step
            trainer.save_checkpoint(self.folder / "best.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """Keep the best value over a resume."""
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best value so far."""
        self.best, self.best_step = float(state_dict["best"]), int(state_dict["best_step"])


def _clock(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{s:02d}" if hours else f"{minutes}:{s:02d}"
