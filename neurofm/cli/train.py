"""`neurofm train experiment=…`: shards → pretrained model."""

from __future__ import annotations

from typing import Any

from neurofm.cli.app import run_app
from neurofm.cli.conf import check_data, check_held_out


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_app("train", train, argv)


def train(config: dict[str, Any]) -> dict[str, float]:
    """Train one model and export it to ``run_dir/model``; return the final metrics."""
    check_data(config["data"], config["task"])
    check_held_out(config)
    from neurofm.training.pretrain import pretrain, ranks

    def choices(group: str) -> tuple[str, dict[str, Any]]:
        return config[group]["name"], {k: v for k, v in config[group].items() if k != "name"}

    model_name, model_choices = choices("model")
    objective_name, objective_choices = choices("objective")
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
    if objective_name == "tokenizer" and ranks(config["trainer"])[0] == 0:
        from neurofm.report.tokenizer import write_tokenizer_report

        print(f"report: {write_tokenizer_report(config['run_dir'])}")
    if objective_name == "masked_spectrogram" and ranks(config["trainer"])[0] == 0:
        from neurofm.report.spectrogram import write_spectrogram_report

        print(f"report: {write_spectrogram_report(config['run_dir'])}")
    print(
        f"{config['run_dir']}/model  " + "  ".join(f"{k} {v:.4g}" for k, v in metrics.items() if k.startswith("val/"))
    )
    return metrics
