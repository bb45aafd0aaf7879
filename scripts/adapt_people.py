"""Adapt one checkpoint to every tested person of its data, in one process: `neurofm finetune` person by person.

python scripts/adapt_people.py RUNS/NAME checkpoint=… experiment=… [overrides]   # decoders in RUNS/NAME/SUBJECT/
PEOPLE=01,04 python scripts/adapt_people.py …   # some of them, to share the work among processes
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from neurofm.cli.conf import conf_dir
from neurofm.cli.finetune import finetune
from neurofm.data.dataset import Dataset
from neurofm.data.split_rules import make_split


def config_of(overrides: list[str]) -> dict[str, Any]:
    """Compose as the verb does."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = OmegaConf.to_container(compose("finetune", overrides=overrides), resolve=True)
    assert isinstance(config, dict)
    return config  # type: ignore[return-value]


def main(target: str, *overrides: str) -> None:
    """Adapt to one after the other."""
    data = config_of(list(overrides))["data"]
    dataset = Dataset(data["path"])
    tested = make_split(dataset, **{**data["split"], "subject": None})["test"]
    people = {dataset.subject(s.recording_id) for s in tested}
    if os.environ.get("PEOPLE"):
        people &= set(os.environ["PEOPLE"].split(","))
    for person in sorted(people):
        finetune(config_of([*overrides, f"held_out='{person}'", f"run_dir={target}/{person}"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
