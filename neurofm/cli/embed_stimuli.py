"""`neurofm embed data=stimuli dataset=… encoder=…`: the stimuli of a dataset → embeddings beside its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.cli.conf import options
from neurofm.schema.errors import ConfigError


def embed_stimuli_of(config: dict[str, Any]) -> dict[str, Any]:
    """Embed what a prepared dataset showed or played, and say what was done."""
    if config["encoder"] is None:
        raise ConfigError(f"choose an encoder: encoder= one of {', '.join(options('encoder'))}")
    if config["stimuli_of"] is None:
        raise ConfigError("say whose stimuli: dataset=NAME of a prepared dataset under shards/, or its folder")
    from data_prep.readers.pictures import read_picture
    from neurofm.api.stimuli import build_encoder
    from neurofm.stimuli.embed import embed_stimuli

    named = Path(str(config["stimuli_of"]))
    folder = named if (named / "dataset.json").exists() else Path("shards") / named
    if not (folder / "dataset.json").exists():
        raise ConfigError(
            f"{folder}: is not a prepared dataset; run `neurofm prep dataset={config['stimuli_of']}` first"
        )
    choices = dict(config["encoder"])
    name, file_name = choices.pop("name"), choices.pop("id")
    about = embed_stimuli(
        dataset=folder, encoder=build_encoder(name, **choices), name=file_name, files=config["files"],
        batch_size=config["batch_size"], overwrite=config["overwrite"],
        read_member=read_picture,
    )  # fmt: skip
    said = "nothing changed, " if about["unchanged"] else ""
    shape = " × ".join(str(n) for n in about["shape"])
    rate = f" at {about['rate_hz']:g} Hz" if about["rate_hz"] else ""
    print(f"{about['path']}: {said}{about['n']} stimuli × {shape}{rate}; read them with data.embedding={file_name}")
    return about
