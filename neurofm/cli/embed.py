"""`neurofm embed checkpoint=…`: model + shards → one vector per window; `data=stimuli` is in `embed_stimuli`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.cli.app import run_app
from neurofm.cli.conf import check_data
from neurofm.cli.embed_stimuli import embed_stimuli_of
from neurofm.hub.folder import read_card
from neurofm.schema.errors import ConfigError

STIMULI = "stimuli"


def main(argv: list[str]) -> int:
    """Run the verb."""
    # `dataset` is a group of configurations for prep; here the word means one that is prepared already
    plain = [f"stimuli_of={a.removeprefix('dataset=')}" if a.startswith("dataset=") else a for a in argv]
    return run_app("embed", embed, plain)


def embed(config: dict[str, Any]) -> dict[str, Any]:
    """Embed one dataset and say what was done; the test part is opened by ``part=test`` alone."""
    if config["data"] is not None and config["data"].get("id") == STIMULI:
        return embed_stimuli_of(config)
    for key, name in (("encoder", "encoder"), ("stimuli_of", "dataset"), ("files", "files")):
        if config[key] is not None:
            raise ConfigError(f"{name} is for the stimuli of a dataset: add data=stimuli to the command")
    if config["checkpoint"] is None:
        raise ConfigError("'checkpoint' must be given: add checkpoint=… to the command")
    read_card(config["checkpoint"])
    if config["data"] is not None:
        check_data(config["data"], config["task"])
    from neurofm.api.dataset import embed_dataset
    from neurofm.hub.load import load_model

    loaded = load_model(config["checkpoint"], device=config["device"], allow_import=config["allow_import"])
    if config["data"] is None:
        check_data(loaded.card["provenance"]["data"], config["task"])
    checkpoint = Path(config["checkpoint"])
    run = checkpoint.parent if checkpoint.name == "model" else checkpoint
    out = config["out"] or str(run.with_name(f"{run.name}-embeddings"))
    about = embed_dataset(
        loaded,
        out=out,
        data=config["data"],
        task=config["task"],
        part=config["part"],
        calibration_s=config["calibration_s"],
        batch_size=config["batch_size"],
        device=config["device"],
        overwrite=config["overwrite"],
    )
    print(
        f"{out}: {about['n_windows']} windows of {about['window_s']:g} s × {about['dim']}, "
        f"{about['part']} of {about['dataset']['id']}"
    )
    if "codes" in about:
        _, n_segments, n_channels, n_codebooks = about["codes"]
        print(f"  codes of {n_segments} patches × {n_channels} channels × {n_codebooks} codebooks")
    for note in about["notes"]:
        print(f"  {note}")
    return about
