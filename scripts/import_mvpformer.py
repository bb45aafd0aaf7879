#!/usr/bin/env python3
"""Convert a released checkpoint of MVPFormer, already on this machine, into a model folder.

    python scripts/import_mvpformer.py FILE [--out DIR] [--size s|m] [--head FILE]

FILE is a state dict (torch file or .safetensors). The size is read off its width when it is not given. A released
classifier is two files: the base model as FILE, head and low-rank changes as --head.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from neurofm.hub.mvpformer_released import import_released
from neurofm.hub.state_dict import read_state_dict
from neurofm.schema.errors import ConfigError, NeurofmError

CONF = Path(__file__).parents[1] / "conf" / "model"
WIDTH = "encoder.proj.weight"


def choices_of(size: str | None, file: Path) -> dict:
    """Choices of the published model of this size, or of the one as wide as the checkpoint."""
    published = {s: yaml.safe_load((CONF / f"mvpformer_{s}.yaml").read_text(encoding="utf-8")) for s in ("s", "m")}
    if size is None:
        tensor = read_state_dict(file).get(WIDTH)
        width = None if tensor is None else len(tensor)
        fitting = [s for s, choices in published.items() if choices["dim"] == width]
        if not fitting:
            raise ConfigError(f"{file}: tensor '{WIDTH}' gives a width of {width}, no published size; give --size")
        size = fitting[0]
    choices = published[size]
    choices.pop("name")
    return choices


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="released checkpoint")
    parser.add_argument("--out", type=Path, help="folder of the model (default: FILE without its suffix)")
    parser.add_argument("--size", choices=("s", "m"), help="published size (default: by the width of the tensors)")
    parser.add_argument("--head", type=Path, help="released head and low-rank changes of a classifier")
    given = parser.parse_args(argv)
    try:
        choices = choices_of(given.size, given.file)
        folder = import_released(
            given.file, given.out or given.file.with_suffix(""), choices=choices, head_file=given.head
        )
    except NeurofmError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{folder}: load it with neurofm.load({str(folder)!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
