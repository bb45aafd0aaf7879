"""From a pretrained model and a new subject's calibration to a folder of decoders, one per budget and strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from neurofm.adapt.base import FROM_NOTHING
from neurofm.adapt.budgets import with_budgets
from neurofm.adapt.crossval import cross_validate, decoder, folds_of
from neurofm.adapt.finetune import Finetuned, finetune
from neurofm.adapt.rows import join
from neurofm.adapt.search import choose_lr
from neurofm.data.corpus import Corpus
from neurofm.data.storage.catalogue import channel_name
from neurofm.hub.export import export_decoder
from neurofm.hub.load import LoadedModel, load_model
from neurofm.hub.resave import save_loaded
from neurofm.models.base import Backbone, offers
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts
from neurofm.training.reopen import corpus_of
from neurofm.training.run import RunFolder, environment, refuse_if_finished

CALIBRATION = "calibration-"


def task_facts(loaded: LoadedModel, corpus: Corpus, part: str) -> Facts:
    """Facts of the new task: the model's own vocabulary and rate, the task's window, classes and embedding."""
    new = corpus.facts(part)
    if abs(new.rate_hz - loaded.facts.rate_hz) > 1e-6 * loaded.facts.rate_hz:
        raise ConfigError(
            f"{corpus.dataset.path}: has rate_hz={new.rate_hz:g}, the model was trained at {loaded.facts.rate_hz:g}; "
            "prepare it with the stages of the model's own data"
        )
    old = loaded.facts
    if offers(loaded.model, Backbone.grow):
        # units and sessions that the model has not met get rows of their own behind those it has
        return replace(
            old, window_s=new.window_s, classes=new.classes, class_counts=new.class_counts,
            embedding_shape=new.embedding_shape or old.embedding_shape, embedding_s=new.embedding_s,
            channels=(*old.channels, *(c for c in new.channels if c not in set(old.channels))),
            sessions=(*old.sessions, *(s for s in new.sessions if s not in set(old.sessions))),
            max_channels=max(old.max_channels, new.max_channels),
        )  # fmt: skip
    if not set(new.channels) & set(loaded.facts.channels):
        raise ConfigError(
            f"{corpus.dataset.path}: none of its channels ({', '.join(new.channels[:3])}, …) is known to the model "
            f"({', '.join(loaded.facts.channels[:3])}, …); give them their canonical names when preparing"
        )
    return replace(
        old, window_s=new.window_s, classes=new.classes, class_counts=new.class_counts,
        embedding_shape=new.embedding_shape or old.embedding_shape, embedding_s=new.embedding_s,
    )  # fmt: skip


def calibration_parts(corpus: Corpus, budgets: Sequence[str | int | float] | None) -> dict[str, str]:
    """Budget → part of the split that holds it; a split without budgets has the one part "train".

    Raises
    ------
    ConfigError
        When a budget is not in the split.
    """
    known = {name.removeprefix(CALIBRATION): name for name in corpus.split.parts if name.startswith(CALIBRATION)}
    if not known and "train" in corpus.split.parts:
        known = {"all": "train"}
    if not known:
        raise ConfigError(
            "the split has neither calibration parts nor a part 'train', so there is nothing to learn from"
        )
    if budgets is None:
        return known
    for budget in budgets:
        if str(budget) not in known:
            raise ConfigError(f"budgets: the split has no budget '{budget}': {nearest(str(budget), known)}")
    return {str(b): known[str(b)] for b in budgets}


def adapt_subject(
    *,
    checkpoint: str,
    run_dir: str,
    strategies: Mapping[str, Mapping[str, Any]],
    loop: Mapping[str, Any],
    scratch_loop: Mapping[str, Any] | None = None,
    budgets: Sequence[str | int | float] | None = None,
    budget_unit: str | None = None,
    data: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    objective: Mapping[str, Any] | None = None,
    n_folds: int = 0,
    lr_search: Sequence[float] = (),
    n_seeds: int = 1,
    export: Sequence[str] = (),
    seed: int | None = None,
    overwrite: bool = False,
    allow_import: bool = False,
    device: str = "cpu",
    config: Mapping[str, Any] | None = None,
    check: Callable[[LoadedModel, Corpus], None] | None = None,
) -> Iterator[tuple[str, str, Finetuned]]:
    """Fine-tune on every budget with every strategy; yield (budget, strategy, result) as each is saved.

    Parameters
    ----------
    checkpoint : str
        Folder of the pretrained model.
    run_dir : str
        Gets ``<strategy>-<budget>/model`` for each, and ``<strategy>-<budget>-seed<n>/model`` with several seeds.
    strategies : mapping of str to mapping
        Name in `ADAPT` → its choices. "scratch" and "cnn" learn their transforms from the calibration alone as well.
    loop : mapping
        Arguments of `finetune`: steps, lr_peak …
    scratch_loop : mapping, optional
        What differs for networks from new random weights, "scratch" and "cnn".
    budgets : sequence, optional
        Labels of the split's calibration parts; default all.
    budget_unit : str, optional
        "seconds", "minutes", "volumes" or "trials_per_class": `budgets` are amounts in it, and the split is cut by them
        instead of by its own; see `adapt.budgets.with_budgets`.
    data, task, objective : mapping, optional
        Default: those of the pretraining.
    n_folds : int
        Folds of a cross-validation over the labelled trials of the calibration, with the same strategy and loop; its
        figures go into the card. 0 for none.
    lr_search : sequence of float
        Peak learning rates to choose from, by cross-validation within the calibration (`n_folds`, three where that is
        0), or by the loss on the calibration's tail where it has no labelled trials; see `adapt.search`.
    n_seeds : int
        Decoders per budget and strategy, from `seed` on; evaluation averages what they say.
    export : sequence of str
        "torch_export" or "onnx": each decoder is also written so, for the calibration's montage (`hub.export`).
    seed : int, optional
        Of new weights, order, masks and dropout, and of the folds; default: that of the checkpoint.
    overwrite : bool
        Replace decoders that are there.
    allow_import : bool
        Whether the checkpoint's card may name classes of your own by import path.
    device : str
        Where to train.
    config : mapping, optional
        Kept in the run folder.
    check : callable, optional
        Gets the checkpoint and the data before the first step; what it raises stops all.
    """
    loaded = load_model(checkpoint, allow_import=allow_import)
    first = int(loaded.card["provenance"]["seed"]) if seed is None else seed
    if n_seeds < 1:
        raise ConfigError(f"n_seeds={n_seeds} must be at least 1")
    if budget_unit is not None:
        if not budgets:
            raise ConfigError(f"budget_unit={budget_unit} needs budgets, such as budgets=[1,2,5,10]")
        own = data or loaded.card["provenance"]["data"]
        data = with_budgets(own, budgets, budget_unit, rate_hz=loaded.facts.rate_hz)
        budgets = [f"{float(b):g}" for b in budgets]
    whole = corpus_of(loaded, data=data, task=task)
    parts = calibration_parts(whole, budgets)
    if check is not None:
        check(loaded, whole)
    folder = Path(run_dir)
    for (budget, part), (strategy, choices), k in product(parts.items(), strategies.items(), range(n_seeds)):
        seed = first + k
        untaught = strategy in FROM_NOTHING
        # a corpus of its own for each: nothing that one learned may reach another
        corpus = corpus_of(loaded, data=data, task=task, transforms="fresh" if untaught else "fitted")
        target = folder / (f"{strategy}-{budget}" + (f"-seed{seed}" if n_seeds > 1 else ""))
        refuse_if_finished(target, overwrite=overwrite)
        corpus.fit_transforms(part)
        facts = task_facts(loaded, corpus, part)
        own_loop = {**loop, "device": device, **((scratch_loop or {}) if untaught else {})}
        how: dict[str, Any] = {
            "strategy": strategy, "strategy_choices": choices, "objective": objective, "facts": facts, "seed": seed,
        }  # fmt: skip
        batches = join(corpus.loader(part, facts, batch_size=256, seed=seed, training=False))
        chosen: dict[str, float] = {}
        if lr_search:
            chosen = choose_lr(
                loaded, corpus, part, batches, rates=lr_search, n_folds=n_folds or 3, loop=own_loop, **how
            )  # fmt: skip
            own_loop["lr_peak"] = chosen["search/lr_peak"]
        result = finetune(loaded, batches, stretches=corpus.stretches(part, facts), **how, **own_loop)
        result.metrics.update(chosen)
        if n_folds:
            folds = folds_of(corpus, part, facts, n_folds=n_folds, seed=seed)
            result.metrics.update(cross_validate(folds, decoder(loaded, loop=own_loop, **how)).metrics)
        # claimed only now, so that a wrong choice leaves no folder behind
        run = RunFolder(target, overwrite=overwrite)
        run.write_config(config or {})
        _save(
            run, result, corpus, part, checkpoint=loaded, budget=budget, budget_unit=budget_unit or "", seed=seed,
            data=data, task=task,
        )  # fmt: skip
        result.folder = str(run.model_dir)
        if export:
            names = [channel_name(c) for c in corpus.dataset.channels(corpus.split[part][0].recording_id)]
            export_decoder(load_model(run.model_dir, allow_import=allow_import), target / "export", batch=batches,
                           formats=export, channel_names=names)  # fmt: skip
        yield budget, strategy, result


def _save(
    run: RunFolder, result: Finetuned, corpus: Corpus, part: str, *, checkpoint: LoadedModel, budget: str,
    budget_unit: str, seed: int, data: Mapping[str, Any] | None, task: Mapping[str, Any] | None,
) -> None:  # fmt: skip
    origin = checkpoint.card
    own = origin["provenance"]
    # a vocabulary that was solved in pretraining stays in a network from scratch
    saw_nothing = result.strategy in FROM_NOTHING and not getattr(result.loaded.model, "solved", ())
    provenance = {
        **corpus.provenance(part),
        "role": "adaptation",
        "strategy": result.strategy,
        "budget": budget,
        "budget_unit": budget_unit,
        "steps": result.best_step,
        "seed": seed,
        "data": dict(data or own["data"]),
        "task": dict(task or own["task"]),
        # what a decoder saw before its calibration
        "pretrained": None
        if saw_nothing
        else {
            "weights_sha256": origin["weights"]["sha256"],
            "model": str(checkpoint.folder),
            **{k: own[k] for k in ("datasets", "split", "subjects", "seed")},
            # a checkpoint that was itself adapted: what came before stays known to the audit
            **({"pretrained": own["pretrained"]} if own.get("pretrained") else {}),
        },
        **environment(),
    }
    save_loaded(
        run.model_dir,
        result.loaded,
        transforms=[t.to_json() for t in corpus.transform.transforms],
        prep=corpus.dataset.manifest.prep,
        provenance=provenance,
        metrics=result.metrics,
        description=f"Adapted by '{result.strategy}' on the calibration '{budget}' of a new subject or task.",
    )
    run.write_provenance(config={}, data=provenance, seed=seed)
    counts = {"best_step": float(result.best_step), "seconds": result.seconds, "n_train": float(result.n_train)}
    run.finish({**counts, **result.metrics})
