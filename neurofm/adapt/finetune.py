"""Fit a pretrained model to a little data of a new subject, in seconds.

A plain loop over the module of pretraining: a Trainer's care for logs, checkpoints and devices costs some 5 ms per
step, as much as a step itself on a small model.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neurofm.adapt import ADAPT
from neurofm.adapt.base import FROM_NOTHING, Adapted
from neurofm.adapt.rows import join, select, stratified_tail, tail_in_time
from neurofm.hub.load import LoadedModel
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, NeurofmError, nearest
from neurofm.schema.facts import Facts
from neurofm.training.module import NeuroModule
from neurofm.training.schedule import warmup_cosine
from neurofm.training.seeds import seed_of, torch_generator

_TAILS = ("auto", "time", "stratified", "none")


@dataclass
class Finetuned:
    """What came of a fine-tuning.

    Attributes
    ----------
    loaded : LoadedModel
        The adapted model, merged, in evaluation mode.
    strategy : str
        How it was adapted.
    best_step : int
        Steps whose weights were kept; 0 means the model was best as it came. A classifier whose head is new is never
        kept as it came: it says the same of everything.
    history : list of dict
        ``step``, ``loss``, and ``tail_loss`` where there is a tail.
    n_train, n_tail : int
        Windows learned from and watched while choosing the number of steps.
    seconds : float
        Wall time.
    metrics : dict of str to float
        Further figures for the model card, such as those of cross-validation.
    folder : str
        Where it was saved; empty where it was not.
    """

    loaded: LoadedModel
    strategy: str
    best_step: int
    history: list[dict[str, float]] = field(default_factory=list)
    n_train: int = 0
    n_tail: int = 0
    seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)
    folder: str = ""


def finetune(
    loaded: LoadedModel,
    calibration: NeuralBatch | Iterable[NeuralBatch],
    *,
    stretches: Iterable[NeuralBatch] = (),
    strategy: str = "full",
    strategy_choices: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    facts: Facts | None = None,
    steps: int = 200,
    batch_size: int = 32,
    lr_peak: float = 3e-4,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.95),
    warmup_steps: int = 10,
    gradient_clip: float = 1.0,
    prior_strength: float = 0.0,
    tail: str = "auto",
    tail_fraction: float = 0.2,
    gap_s: float = 0.0,
    evaluate_every: int = 20,
    patience: int = 5,
    refit: bool = True,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Finetuned:
    """Adapt `loaded` to the calibration windows of one subject.

    Parameters
    ----------
    loaded : LoadedModel
        Left as it is.
    calibration : NeuralBatch or iterable of NeuralBatch
        All that may be used of the new subject, in memory.
    stretches : iterable of NeuralBatch
        The same calibration as unbroken stretches, for objectives with a closed-form part (`solve`).
    strategy, strategy_choices
        Name in `ADAPT` and its arguments.
    objective : mapping, optional
        ``{"name": …, **choices}`` of the new task; default: the pretraining's, with its heads.
    facts : Facts, optional
        Of the new data; default: the pretraining's.
    steps, batch_size : int
        Most optimiser steps; windows per step. 0 steps give the model as it came.
    lr_peak, weight_decay, betas, warmup_steps, gradient_clip
        As in training.
    prior_strength : float
        Weight of ½‖w − w₀‖², the distance of all trained parameters from where they started (L2-SP, Li et al.
        2018, arXiv:1802.01483); a new head is drawn to its first values too.
    tail : str
        What early stopping watches: ``time`` (the last part of each recording), ``stratified`` (some trials of
        every class), ``none``, or ``auto``: stratified when the windows have class targets, else time.
    tail_fraction, gap_s : float
        Share of the calibration in the tail; least time between the two parts, in seconds.
    evaluate_every, patience : int
        Steps between looks at the tail; looks without improvement before stopping.
    refit : bool
        After the number of steps is chosen, start again and train that many on the whole calibration.
    seed : int
        Of new weights, order, masks and dropout.
    device : str
        Where to train.

    Raises
    ------
    ConfigError
        When a choice makes no sense or the strategy refuses the model.
    NeurofmError
        When the loss is not finite.
    """
    if tail not in _TAILS:
        raise ConfigError(f"tail='{tail}' is unknown; {nearest(tail, _TAILS)}")
    if steps < 0 or batch_size < 1 or not 0 <= tail_fraction < 1 or evaluate_every < 1:
        raise ConfigError(
            f"steps={steps} must be 0 or more, batch_size={batch_size} and evaluate_every={evaluate_every} at least 1, "
            f"tail_fraction={tail_fraction} in [0, 1)"
        )
    started = time.perf_counter()
    windows = (calibration if isinstance(calibration, NeuralBatch) else join(calibration)).to(device)
    choices = {"seed": seed, **(strategy_choices or {})}
    adapted: Adapted = ADAPT.build(strategy, loaded, facts, objective, **choices)
    adapted.loaded.model.to(device)
    solves = adapted.loaded.objective.has_closed_form
    if adapted.solve is not None:
        adapted.loaded.objective.to(device)
        adapted.solve(windows)
        seconds = time.perf_counter() - started
        return Finetuned(adapted.merged(), strategy, 0, n_train=len(windows), seconds=seconds)
    # reading everything once more is for those who need it
    on_windows = adapted.loaded.objective.solves_on == "windows"
    whole = [windows] if solves and on_windows else list(stretches) if solves else []
    if solves and not whole:
        raise ConfigError(
            f"objective '{adapted.loaded.card['objective']['name']}' has a part that is solved in closed form: pass "
            "stretches, the calibration as unbroken stretches of signal"
        )
    early, late = _split(windows, tail if steps else "none", tail_fraction, gap_s, seed)
    unsolved = copy.deepcopy(adapted.loaded.objective.state_dict())
    # what is watched must not have been solved with
    _solve(adapted, [select(windows, early)] if len(late) else whole)
    adapted.loaded.objective.to(device)
    if steps == 0:
        return Finetuned(adapted.merged(), strategy, 0, n_train=len(windows), seconds=time.perf_counter() - started)
    loop = _Loop(
        adapted, lr_peak=lr_peak, weight_decay=weight_decay, betas=betas, warmup_steps=min(warmup_steps, steps),
        total_steps=steps, gradient_clip=gradient_clip, prior_strength=prior_strength, batch_size=batch_size, seed=seed,
    )  # fmt: skip
    best_step = steps
    history: list[dict[str, float]] = []
    if len(late):
        best_step, history = loop.run(
            select(windows, early), steps, watch=select(windows, late), every=evaluate_every, patience=patience,
            start_counts=not _new_classifier(loaded, adapted),
        )  # fmt: skip
    if len(late) and refit and whole:
        trained = [p.detach().clone() for p in loop.parameters]
        adapted.loaded.objective.load_state_dict(unsolved)
        _solve(adapted, whole)
        loop.set(trained)
    if not len(late) or (refit and best_step):
        _, again = loop.run(windows, best_step)
        history = history or again
    return Finetuned(
        adapted.merged(), strategy, best_step, history, len(windows) if refit or not len(late) else len(early),
        len(late), time.perf_counter() - started,
    )  # fmt: skip


def _solve(adapted: Adapted, stretches: list[NeuralBatch]) -> None:
    """Solve the objective's closed-form part, where it has one."""
    adapted.loaded.objective.solve(stretches, new_subject=True)


