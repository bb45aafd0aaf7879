"""Embeddings of stimuli as a file: one safetensors file per encoder, written row by row and read row by row.

Tensors: "values", float32, [stimulus, …] for one vector (or matrix) per stimulus; or, for what unfolds in time,
[frame, dim] of all stimuli one after the other with "offsets" int64 [stimulus + 1]. The header's metadata names the
stimuli, the encoder, its layer and pooling, and a hash of all that the numbers depend on.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import DataError, nearest
from neurofm.schema.hashing import atomic_write

FOLDER = "stimuli"
EMBEDDINGS = "embeddings"
_TEXT = ("encoder", "layer", "pooling", "hash")


def embedding_path(dataset: str | Path, encoder: str) -> Path:
    """Where the embeddings of one encoder lie in a prepared dataset."""
    return Path(dataset) / FOLDER / EMBEDDINGS / f"{encoder}.safetensors"


def write_embeddings(
    path: str | Path,
    ids: Sequence[str],
    arrays: Iterable[np.ndarray],
    *,
    encoder: str,
    layer: str = "",
    pooling: str = "",
    hash: str,
    rate_hz: float | None = None,
    start_s: float = 0.0,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write one array per stimulus, holding one of them in memory at a time.

    Parameters
    ----------
    path : path
        The file to be; appears whole or not at all.
    ids : sequence of str
        Stimuli, in the order of `arrays`.
    arrays : iterable of array
        All of one shape; or, with `rate_hz`, of shape (frame, dim) with frames of their own number.
    encoder, layer, pooling, hash : str
        What made them, and the hash of everything they depend on.
    rate_hz, start_s : float
        Frames per second, and time of the centre of the first frame from the stimulus's start.
    notes : mapping, optional
        Further plain facts (dimension before PCA, versions).

    Raises
    ------
    DataError
        When shapes differ, a value is not finite, or there are more or fewer arrays than stimuli.
    """
    path = Path(path)
    if len(set(ids)) != len(ids):
        raise DataError(f"{path.name}: stimulus ids are not unique")
    path.parent.mkdir(parents=True, exist_ok=True)
    lengths: list[int] = []
    shape: tuple[int, ...] | None = None
    with tempfile.TemporaryFile(dir=path.parent) as raw:
        for name, array in zip(ids, _counted(arrays, len(ids), path), strict=True):
            x = np.ascontiguousarray(array, np.float32)
            row = x.shape[1:] if rate_hz is not None else x.shape
            if shape is None:
                shape = row
            if row != shape or (rate_hz is not None and x.ndim != 2):
                raise DataError(f"{path.name}: the embedding of '{name}' has shape {x.shape}, the first {shape}")
            if not np.isfinite(x).all():
                raise DataError(f"{path.name}: the embedding of '{name}' is not finite")
            lengths.append(len(x) if rate_hz is not None else 1)
            raw.write(x.tobytes())
        if shape is None:
            raise DataError(f"{path.name}: there is no stimulus to embed")
        offsets = np.cumsum([0, *lengths]).astype("<i8")
        size = raw.tell()
        tensors = {"values": {"dtype": "F32", "shape": [int(offsets[-1]), *shape], "data_offsets": [0, size]}}
        if rate_hz is not None:
            stop = size + offsets.nbytes
            tensors["offsets"] = {"dtype": "I64", "shape": [len(offsets)], "data_offsets": [size, stop]}
        about = {
            "encoder": encoder, "layer": layer, "pooling": pooling, "hash": hash, "ids": json.dumps(list(ids)),
            "rate_hz": "" if rate_hz is None else repr(float(rate_hz)), "start_s": repr(float(start_s)),
            "notes": json.dumps(dict(notes or {}), sort_keys=True),
        }  # fmt: skip
        header = json.dumps({"__metadata__": about, **tensors}, sort_keys=True).encode()
        # the data begin on a multiple of eight bytes, as safetensors asks
        header += b" " * (-len(header) % 8)
        raw.seek(0)
        with atomic_write(path) as f:
            f.write(struct.pack("<Q", len(header)) + header)
            shutil.copyfileobj(raw, f)
            if rate_hz is not None:
                f.write(offsets.tobytes())
    return path


def _counted(arrays: Iterable[np.ndarray], n: int, path: Path) -> Iterable[np.ndarray]:
    made = 0
    for made, array in enumerate(arrays, 1):
        if made > n:
            break
        yield array
    if made != n:
        raise DataError(
            f"{path.name}: the encoder gave {'more than ' if made > n else ''}{min(made, n)} of {n} embeddings"
        )


