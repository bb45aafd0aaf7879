"""Anatomical regions of intracranial contacts, from their MNI coordinates and a label image."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.stages.base import SignalInfo, Stage
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import sha256_file


class Regions(Stage):
    """Label every channel that has coordinates in `frame` with the region it lies in.

    A contact lies in the region of the nearest labelled voxel's centre, if that is within `reach_mm`; contacts in
    white matter or outside stay without one. Regions that the source gave stay. The signal is not touched.

    Parameters
    ----------
    atlas : path
        NIfTI label image in the frame's space, 0 = background.
    labels : path, mapping of int to str, or sequence of str, optional
        Names: a table with columns ``index`` and ``name`` (BIDS ``dseg.tsv``; separated by tabs or commas), or label →
        name, or the names of labels 1, 2, 3 …. Default: the numbers.
    frame : str
        Which coordinates are in the image's space.
    reach_mm : float
        Farthest that a labelled voxel may be.
    sha256 : str, optional
        Written by the preparation in place of the folder. With it, an atlas that is not there is no error: a model
        that travels without the atlas still prepares signals, and leaves regions empty.
    """

    def __init__(
        self,
        *,
        atlas: str | Path,
        labels: str | Path | Mapping[int, str] | Sequence[str] | None = None,
        frame: str = "mni",
        reach_mm: float = 3.0,
        sha256: str = "",
    ) -> None:
        if reach_mm < 0:
            raise ConfigError(f"stage 'regions': reach_mm is {reach_mm}; expected 0 or more")
        self.atlas, self.labels = Path(atlas).expanduser(), labels
        self.frame, self.reach_mm, self.sha256 = frame, reach_mm, sha256

    def describe(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entry with file names and a hash of their content in the place of paths."""
        if not self.atlas.exists():
            if self.sha256:
                return dict(entry)
            raise ConfigError(f"stage 'regions': {self.atlas}: no such file; set atlas to a NIfTI label image")
        out = {**entry, "atlas": self.atlas.name, "sha256": _hash(self.atlas, self.atlas.stat().st_mtime_ns)}
        if isinstance(self.labels, (str, Path)):
            out["labels"] = {str(k): v for k, v in _names(self.labels).items()}
        return out

    def start(self, info: SignalInfo) -> SignalInfo:
        """Begin an interval; write the regions into the channel table.

        Raises
        ------
        DataError
            When the atlas cannot be read.
        """
        if self.sha256 and not self.atlas.exists():
            return info
        image, affine = _image(self.atlas, self.atlas.stat().st_mtime_ns if self.atlas.exists() else 0)
        names = _names(self.labels)
        out = []
        for c in info.channels:
            place = np.array([c.x, c.y, c.z]) * 1000
            if c.frame == self.frame and not c.region and np.isfinite(place).all():
                label = nearest_label(image, affine, place, self.reach_mm)
                c = replace(c, region=names.get(label, str(label)) if label else "")
            out.append(c)
        return replace(info, channels=tuple(out))


def nearest_label(image: np.ndarray, affine: np.ndarray, place_mm: np.ndarray, reach_mm: float) -> int:
    """Return the label of the nearest non-zero voxel whose centre is within reach, or of the voxel itself; 0 = none.

    Parameters
    ----------
    image : array, shape (i, j, k), int
        Labels.
    affine : array, shape (4, 4)
        Voxel indices → millimetres.
    place_mm : array, shape (3,)
        Where.
    reach_mm : float
        Farthest distance to a voxel's centre.
    """
    centre = np.linalg.solve(affine[:3, :3], place_mm - affine[:3, 3])
    own = np.rint(centre).astype(int)
    if ((own >= 0) & (own < image.shape)).all() and image[tuple(own)]:
        return int(image[tuple(own)])
    # The rows of the inverse say how many voxels a step of one millimetre can span along each axis.
    span = np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1) * reach_mm
    low = np.maximum(np.ceil(centre - span).astype(int), 0)
    high = np.minimum(np.floor(centre + span).astype(int) + 1, image.shape)
    if (low >= high).any():
        return 0
    box = image[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    voxels = np.argwhere(box)
    away = np.linalg.norm((voxels + low) @ affine[:3, :3].T + affine[:3, 3] - place_mm, axis=1)
    if not len(voxels) or away.min() > reach_mm:
        return 0
    return int(box[tuple(voxels[np.argmin(away)])])


@lru_cache(maxsize=2)
def _image(path: Path, changed: int) -> tuple[np.ndarray, np.ndarray]:
    import nibabel

    try:
        image: Any = nibabel.load(path)
        labels = np.asanyarray(image.dataobj)
    except (OSError, ValueError, EOFError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"stage 'regions': {path.name} is no readable NIfTI label image ({error})") from error
    labels = labels[..., 0] if labels.ndim == 4 and labels.shape[3] == 1 else labels
    if labels.ndim != 3 or not np.array_equal(labels, np.rint(labels)):
        raise DataError(
            f"stage 'regions': {path.name} has shape {labels.shape} and type {labels.dtype}; expected whole numbers "
            "in three dimensions"
        )
    return labels.astype(np.int32), np.asarray(image.affine, dtype=np.float64)


@lru_cache(maxsize=2)
def _hash(path: Path, changed: int) -> str:
    return sha256_file(path)


def _names(labels: Any) -> dict[int, str]:
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        return {int(k): str(v) for k, v in labels.items()}
    if not isinstance(labels, (str, Path)):
        return {i: str(name) for i, name in enumerate(labels, start=1)}
    path = Path(labels).expanduser()
    try:
        with open(path, encoding="utf-8", newline="") as f:
            head = f.readline()
            f.seek(0)
            rows = list(csv.DictReader(f, delimiter="\t" if "\t" in head else ","))
        return {int(r["index"]): r["name"] for r in rows}
    except OSError as error:
        raise ConfigError(f"stage 'regions': labels {path}: cannot be read ({error.strerror})") from error
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"stage 'regions': labels {path.name}: expected a table with columns index, name") from error
