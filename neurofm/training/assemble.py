"""Everything a training needs, from choices: corpus, loaders, model, objective, module."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neurofm.data.corpus import Corpus, open_corpus
from neurofm.data.loading.loader import WindowLoader
from neurofm.hub.load import LoadedModel
from neurofm.models import MODELS
from neurofm.models.base import Backbone
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.base import Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.schema.hashing import read_json
from neurofm.training.memory import find_batch_size
from neurofm.training.module import NeuroModule
from neurofm.training.ranks import Ranks, ranks_of
from neurofm.training.seeds import seed_of
from neurofm.training.stage_one import choices_from, load_stage_one

PART = "pretrain"
# windows at a time for what is solved in closed form
SOLVE_BATCH = 256
# tells the children of a process what it measured
_MEASURED = "NEUROFM_BATCH_SIZE"


@dataclass
class Assembled:
    """Everything a training needs, before anything is written.

    Attributes
    ----------
    batch_size : int
        Windows per step over all ranks; measured where it was "auto".
    stage_one : LoadedModel, optional
        The tokenizer that the objective takes.
    """

    corpus: Corpus
    facts: Facts
    loader: WindowLoader
    validation: WindowLoader | None
    module: NeuroModule
    batch_size: int
    ranks: Ranks
    accelerator: str
    stage_one: LoadedModel | None = None


def assemble(
    *,
    data: Mapping[str, Any],
    task: Mapping[str, Any],
    model_name: str,
    model_choices: Mapping[str, Any],
    objective_name: str,
    objective_choices: Mapping[str, Any],
    optim: Mapping[str, Any],
    trainer: Mapping[str, Any],
    seed: int,
    batch_size: int | str,
) -> Assembled:
    """Build corpus, model, objective and loaders of one training; arguments as `pretrain` takes them."""
    ranks = ranks_of(trainer)
    corpus = open_corpus(data, task)
    corpus.fit_transforms(PART)
    facts = corpus.facts(PART)
    torch.manual_seed(seed_of(seed, "weights"))
    model: Backbone = MODELS.build(model_name, facts, allow_import=True, **model_choices)
    model.solve(corpus.stretches(PART, facts), new_subject=False)
    stage_one = None
    objective_class = OBJECTIVES.get(objective_name, allow_import=True)
    if objective_class.takes_tokenizer and objective_choices.get("tokenizer"):
        stage_one = load_stage_one(objective_choices["tokenizer"], model=model, facts=facts, corpus=corpus)
        objective_choices = {**objective_choices, **choices_from(stage_one)}
    objective: Objective = OBJECTIVES.build(objective_name, model, facts, allow_import=True, **objective_choices)
    if stage_one is not None:
        objective.attach(stage_one.model)
    if objective.solves_on == "stretches":
        objective.solve(corpus.stretches(PART, facts), new_subject=False)
    elif objective.has_closed_form:
        # in order and without shifts, whatever the batch of training
        objective.solve(
            corpus.loader(PART, facts, batch_size=SOLVE_BATCH, seed=seed, training=False), new_subject=False
        )
    # of no step at all, only what has a closed form is kept
    n_steps = max(1, trainer["max_steps"])
    optim = {**optim, "warmup_steps": min(optim.get("warmup_steps", 0), n_steps)}
    module = NeuroModule(model=model, objective=objective, total_steps=n_steps, seed=seed, **optim)

    def loader(part: str, size: int, training: bool, rank: int = 0, world_size: int = 1) -> WindowLoader:
        return corpus.loader(
            part, facts, batch_size=size, seed=seed, training=training, rank=rank, world_size=world_size
        )

    if batch_size == "auto":
        batch_size = measured_batch_size(
            module, lambda n: next(iter(loader(PART, n, False))), limit=len(corpus.cut(PART, facts)), ranks=ranks,
            precision=trainer.get("precision", "32-true"),
        )  # fmt: skip
    if not isinstance(batch_size, int):
        raise ConfigError(f"batch_size is '{batch_size}'; expected a number of windows, or auto")
    validation = None
    if corpus.split.parts.get("validation"):
        # a part of a batch has another loss where its windows are told from each other
        among = (0, 1) if objective.contrasts else (ranks.rank, ranks.world_size)
        validation = loader("validation", batch_size, False, *among)
    training = loader(PART, batch_size, True, ranks.rank, ranks.world_size)
    accelerator = str(trainer.get("accelerator", "cpu"))
    return Assembled(corpus, facts, training, validation, module, batch_size, ranks, accelerator, stage_one)


def measured_batch_size(
    module: NeuroModule, batch_of: Callable[[int], NeuralBatch], *, limit: int, ranks: Ranks, precision: str
) -> int:
    """Measure the largest batch on the first rank, and tell the processes that Lightning will start."""
    known = os.environ.get(_MEASURED)
    if known is None:
        if ranks.external and ranks.world_size > 1:
            raise ConfigError(
                "batch_size=auto measures one process; measure with trainer.devices=1 and give the number"
            )
        found = find_batch_size(module, batch_of, limit=limit, world_size=ranks.world_size, precision=precision)
        known = os.environ[_MEASURED] = str(found)
    return int(known)


def given_batch_size(batch_size: int | str, run_dir: str | Path, *, resume: bool) -> int | str:
    """Return the batch size of the run that is continued where it was measured, else `batch_size`."""
    path = Path(run_dir) / "provenance.json"
    if batch_size == "auto" and resume and path.exists():
        return int(read_json(path)["batch_size"])
    return batch_size