class EmbeddingFile:
    """Embeddings of one encoder, read when asked for; safe to pickle and in forked workers.

    Parameters
    ----------
    path : path
        As `write_embeddings` wrote it.

    Attributes
    ----------
    ids : tuple of str
        Stimuli in order.
    encoder, layer, pooling, hash : str
        What made them.
    rate_hz : float or None
        Frames per second of what unfolds in time, else None.
    start_s : float
        Time of the centre of the first frame.
    row_shape : tuple of int
        Shape of one stimulus's embedding, or of one frame.

    Raises
    ------
    DataError
        When the file is missing, damaged, or is not one of embeddings.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            known = sorted(p.stem for p in self.path.parent.glob("*.safetensors"))
            raise DataError(
                f"{self.path}: no embeddings of that name: {nearest(self.path.stem, known)}; make them with "
                f"`neurofm embed data=stimuli dataset={self.path.parents[2].name} encoder={self.path.stem}`"
            )
        with self._opened() as f:
            about = f.metadata() or {}
            for field in (*_TEXT, "ids"):
                if field not in about:
                    raise DataError(f"{self.path}: metadata field '{field}' is missing; embed the stimuli again")
            shape = tuple(f.get_slice("values").get_shape())
            self._offsets = f.get_tensor("offsets") if "offsets" in f.keys() else None  # noqa: SIM118
        self.encoder, self.layer, self.pooling, self.hash = (about[k] for k in _TEXT)
        self.ids: tuple[str, ...] = tuple(json.loads(about["ids"]))
        self.rate_hz = float(about["rate_hz"]) if about.get("rate_hz") else None
        self.start_s = float(about.get("start_s") or 0.0)
        self.notes: dict[str, Any] = json.loads(about.get("notes") or "{}")
        self.row_shape = shape[1:]
        n = len(self._offsets) - 1 if self._offsets is not None else shape[0]
        if n != len(self.ids) or (self._offsets is not None and int(self._offsets[-1]) != shape[0]):
            raise DataError(f"{self.path}: holds {n} embeddings for {len(self.ids)} stimuli; embed the stimuli again")
        self._number = {name: i for i, name in enumerate(self.ids)}
        self._slice: tuple[int, Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_slice": None}

    def __contains__(self, stimulus_id: str) -> bool:
        return stimulus_id in self._number

    def read(self, stimulus_id: str) -> np.ndarray:
        """Return the embedding of a stimulus, of shape `row_shape`, or (frame, dim) where it unfolds in time."""
        i = self._index(stimulus_id)
        if self._offsets is None:
            return self._values()[i : i + 1][0]
        return self._values()[int(self._offsets[i]) : int(self._offsets[i + 1])]

    def cut(self, stimulus_id: str, start_s: float, n_frames: int) -> np.ndarray:
        """Return the `n_frames` frames from the one nearest to `start_s` of a stimulus on; beyond its ends zeros.

        Of two equally near the later: of frames that are means over a bin (`start_s` half a frame) the one that begins there.
        """
        assert self._offsets is not None
        assert self.rate_hz is not None
        i = self._index(stimulus_id)
        first, stop = int(self._offsets[i]), int(self._offsets[i + 1])
        # to a millionth of a frame, so that what a time loses in floating point decides no tie
        at = first + math.floor((start_s - self.start_s) * self.rate_hz + 0.5 + 1e-6)
        out = np.zeros((n_frames, *self.row_shape), np.float32)
        a, b = max(at, first), min(at + n_frames, stop)
        if b > a:
            out[a - at : b - at] = self._values()[a:b]
        return out

    def all(self) -> np.ndarray:
        """Return the embeddings of all stimuli, one vector each: [stimulus, …]; frames are averaged over time."""
        if self._offsets is None:
            return self._values()[:]
        return np.stack([self.read(s).mean(axis=0) for s in self.ids])

    def _index(self, stimulus_id: str) -> int:
        if stimulus_id not in self._number:
            raise DataError(f"{self.path}: there is no embedding of '{stimulus_id}': {nearest(stimulus_id, self.ids)}")
        return self._number[stimulus_id]

    def _opened(self) -> Any:
        from safetensors import SafetensorError, safe_open

        try:
            return safe_open(self.path, framework="numpy")
        except (SafetensorError, OSError) as error:
            raise DataError(f"{self.path}: is not a readable safetensors file ({error}); embed again") from error

    def _values(self) -> Any:
        if self._slice is None or self._slice[0] != os.getpid():
            handle = self._opened()
            self._slice = (os.getpid(), handle, handle.get_slice("values"))
        return self._slice[2]
