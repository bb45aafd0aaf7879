"""`neurofm doctor experiment=…`: would `neurofm train` with these arguments work? Tries it, and says what to do if not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rich.console import Console

from neurofm.cli.app import run_app
from neurofm.cli.conf import check_data, check_held_out
from neurofm.cli.train import named
from neurofm.schema.errors import ConfigError, NeurofmError, nearest

# a check that breaks in a way nobody foresaw is a finding too
_FAULTS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, AttributeError)


def main(argv: list[str]) -> int:
    """Run the verb; the exit status is the number of checks that failed."""
    failures: list[int] = []
    run_app("train", lambda config: failures.append(examine(config)), argv)
    return sum(failures)


def examine(config: dict[str, Any]) -> int:
    """Make every check, print a line for each, and return how many failed."""
    console = Console(highlight=False, soft_wrap=True)
    failed = 0

    def check(name: str, question: Callable[[], str]) -> bool:
        nonlocal failed
        try:
            found, well = question(), True
        except NeurofmError as error:
            found, well = str(error), False
        except _FAULTS as error:
            found, well = f"{type(error).__name__}: {error}", False
        failed += not well
        console.print("[green]ok  [/green]" if well else "[red]FAIL[/red]", f"{name:<14}", end="")
        console.print(" ".join(found.split()), markup=False)
        return well

    sound = check("configuration", lambda: check_configuration(config))
    from neurofm.training import checkup
    from neurofm.training.assemble import Assembled, assemble

    trainer = config["trainer"]
    reachable = check("device", lambda: checkup.check_device(trainer))
    check("logger", lambda: checkup.check_logger(config["logger"]))
    made: list[Assembled] = []

    def build() -> str:
        model_name, model_choices = named(config["model"])
        objective_name, objective_choices = named(config["objective"])
        parts = assemble(
            data=config["data"], task=config["task"], model_name=model_name, model_choices=model_choices,
            objective_name=objective_name, objective_choices=objective_choices, optim=config["optim"], trainer=trainer,
            seed=config["seed"], batch_size=config["batch_size"],
        )  # fmt: skip
        made.append(parts)
        facts = parts.facts
        return (
            f"{model_name} and {objective_name} fit windows of {facts.window_s:g} s at {facts.rate_hz:g} Hz, up to "
            f"{facts.max_channels} channels of {len(facts.subjects)} subjects"
        )

    if not (sound and check("assembly", build)):
        console.print("the other checks need what failed above", style="dim")
        return failed
    (parts,) = made
    check("run folder", lambda: checkup.check_folder(
        config["run_dir"], parts, resume=bool(config["resume"]), overwrite=config["overwrite"]))  # fmt: skip
    check("checksums", lambda: checkup.check_shards(parts))
    check("split", lambda: checkup.check_split(parts, str(config["data"]["split"].get("rule", ""))))
    if check("one batch", lambda: checkup.check_batch(parts)):
        check("memory", lambda: checkup.check_memory(parts))
        check("loader", lambda: checkup.check_speed(parts))
        check("ranks", lambda: checkup.check_ranks(parts))
        if reachable:
            check("resume", lambda: checkup.check_resume(parts, trainer, seed=config["seed"]))
    console.print(f"{failed or 'no'} check{'' if failed == 1 else 's'} failed")
    return failed


def check_configuration(config: dict[str, Any]) -> str:
    """Every choice is an argument of what it chooses."""
    check_data(config["data"], config["task"])
    check_held_out(config)
    from neurofm.models import MODELS
    from neurofm.objectives import OBJECTIVES
    from neurofm.training.fit import fit
    from neurofm.training.module import NeuroModule

    for section, registry in (("model", MODELS), ("objective", OBJECTIVES)):
        name, choices = named(config[section])
        _known(section, choices, registry.get(name, allow_import=True))
    _known("optim", config["optim"], NeuroModule.__init__)
    _known("trainer", config["trainer"], fit)
    _known("logger", config["logger"], fit)
    return f"{config['name']}: every choice is known"


def _known(section: str, choices: dict[str, Any], function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key in choices:
        if key not in parameters:
            raise ConfigError(f"{section} has no key '{key}': {nearest(key, parameters)}")
