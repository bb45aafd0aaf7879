"""Embeddings with fewer values: principal components of the training concepts, applied to all stimuli."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.embeddings import FOLDER, EmbeddingFile, embedding_path, write_embeddings
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import hash_of
from neurofm.schema.tables import read_table


def reduce_embeddings(
    *,
    dataset: str | Path,
    encoder: str,
    n_components: int,
    name: str,
    part: str = "train",
    exclude: Collection[str] = (),
) -> Path:
    """Write the first components of an encoder's embeddings as another file of embeddings.

    Mean and axes come from the stimuli of the table's part `part` whose concept has no stimulus in another part and is
    not in `exclude`: nothing of a tested concept has a hand in them.

    Parameters
    ----------
    dataset : path
        A prepared dataset.
    encoder, name : str
        File to read and file to write.
    n_components : int
        At most the number of values and of stimuli that are fitted on.
    part : str
        Of the stimuli's table; "" where it names no parts.
    exclude : collection of str
        Further concepts to keep out.
    """
    file = EmbeddingFile(embedding_path(dataset, encoder))
    rows = {r["stimulus_id"]: r for r in read_table(Path(dataset) / FOLDER, "stimuli")}
    elsewhere = {r["concept"] for r in rows.values() if r["part"] != part and r["concept"]} | set(exclude)
    fitted = [s for s in file.ids if rows[s]["part"] == part and rows[s]["concept"] not in elsewhere]
    frames = (
        np.concatenate([file.read(s).reshape(-1, file.row_shape[-1]) for s in fitted]) if fitted else np.empty((0, 0))
    )
    if not 0 < n_components <= min(frames.shape):
        raise ConfigError(
            f"n_components is {n_components}; the {len(fitted)} stimuli of training concepts allow 1 to {min(frames.shape)}"
        )
    mean = frames.mean(axis=0, dtype=np.float64)
    axes = principal_axes(frames - mean, n_components)
    notes: dict[str, Any] = {"pca_of": file.hash, "n_components": n_components, "part": part, "n_fitted": len(fitted)}
    return write_embeddings(
        embedding_path(dataset, name), file.ids, ((file.read(s) - mean) @ axes.T for s in file.ids),
        encoder=file.encoder, layer=file.layer, pooling=f"{file.pooling}, {n_components} components",
        hash=hash_of([notes, sorted(fitted)]), rate_hz=file.rate_hz, start_s=file.start_s, notes=notes,
    )  # fmt: skip


def principal_axes(centred: np.ndarray, n: int) -> np.ndarray:
    """Directions of most variance of centred rows, [n, dim], each signed so that its largest entry is positive."""
    _, _, axes = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    axes = axes[:n]
    return axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
