"""The stimuli of a prepared dataset through one encoder, once, into ``stimuli/embeddings/<encoder>.safetensors``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.embeddings import FOLDER, EmbeddingFile, embedding_path, write_embeddings
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import hash_of, sha256_file
from neurofm.schema.recording import KEY
from neurofm.schema.tables import read_table
from neurofm.stimuli.base import Encoder
from neurofm.stimuli.images import member_of, read_image, sha256_of_pixels
from neurofm.stimuli.sounds import read_sound

# file, dataset in it, row → image (H, W, 3)
Reader = Callable[[Path, str, int], np.ndarray]


def embed_stimuli(
    *, dataset: str | Path, encoder: Encoder, name: str, files: str | Path | None = None, batch_size: int = 16,
    overwrite: bool = False, read_member: Reader | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Embed every stimulus of the encoder's kind; nothing is computed when the file that is there was made of the same.

    Parameters
    ----------
    dataset : path
        A prepared dataset with ``stimuli/stimuli.parquet``.
    encoder : Encoder
        What turns a stimulus into numbers.
    name : str
        Of the file to be.
    files : path, optional
        Folder of the stimuli's files; default ``stimuli/`` of the dataset, where prep put them.
    batch_size : int
        Stimuli per pass.
    overwrite : bool
        Replace a file of this name that was made otherwise.
    read_member : callable, optional
        Reads an image (H, W, 3) out of a file that holds many, from the file, the dataset in it and the row; for stimuli
        whose file is written ``images.hdf5#imgBrick/2950``.

    Returns
    -------
    dict
        path, n, shape, rate_hz, unchanged.

    Raises
    ------
    ConfigError
        When nothing is of the encoder's kind, or a file of that name was made otherwise.
    DataError
        When a stimulus's file is missing or was changed since the dataset was prepared.
    """
    if not KEY.fullmatch(name):
        raise ConfigError(f"'{name}' cannot be the name of a file of embeddings; use a-z, 0-9, - and _")
    rows = _rows(Path(dataset), encoder.kind)
    root = Path(files).expanduser() if files is not None else Path(dataset) / FOLDER
    sums = {
        file: _checksum(root, file, said, read_member)
        for file, said in sorted({(r["file"], r["sha256"]) for r in rows})
        if file
    }
    made_of = [
        [r["stimulus_id"], sums.get(r["file"], ""), _number(r["start_s"]), _number(r["stop_s"]), r["caption"]]
        for r in rows
    ]
    digest = hash_of([encoder.identity(), encoder.layer, encoder.pooling, made_of])
    path = embedding_path(dataset, name)
    if path.exists():
        there = EmbeddingFile(path)
        if there.hash == digest:
            return _about(there, unchanged=True)
        if not overwrite:
            raise ConfigError(
                f"{path}: was made by another encoder or of other stimuli ({there.encoder}, {there.layer}, "
                f"{there.pooling}); choose another name with encoder.id=…, or overwrite=true"
            )
    write_embeddings(
        path, [r["stimulus_id"] for r in rows], _encoded(encoder, rows, root, batch_size, read_member),
        encoder=str(encoder.identity()["encoder"]), layer=encoder.layer, pooling=encoder.pooling, hash=digest,
        rate_hz=encoder.rate_hz, start_s=encoder.start_s, notes=encoder.identity(),
    )  # fmt: skip
    return _about(EmbeddingFile(path), unchanged=False)


def _rows(dataset: Path, kind: str) -> list[dict[str, Any]]:
    if not (dataset / FOLDER / "stimuli.parquet").exists():
        raise DataError(f"{dataset}: lists no stimuli; prepare it with a source that knows what was shown or heard")
    rows = sorted(read_table(dataset / FOLDER, "stimuli"), key=lambda r: r["stimulus_id"])
    # every stimulus that was put into words can go through a text encoder
    found = [r for r in rows if (r["caption"] if kind == "text" else r["kind"] == kind)]
    if not found:
        kinds = ", ".join(sorted({r["kind"] for r in rows}))
        raise ConfigError(f"{dataset}: none of its {len(rows)} stimuli ({kinds}) is for an encoder of {kind}")
    return found


def _checksum(root: Path, file: str, said: str, read_member: Reader | None) -> str:
    path = root / file
    if member_of(file) is None and not path.is_file():
        raise DataError(f"{path}: the stimulus's file is missing; say where the files are with files=…")
    found = sha256_file(path) if member_of(file) is None else sha256_of_pixels(_image(root, file, read_member))
    if said and found != said:
        raise DataError(f"{path}: is not the file that was prepared (sha256 {found[:12]}…, expected {said[:12]}…)")
    return found


def _encoded(
    encoder: Encoder, rows: Sequence[Mapping[str, Any]], root: Path, batch_size: int, read_member: Reader | None
) -> Iterator[np.ndarray]:
    for i in range(0, len(rows), max(1, batch_size)):
        yield from encoder.encode([_item(encoder.kind, r, root, read_member) for r in rows[i : i + max(1, batch_size)]])


def _item(kind: str, row: Mapping[str, Any], root: Path, read_member: Reader | None) -> Any:
    if kind == "text":
        return row["caption"]
    if kind == "image":
        return _image(root, row["file"], read_member)
    # a piece is cut before it is embedded, so that nothing leaks over the border of a split
    return read_sound(root / row["file"], start_s=_number(row["start_s"]), stop_s=_number(row["stop_s"]))


def _image(root: Path, file: str, read_member: Reader | None) -> np.ndarray:
    member = member_of(file)
    if member is None:
        return read_image(root / file)
    if read_member is None:
        raise ConfigError(f"{file}: lies in a file that holds many images; give read_member to read it")
    return read_member(root / member[0], *member[1:])


def _number(x: float | None) -> float | None:
    return None if x is None or x != x else float(x)


def _about(file: EmbeddingFile, *, unchanged: bool) -> dict[str, Any]:
    return {
        "path": str(file.path), "n": len(file.ids), "shape": list(file.row_shape), "rate_hz": file.rate_hz,
        "unchanged": unchanged,
    }  # fmt: skip
