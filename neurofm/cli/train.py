"""`neurofm train experiment=…`: shards → pretrained model."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from neurofm.cli.app import run_app, sweeping
from neurofm.cli.conf import check_data, check_held_out
from neurofm.cli.resume import resumed_config

# figures that fit one line
MANY = 12


def main(argv: list[str]) -> int:
    """Run the verb; ``resume=RUN`` takes the configuration from the run instead of from conf/."""
    config = resumed_config(argv)
    if config is not None:
        train(config)
        return 0
    return run_app("train", train, argv)


def train(config: dict[str, Any]) -> dict[str, float]:
    """Train one model and export it to ``run_dir/model``; return the final metrics."""
    check_data(config["data"], config["task"])
    check_held_out(config)
    from neurofm.objectives import OBJECTIVES
    from neurofm.report import RUN_REPORTS
    from neurofm.training.pretrain import pretrain
    from neurofm.training.ranks import ranks_of, refuse_nested, was_requeued

    ranks = ranks_of(config["trainer"])
    # a child of Lightning's gets its parent's arguments and a few of Hydra's behind them
    refuse_nested(sweeping=sweeping(), ranks=ranks, relaunchable=sys.argv[1:2] == ["train"])
    if was_requeued():
        config = {**config, "resume": True, "overwrite": False}
    model_name, model_choices = named(config["model"])
    objective_name, objective_choices = named(config["objective"])
    metrics = pretrain(
        data=config["data"],
        task=config["task"],
        model_name=model_name,
        model_choices=model_choices,
        objective_name=objective_name,
        objective_choices=objective_choices,
        optim=config["optim"],
        trainer=config["trainer"],
        logger=config["logger"],
        run_dir=config["run_dir"],
        seed=config["seed"],
        batch_size=config["batch_size"],
        resume=config["resume"],
        overwrite=config["overwrite"],
        description=config["description"],
        config=config,
    )
    if ranks.rank == 0:
        print(f"{config['run_dir']}/model  {in_a_line(metrics)}")
        report = OBJECTIVES.get(objective_name, allow_import=True).report
        if report is not None:
            print(f"report: {RUN_REPORTS.get(report, allow_import=True)(config['run_dir'])}")
    return metrics


def in_a_line(metrics: Mapping[str, float]) -> str:
    """Return the validation figures, without those of single levels (``val/error_b1_4``) where they are many."""
    found = {k: v for k, v in metrics.items() if k.startswith("val/")}
    shown = found if len(found) <= MANY else {k: v for k, v in found.items() if not re.search(r"_\d+$", k)}
    return "  ".join(f"{k} {v:.4g}" for k, v in shown.items())


def named(section: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the registry name and the choices of a section."""
    return section["name"], {k: v for k, v in section.items() if k != "name"}
