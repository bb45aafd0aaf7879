"""Print what recipes reach on people to choose by, at five trials of each hand: where the learning rates of conf/ come from.

for s in 1001 1002 1003 1004 1005; do   # never the people of a result (seeds 0 and 2000)
  neurofm prep dataset=sim_motor_imagery dataset.id=motor_$s dataset.source.seed=$s
  neurofm train experiment=motor_log_covariance runs=runs/development/$s data.id=motor_$s data.path=shards/motor_$s
done
python scripts/motor_development.py runs/development/*
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch

from neurofm.adapt.finetune import finetune
from neurofm.adapt.new_subject import task_facts
from neurofm.adapt.rows import join
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.hub.load import LoadedModel, load_model
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.training.reopen import corpus_of

LOOP = {"steps": 60, "batch_size": 16, "weight_decay": 0.05, "warmup_steps": 5, "tail": "none"}
READ = {"name": "supervised", "readout": "pool", "norm": False}
ARMS: dict[str, tuple[str, dict[str, Any], float]] = {
    "pretrained, frozen, ridge": ("probe", {"solver": "ridge"}, 0.0),
    "untrained, frozen, ridge": ("probe", {"solver": "ridge"}, 0.0),
    **{f"pretrained, all trained at {lr:g}": ("full", {}, lr) for lr in (1e-3, 3e-3, 1e-2)},
    **{f"from scratch at {lr:g}": ("scratch", {}, lr) for lr in (3e-3, 1e-2, 3e-2)},
}


def main(*runs: str) -> None:
    """Print a line per recipe when a run's people are done: mean, and difference from the first with its deviation."""
    found: dict[str, list[float]] = {name: [] for name in ARMS}
    for run in runs:
        loaded = load_model(f"{run}/motor/log_covariance-seed0/model")
        dataset = Dataset(loaded.card["provenance"]["data"]["path"])
        rule = {"rule": "by_subject", "test": 10, "seed": 0}
        people = {dataset.subject(s.recording_id) for s in make_split(dataset, **rule)["test"]}
        for person in sorted(people):
            split = {**rule, "subject": person, "budgets_s": {"5": 20}, "test_s": 160}
            for name, accuracy in scores(loaded, {**loaded.card["provenance"]["data"], "split": split}).items():
                found[name].append(accuracy)
        first = np.array(found[next(iter(ARMS))])
        print(f"after {run}: {len(first)} people")
        for name, values in found.items():
            d = first - values
            print(f"| {name} | {np.mean(values):.3f} | {d.mean():+.3f} | {d.std(ddof=1):.3f} |", flush=True)


def scores(loaded: LoadedModel, data: dict[str, Any]) -> dict[str, float]:
    """Accuracy of every recipe on one person's test trials."""
    corpus = corpus_of(loaded, data=data, task=None, transforms="fresh")
    corpus.fit_transforms("calibration-5")
    facts = task_facts(loaded, corpus, "calibration-5")
    few, test = (
        join(corpus.loader(part, facts, batch_size=256, seed=0, training=False)) for part in ("calibration-5", "test")
    )
    return {
        name: accuracy(loaded if "untrained" not in name else loaded.fresh(seed=0), facts, few, test, *how)
        for name, how in ARMS.items()
    }


def accuracy(
    loaded: LoadedModel, facts: Facts, few: NeuralBatch, test: NeuralBatch, strategy: str, choices: dict[str, Any], lr: float
) -> float:  # fmt: skip
    """Adapt and score."""
    how = {"strategy": strategy, "strategy_choices": choices, "objective": READ, "facts": facts, "seed": 0}
    made = finetune(loaded, few, lr_peak=lr, **how, **LOOP).loaded
    assert test.target is not None
    with torch.no_grad():
        said = made.objective.predict(made.model, test).argmax(1)
    return float((said == test.target).float().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
