"""CIFTI-2 series (surface vertices and voxels in one matrix): which column is what, and means over an atlas's labels."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.volumes import BLOCK_BYTES, import_nibabel
from neurofm.schema.errors import DataError
from neurofm.schema.recording import Channel

# A column is told by its structure and its vertex, or its structure and its voxel's indices.
Place = tuple[str, int, int, int]


def open_cifti(path: Path) -> Any:
    """Open a CIFTI-2 file, its data still on disk.

    Raises
    ------
    DataError
        When it is none.
    """
    nibabel = import_nibabel(path.name)
    try:
        image = nibabel.load(path)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{path.name}: is not a readable CIFTI file ({error})") from error
    if not isinstance(image, nibabel.Cifti2Image):
        raise DataError(f"{path.name}: is an image but no CIFTI file; expected .dtseries.nii or .dlabel.nii")
    return image


def places_of(image: Any, name: str) -> list[Place]:
    """Return what each column of a CIFTI image is: (structure, vertex, -1, -1) or (structure, i, j, k).

    The medial wall has no columns, so the n-th column of a hemisphere is not its n-th vertex.

    Raises
    ------
    DataError
        When its second axis is none of vertices and voxels.
    """
    from nibabel.cifti2 import BrainModelAxis

    axis = image.header.get_axis(1)
    if not isinstance(axis, BrainModelAxis):
        raise DataError(f"{name}: its columns are {type(axis).__name__}; expected vertices and voxels")
    places: list[Place] = []
    for structure, vertex, voxel in zip(axis.name, axis.vertex, axis.voxel, strict=True):
        short = str(structure).removeprefix("CIFTI_STRUCTURE_").lower()
        i, j, k = (int(v) for v in voxel)
        places.append((short, int(vertex), -1, -1) if vertex >= 0 else (short, i, j, k))
    return places


def tr_of(image: Any, name: str) -> float:
    """Return the repetition time of a dense series in seconds.

    Raises
    ------
    DataError
        When its first axis is no series in seconds.
    """
    from nibabel.cifti2 import SeriesAxis

    axis = image.header.get_axis(0)
    if not isinstance(axis, SeriesAxis) or axis.unit != "SECOND" or not axis.step > 0:
        raise DataError(f"{name}: its rows are no series in seconds; expected a .dtseries.nii")
    return float(f"{axis.step:.6g}")


def read_atlas(path: Path) -> tuple[dict[Place, int], dict[int, str]]:
    """Read a dense label file.

    Returns
    -------
    labels : dict
        Place → label, without the background 0.
    names : dict
        Label → name.
    """
    from nibabel.cifti2 import LabelAxis

    image = open_cifti(path)
    axis = image.header.get_axis(0)
    if not isinstance(axis, LabelAxis):
        raise DataError(f"{path.name}: holds no labels; expected a .dlabel.nii")
    values = np.asarray(image.dataobj[0]).ravel().astype(int)
    labels = {p: int(v) for p, v in zip(places_of(image, path.name), values, strict=True) if v != 0}
    return labels, {int(k): str(v[0]) for k, v in axis.label[0].items()}


def row_blocks(image: Any, name: str) -> Iterator[np.ndarray]:
    """Yield a dense series as arrays of shape (a few volumes, column), float64.

    Raises
    ------
    DataError
        When the file ends before its header says.
    """
    n, columns = image.shape
    size = max(1, BLOCK_BYTES // (8 * columns))
    for a in range(0, n, size):
        try:
            block = np.asarray(image.dataobj[a : min(a + size, n)], np.float64)
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise DataError(f"{name}: ends before its {n} volumes, or is damaged ({error})") from error
        yield block


def parcel_series(image: Any, atlas: Path, name: str) -> tuple[tuple[Channel, ...], np.ndarray]:
    """Mean over the columns of each label of an atlas, matched by vertex and voxel.

    Returns
    -------
    channels : tuple of Channel
        In ascending order of the labels.
    values : array, shape (volume, label), float64

    Raises
    ------
    DataError
        When the atlas has no place in common with the series.
    """
    from scipy.sparse import csr_array

    labels, names = read_atlas(atlas)
    column_labels = np.array([labels.get(p, 0) for p in places_of(image, name)])
    found = sorted(set(column_labels.tolist()) - {0})
    if not found:
        raise DataError(f"{name}: no vertex or voxel of {atlas.name} is in it; they are of different meshes or spaces")
    inside = np.flatnonzero(column_labels)
    row = np.searchsorted(found, column_labels[inside])
    size = np.bincount(row)[row]
    mean = csr_array((1 / size, (row, np.arange(len(inside)))), shape=(len(found), len(inside)))
    values = np.concatenate([(mean @ block[:, inside].T).T for block in row_blocks(image, name)])
    stem = atlas.name.split(".")[0].lower()
    channels = tuple(
        Channel(name=names.get(v, str(v)), canonical=f"{stem}:{names.get(v, str(v)).lower()}", kind="bold", unit="au",
                region=names.get(v, str(v)))
        for v in found
    )  # fmt: skip
    return channels, values


def place_series(image: Any, structures: list[str], name: str) -> tuple[tuple[Channel, ...], np.ndarray]:
    """Every column of some structures as a channel: ``cortex_left-00012``, ``thalamus_left-041-060-033``.

    Returns
    -------
    channels : tuple of Channel
    values : array, shape (volume, column), float32

    Raises
    ------
    DataError
        When a structure is not there.
    """
    places = places_of(image, name)
    there = {p[0] for p in places}
    for s in structures:
        if s not in there:
            raise DataError(f"{name}: has no structure '{s}'; it has {', '.join(sorted(there))}")
    inside = [i for i, p in enumerate(places) if p[0] in structures]
    values = np.concatenate([block[:, inside].astype(np.float32) for block in row_blocks(image, name)])
    return tuple(Channel(name=_name(places[i]), kind="bold", unit="au", region=places[i][0]) for i in inside), values


def _name(place: Place) -> str:
    structure, *at = place
    return f"{structure}-{at[0]:05d}" if at[1] < 0 else f"{structure}-" + "-".join(f"{i:03d}" for i in at)