def _new_classifier(loaded: LoadedModel, adapted: Adapted) -> bool:
    """Whether classes are told apart by a head that has learned nothing yet."""
    now = adapted.loaded
    new = now.card["objective"] != loaded.card["objective"] or now.facts.classes != loaded.facts.classes
    return bool(now.facts.classes) and (new or adapted.strategy in FROM_NOTHING)


def _split(windows: NeuralBatch, tail: str, fraction: float, gap_s: float, seed: int) -> tuple[Tensor, Tensor]:
    everything = torch.arange(len(windows))
    labelled = windows.target is not None and windows.target.ndim == 1 and not windows.target.is_floating_point()
    if tail == "auto":
        tail = "stratified" if labelled else "time"
    if tail == "none" or fraction == 0:
        return everything, everything[:0]
    if tail == "time":
        return tail_in_time(windows, fraction=fraction, gap_s=gap_s)
    if windows.target is None or not labelled:
        raise ConfigError("tail=stratified needs windows with class targets; use tail=time")
    return stratified_tail(windows.target, fraction=fraction, generator=torch_generator(seed, "tail"))


class _Loop:
    """Train from the same start as often as asked; the weights of the best look are left in the model."""

    def __init__(
        self, adapted: Adapted, *, lr_peak: float, weight_decay: float, betas: Sequence[float], warmup_steps: int,
        total_steps: int, gradient_clip: float, prior_strength: float, batch_size: int, seed: int,
    ) -> None:  # fmt: skip
        self.adapted, self.seed, self.batch_size = adapted, seed, batch_size
        self.lr_peak, self.weight_decay, self.betas = lr_peak, weight_decay, (float(betas[0]), float(betas[1]))
        self.warmup_steps, self.total_steps = warmup_steps, total_steps
        self.gradient_clip, self.prior_strength = gradient_clip, prior_strength
        self.parameters = list(adapted.trainable().values())
        self.start = self._weights()
        self.module = NeuroModule(
            model=adapted.loaded.model, objective=adapted.loaded.objective, total_steps=total_steps, seed=seed
        )

    def run(
        self, windows: NeuralBatch, steps: int, *, watch: NeuralBatch | None = None, every: int = 1, patience: int = 0,
        start_counts: bool = True,
    ) -> tuple[int, list[dict[str, float]]]:  # fmt: skip
        """Take up to `steps` steps; return how many were kept, and what was seen. `start_counts`: none may be best."""
        self.set(self.start)
        optimizer = torch.optim.AdamW(
            self.adapted.groups(lr_peak=self.lr_peak, weight_decay=self.weight_decay), betas=self.betas
        )
        peaks = [group["lr"] for group in optimizer.param_groups]
        best, best_step, kept = math.inf, 0, self.start
        history = [{"step": 0.0, "tail_loss": self._evaluate(watch)}] if watch is not None else []
        if history and start_counts:
            best = history[0]["tail_loss"]
        order = torch.empty(0, dtype=torch.long)
        self._mode(training=True)
        for step in range(steps):
            if not len(order):
                order = torch.randperm(len(windows), generator=torch_generator(self.seed, "order", step))
            rows, order = order[: self.batch_size], order[self.batch_size :]
            factor = warmup_cosine(step, warmup_steps=self.warmup_steps, total_steps=self.total_steps)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            loss = self._step(select(windows, rows), optimizer, step)
            if watch is not None and ((step + 1) % every == 0 or step + 1 == steps):
                tail_loss = self._evaluate(watch)
                history.append({"step": float(step + 1), "loss": loss, "tail_loss": tail_loss})
                if tail_loss < best:
                    best, best_step, kept = tail_loss, step + 1, self._weights()
                elif step + 1 - best_step >= patience * every:
                    break
                self._mode(training=True)
            elif watch is None and ((step + 1) % max(1, steps // 20) == 0):
                history.append({"step": float(step + 1), "loss": loss})
        if watch is None:
            return steps, history
        self.set(kept)
        return best_step, history

    def _step(self, batch: NeuralBatch, optimizer: torch.optim.Optimizer, step: int) -> float:
        torch.manual_seed(seed_of(self.seed, "dropout", step))
        total = self.module.loss(batch, torch_generator(self.seed, "mask", step)).total
        value = float(total.detach())
        if not math.isfinite(value):
            raise NeurofmError(
                f"fine-tuning: the loss is {value} at step {step}; lower lr_peak or check the data for NaN"
            )
        if self.prior_strength:
            pull = sum((p - s).square().sum() for p, s in zip(self.parameters, self.start, strict=True))
            total = total + 0.5 * self.prior_strength * pull
        optimizer.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        optimizer.step()
        return value

    @torch.no_grad()
    def _evaluate(self, watch: NeuralBatch) -> float:
        self._mode(training=False)
        total, n = 0.0, 0
        for i in range(0, len(watch), self.batch_size):
            batch = select(watch, torch.arange(i, min(i + self.batch_size, len(watch))))
            loss = self.module.loss(batch, torch_generator(self.seed, "val", i))
            total, n = total + float(loss.total) * len(batch), n + len(batch)
        return total / n

    def _mode(self, *, training: bool) -> None:
        self.adapted.loaded.model.train(training and not self.adapted.frozen_backbone)
        self.adapted.loaded.objective.train(training)

    def _weights(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def set(self, weights: list[Tensor]) -> None:
        """Put these weights into the trained parameters."""
        for parameter, value in zip(self.parameters, weights, strict=True):
            parameter.copy_(value)
