"""Decoded embeddings in the shapes that image decoders take, as a safetensors file with their arguments' names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurofm.schema.embeddings import EmbeddingFile
from neurofm.schema.errors import DataError, nearest
from neurofm.schema.hashing import atomic_write


class Format(NamedTuple):
    """Argument of a decoder's call, and the shape of one condition (0 = any length)."""

    argument: str
    shape: tuple[int, ...]
    what: str


# what Stable Diffusion, Versatile Diffusion, unCLIP and Flux pipelines are conditioned on
FORMATS = {
    "clip_image_768": Format("image_embeds", (768,), "projected CLIP ViT-L/14 image vector"),
    "clip_image_1024": Format("image_embeds", (1024,), "projected CLIP ViT-H/14 image vector"),
    "clip_image_tokens": Format("image_embeds", (257, 768), "CLIP ViT-L/14 image tokens"),
    "clip_text_768": Format("prompt_embeds", (77, 768), "CLIP ViT-L/14 text tokens"),
    "clip_text_1024": Format("prompt_embeds", (77, 1024), "OpenCLIP ViT-H/14 text tokens"),
    "t5_4096": Format("prompt_embeds", (0, 4096), "T5-XXL text tokens"),
    "vae_latent": Format("latents", (4, 64, 64), "first-stage latent of a 512-pixel image"),
}


def fit_format(values: np.ndarray, name: str) -> np.ndarray:
    """Return decoded embeddings (n, …) in the shape of a format; a flat row is cut into its tokens.

    Raises
    ------
    DataError
        When they hold another number of values.
    """
    if name not in FORMATS:
        raise DataError(f"format '{name}' is unknown: {nearest(name, FORMATS)}")
    shape = FORMATS[name].shape
    flat = np.asarray(values, np.float32).reshape(len(values), -1)
    known = int(np.prod([s for s in shape if s]))
    length = flat.shape[1] // known if 0 in shape else 1
    if flat.shape[1] != known * length or not length:
        raise DataError(
            f"format '{name}' ({FORMATS[name].what}) has shape {list(shape)}, the decoded embedding {list(values.shape[1:])}; "
            "train the decoder on an embedding of that shape"
        )
    return flat.reshape(len(flat), *(s or length for s in shape))


def write_conditions(
    path: str | Path, ids: Sequence[str], values: np.ndarray, *, format: str, reference: EmbeddingFile | None = None,
    source: str = "",
) -> Path:  # fmt: skip
    """Write one condition per stimulus; a decoder makes one image of each, so none can be chosen by the true image.

    Parameters
    ----------
    path : path
        The file to be.
    ids : sequence of str
        What was shown, or how the query is called.
    values : ndarray, shape (n, …)
        Decoded embeddings.
    format : str
        One of `FORMATS`.
    reference : EmbeddingFile, optional
        Rows are scaled to the mean length of its rows: decoders shrink lengths, and cosine losses leave them free.
    source : str
        What decoded them.
    """
    from safetensors.numpy import save

    if len(ids) != len(values):
        raise DataError(f"{Path(path).name}: {len(ids)} names for {len(values)} conditions")
    made = fit_format(values, format)
    if reference is not None:
        wanted = float(np.mean([np.linalg.norm(reference.read(s)) for s in reference.ids]))
        size = np.linalg.norm(made.reshape(len(made), -1), axis=1).reshape(-1, *([1] * (made.ndim - 1)))
        made = made * (wanted / np.maximum(size, 1e-12))
    about = {"format": format, "ids": json.dumps(list(ids)), "source": source}
    with atomic_write(path) as f:
        f.write(save({FORMATS[format].argument: np.ascontiguousarray(made, np.float32)}, metadata=about))
    return Path(path)


def read_conditions(path: str | Path) -> tuple[list[str], str, np.ndarray]:
    """Read (ids, argument, values) back.

    Raises
    ------
    DataError
        When the file is not one of conditions.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as f:
            about: dict[str, Any] = f.metadata() or {}
            argument = FORMATS[about["format"]].argument
            return list(json.loads(about["ids"])), argument, f.get_tensor(argument)
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path}: is not a file of conditions ({error})") from error
