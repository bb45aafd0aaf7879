"""`neurofm finetune checkpoint=…`: pretrained model → decoders of a new subject, one per budget."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurofm.cli.app import run_app
from neurofm.cli.conf import check_data, check_held_out
from neurofm.cli.people import each_person
from neurofm.hub.folder import read_card

if TYPE_CHECKING:
    from neurofm.data.corpus import Corpus
    from neurofm.hub.load import LoadedModel


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("finetune", finetune, argv, points=each_person)


def finetune(config: dict[str, Any]) -> None:
    """Adapt one checkpoint; the test part is not opened."""
    read_card(config["checkpoint"])
    if config["data"] is not None:
        check_data(config["data"], config["task"])
        check_held_out(config)
    from neurofm.adapt.base import FROM_NOTHING
    from neurofm.adapt.new_subject import adapt_subject

    checkpoint = Path(config["checkpoint"])
    run = checkpoint.parent if checkpoint.name == "model" else checkpoint
    run_dir = config["run_dir"] or str(run.with_name(f"{run.name}-{config['suffix']}"))
    adapt = dict(config["adapt"])
    strategies = {adapt.pop("name"): adapt}
    for name in config["beside"]:
        strategies.setdefault(str(name), {})
    if config["from_scratch"]:
        strategies.setdefault("scratch", {})
    for _, _, result in adapt_subject(
        checkpoint=config["checkpoint"],
        run_dir=run_dir,
        strategies=strategies,
        loop=config["loop"],
        scratch_loop=config["scratch_loop"],
        budgets=config["budgets"],
        budget_unit=config["budget_unit"],
        data=config["data"],
        task=config["task"],
        objective=config["objective"],
        n_folds=config["cross_validate"],
        lr_search=config["lr_search"],
        n_seeds=config["n_seeds"],
        export=config["export"],
        seed=config["seed"],
        overwrite=config["overwrite"],
        allow_import=config["allow_import"],
        device=config["device"],
        config=config,
        check=None if set(strategies) <= set(FROM_NOTHING) else warn_of_leaks,
    ):
        line = f"{result.folder}  {result.n_train} windows, {result.best_step} steps, {result.seconds:.1f} s"
        if result.n_tail and not result.best_step:
            line += "  (no step was better than the start on the watched tail: this is the starting model)"
        if len(config["lr_search"]) and "search/lr_peak" in result.metrics:
            line += f"  lr_peak {result.metrics['search/lr_peak']:g} chosen within the calibration"
        if "cv/balanced_accuracy" in result.metrics:
            mean, sd = result.metrics["cv/balanced_accuracy"], result.metrics["cv/balanced_accuracy_sd"]
            line += f"  cross-validated balanced accuracy {mean:.3f} ± {sd:.3f} ({config['cross_validate']} folds)"
        print(line, flush=True)


def warn_of_leaks(checkpoint: LoadedModel, corpus: Corpus) -> None:
    """Say now what evaluation would refuse later. A warning only: a known person's decoder may be what is wanted."""
    from neurofm.benchmarks.adapted.decoders import audit_start

    leaks = [f.message for f in audit_start(checkpoint, corpus) if f.severity == "leak"]
    if leaks:
        print(
            f"neurofm finetune: warning: `neurofm evaluate` will refuse these decoders, unless with allow_leak=REASON: "
            f"{' '.join(leaks)} Pretrain without the tested person (held_out=…) for a test of new people.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
