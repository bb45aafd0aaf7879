"""Decoded embeddings → images, through a local pipeline of the diffusers library; neurofm brings no such weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neurofm.schema.conditions import read_conditions
from neurofm.schema.errors import ConfigError


def reconstruct(
    conditions: str | Path,
    *,
    weights: str | Path | None,
    out: str | Path,
    seed: int = 0,
    device: str = "cpu",
    **choices: Any,
) -> list[Path]:
    """Make one image of every condition, each from the same noise.

    One image, so the best of several cannot be picked by looking at the true image, as some published pipelines do.

    Parameters
    ----------
    conditions : path
        As `schema.conditions.write_conditions` wrote it.
    weights : path
        Folder of a diffusers pipeline (safetensors), e.g. of an unCLIP or image-variation model.
    out : path
        Folder for the images.
    seed : int
        Of the noise.
    device : str
        Where the pipeline runs.
    **choices
        For the pipeline's call (``num_inference_steps``, ``guidance_scale``).

    Raises
    ------
    ConfigError
        When weights or library are missing; the conditions are good without them.
    """
    ids, argument, values = read_conditions(conditions)
    have = f"{conditions}: {len(ids)} decoded conditions are ready ('{argument}')"
    if weights is None or not (Path(weights) / "model_index.json").exists():
        raise ConfigError(
            f"{have}, but there are no weights of an image decoder: give the local folder of a diffusers pipeline "
            f"(with model_index.json){'' if weights is None else f'; {weights} is none'}"
        )
    try:
        import diffusers
    except ImportError as error:
        raise ConfigError(f"{have}, but the diffusers library is missing: pip install diffusers") from error
    import torch

    pipeline = diffusers.DiffusionPipeline.from_pretrained(
        str(weights), local_files_only=True, use_safetensors=True
    ).to(device)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i, value in enumerate(values):
        generator = torch.Generator().manual_seed(seed)
        condition = torch.from_numpy(value)[None].to(device)
        image = pipeline(**{argument: condition}, generator=generator, **choices).images[0]
        made.append(folder / f"{i:05d}.png")
        image.save(made[-1])
    return made
