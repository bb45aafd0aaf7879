"""Pretrain one model: corpus → fit → model folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from neurofm.hub.save import save_model
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.training.corpus import Corpus
from neurofm.training.fit import fit
from neurofm.training.module import NeuroModule
from neurofm.training.run import RunFolder, environment
from neurofm.training.seeds import seed_of
from neurofm.training.stage_one import choices_from, load_stage_one, seen_by

PART = "pretrain"


def open_corpus(data: Mapping[str, Any], task: Mapping[str, Any]) -> Corpus:
    """Open what `conf/data` and `conf/task` describe."""
    corpus_choices = {k: v for k, v in {**data, **task}.items() if k not in ("id", "name")}
    return Corpus(**corpus_choices)


def ranks(trainer: Mapping[str, Any]) -> tuple[int, int]:
    """Return this process's rank and the number of ranks.

    Lightning starts the others only inside `fit`, so the loader is told by the environment that torchrun, srun or
    Lightning's own launcher sets, and else by what is asked for.
    """
    devices = trainer.get("devices", 1)
    asked = (devices if isinstance(devices, int) else 1) * trainer.get("num_nodes", 1)
    world_size = int(os.environ.get("WORLD_SIZE", asked))
    rank = os.environ.get("RANK")
    if rank is None:
        rank = int(os.environ.get("NODE_RANK", 0)) * asked + int(os.environ.get("LOCAL_RANK", 0))
    return int(rank), world_size


def pretrain(
    *,
    data: Mapping[str, Any],
    task: Mapping[str, Any],
    model_name: str,
    model_choices: Mapping[str, Any],
    objective_name: str,
    objective_choices: Mapping[str, Any],
    optim: Mapping[str, Any],
    trainer: Mapping[str, Any],
    logger: Mapping[str, Any],
    run_dir: str,
    seed: int,
    batch_size: int,
    resume: bool = False,
    overwrite: bool = False,
    description: str = "",
    config: Mapping[str, Any] | None = None,
) -> dict[str, float]:
    """Train on the part "pretrain" of a corpus and export the model.

    Parameters
    ----------
    data, task : mapping
        Arguments of `Corpus`: where, which split, which transforms; which windows.
    model_name, model_choices, objective_name, objective_choices
        For the registries.
    optim, trainer, logger : mapping
        Arguments of `NeuroModule` and `fit`.
    run_dir : str
        The run folder; holds ``model/`` afterwards.
    seed : int
        Of weights, order, masks and dropout.
    batch_size : int
        Windows per step over all ranks.
    resume, overwrite : bool
        Continue or replace a run that is there.
    description : str
        A sentence for the model card.
    config : mapping, optional
        The resolved configuration, kept in the run folder.

    Returns
    -------
    dict of str to float
        Final metrics.
    """
    corpus = open_corpus(data, task)
    corpus.fit_transforms(PART)
    facts = corpus.facts(PART)
    rank, world_size = ranks(trainer)
    loader = corpus.loader(
        PART, facts, batch_size=batch_size, seed=seed, training=True, rank=rank, world_size=world_size
    )
    validation = None
    if corpus.split.parts.get("validation"):
        validation = corpus.loader("validation", facts, batch_size=batch_size, seed=seed, training=False)
    provenance = corpus.provenance(PART)
    torch.manual_seed(seed_of(seed, "weights"))
    model = MODELS.build(model_name, facts, allow_import=True, **model_choices)
    if getattr(model, "has_closed_form", False):
        model.solve(corpus.stretches(PART, facts), new_subject=False)
    stage_one = None
    if objective_name == "masked_code" and objective_choices.get("tokenizer"):
        stage_one = load_stage_one(objective_choices["tokenizer"], model=model, facts=facts, corpus=corpus)
        objective_choices = {**objective_choices, **choices_from(stage_one)}
    objective = OBJECTIVES.build(objective_name, model, facts, allow_import=True, **objective_choices)
    if stage_one is not None:
        objective.attach(stage_one.model)
        # what the tokenizer was trained on counts as seen: the audit follows this chain
        provenance["pretrained"] = seen_by(stage_one)
    if getattr(objective, "has_closed_form", False):
        objective.solve(corpus.stretches(PART, facts), new_subject=False)
    optim = {**optim, "warmup_steps": min(optim.get("warmup_steps", 0), trainer["max_steps"])}
    module = NeuroModule(model=model, objective=objective, total_steps=trainer["max_steps"], seed=seed, **optim)
    # claimed only now, so that a wrong choice leaves no folder behind
    run = RunFolder(run_dir, resume=resume, overwrite=overwrite)
    run.write_config(config or {})
    run.write_provenance(config=config or {}, data=provenance, seed=seed)
    metrics = fit(module=module, loader=loader, validation_loader=validation, run=run, **trainer, **logger)
    save_model(
        run.model_dir,
        model=model,
        objective=objective,
        model_name=model_name,
        model_choices=model_choices,
        objective_name=objective_name,
        objective_choices=objective_choices,
        facts=facts,
        transforms=[t.to_json() for t in corpus.transform.transforms],
        prep=corpus.dataset.manifest.prep,
        provenance={
            **provenance,
            "role": "pretraining",
            "seed": seed,
            "data": dict(data),
            "task": dict(task),
            **environment(),
        },
        metrics=metrics,
        description=description,
    )
    return metrics
