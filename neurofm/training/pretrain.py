"""Pretrain one model: corpus → fit → model folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.hub.save import save_model
from neurofm.schema.errors import NeurofmError
from neurofm.training.assemble import PART, assemble, given_batch_size
from neurofm.training.fit import fit
from neurofm.training.run import RunFolder, environment
from neurofm.training.stage_one import choices_from, seen_by


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
    batch_size: int | str,
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
    batch_size : int or "auto"
        Windows per step over all ranks; auto measures what fits into a GPU.
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
    parts = assemble(
        data=data, task=task, model_name=model_name, model_choices=model_choices, objective_name=objective_name,
        objective_choices=objective_choices, optim=optim, trainer=trainer, seed=seed,
        batch_size=given_batch_size(batch_size, run_dir, resume=resume),
    )  # fmt: skip
    corpus, module = parts.corpus, parts.module
    provenance = corpus.provenance(PART)
    if parts.stage_one is not None:
        # what the tokenizer was trained on counts as seen: the audit follows this chain
        provenance["pretrained"] = seen_by(parts.stage_one)
        objective_choices = {**objective_choices, **choices_from(parts.stage_one)}
    # claimed only now, so that a wrong choice leaves no folder behind
    run = RunFolder(run_dir, resume=resume, overwrite=overwrite, owner=parts.ranks.rank == 0)
    if run.owner:
        run.write_config(config or {})
        corpus.split.write(run.path / "split.json")
        run.write_provenance(
            config=config or {}, data=provenance, seed=seed, batch_size=parts.batch_size, n_ranks=parts.ranks.world_size
        )
    try:
        metrics = fit(
            module=module, loader=parts.loader, validation_loader=parts.validation, run=run, **trainer, **logger
        )
    except NeurofmError:
        # refused by the first batch: the corrected command must not find a run in its way
        run.forget_if_untrained()
        raise
    if not run.owner:
        return metrics
    save_model(
        run.model_dir,
        model=module.model,
        objective=module.objective,
        model_name=model_name,
        model_choices=model_choices,
        objective_name=objective_name,
        objective_choices=objective_choices,
        facts=parts.facts,
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
