"""Four-dimensional images read a few volumes at a time: means over the regions of an atlas, or the voxels of a mask."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import ConfigError, DataError

# NIfTI header: unit of the fourth dimension → seconds
TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
# Volumes are read in pieces of about this size, as float64.
BLOCK_BYTES = 64 << 20
# Two grids are the same when no corner of one lies further from the other's than this part of a voxel.
SAME_GRID = 0.05
# A repetition time beyond this many seconds is one in milliseconds whose unit is missing.
LONGEST_TR_S = 30.0


def import_nibabel(name: str) -> Any:
    """Return the package nibabel.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    try:
        import nibabel
        import nilearn  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{name}: needs nilearn; install it with: pip install 'neurofm[fmri]'") from error
    return nibabel


def open_image(image: Any, what: str) -> Any:
    """Open a path as an image, its data still on disk; an image is returned as it is.

    Raises
    ------
    DataError
        When the file is no readable image.
    """
    if not isinstance(image, (str, Path)):
        return image
    nibabel = import_nibabel(what)
    try:
        # Without an open file every block of a .nii.gz would be decompressed from the file's beginning.
        return nibabel.load(image, keep_file_open=True)
    except (OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{image}: is not a readable NIfTI image for {what} ({error})") from error


def open_run(image: Any, name: str) -> Any:
    """Open a run.

    Raises
    ------
    DataError
        When it is not a series of at least two volumes.
    """
    run = open_image(image, name)
    if len(run.shape) != 4 or run.shape[3] < 2:
        raise DataError(f"{name}: has shape {run.shape}; expected x, y, z and at least two volumes")
    return run


def header_tr_s(run: Any) -> float | None:
    """Repetition time that a run's header states, in seconds; None where it states none.

    A header that was never filled in says 1 without a unit, or 0.
    """
    step, unit = float(run.header.get_zooms()[3]), run.header.get_xyzt_units()[1]
    if not (np.isfinite(step) and step > 0) or (unit not in TIME_UNITS and step == 1):
        return None
    # a float32 header says 0.72 as 0.72000003
    return float(f"{step * TIME_UNITS.get(unit, 1.0):.6g}")


def checked_tr_s(stated: dict[str, float | None], name: str, *, fix: str) -> float:
    """Return the repetition time on which all that state one agree.

    Parameters
    ----------
    stated : dict of str to (float or None)
        Who says it → seconds; the first that says any is believed.
    name : str
        The image, for the error.
    fix : str
        End of the sentence that says what to set.

    Raises
    ------
    DataError
        When nobody says it, two contradict each other by over 1 %, or it cannot be a repetition time.
    """
    said = {who: s for who, s in stated.items() if s is not None}
    if not said:
        raise DataError(f"{name}: no repetition time is stated by {' or '.join(stated)}; {fix}")
    first, tr_s = next(iter(said.items()))
    for who, s in said.items():
        if abs(s / tr_s - 1) > 0.01:
            raise DataError(f"{name}: repetition time is {tr_s:g} s by {first} and {s:g} s by {who}; {fix}")
    if not 0 < tr_s <= LONGEST_TR_S:
        raise DataError(f"{name}: {first} states a repetition time of {tr_s:g} s; {fix}")
    return tr_s


def on_grid_of(run: Any, image: Any, what: str, name: str, *, resample: bool) -> np.ndarray:
    """Return the values of a mask or label image on the grid of a run.

    Axes in another order or direction are the same grid: places are told by the affine.

    Parameters
    ----------
    run : nibabel image
        The run.
    image : nibabel image
        Mask or labels, three-dimensional.
    what, name : str
        What it is, and the run's name, for the error.
    resample : bool
        Resample it by nearest neighbour where its grid differs, as nilearn does.

    Returns
    -------
    array, shape (x, y, z)

    Raises
    ------
    DataError
        When the grids differ and `resample` is false, or nothing of it lies inside the run's.
    """
    if len(image.shape) == 4 and image.shape[3] == 1:
        image = image.slicer[..., 0]
    if len(image.shape) != 3:
        raise DataError(f"{what}: has shape {image.shape}; expected x, y, z")
    if same_grid(run, image) or same_grid(run, image := turned_like(run, image)):
        return np.asanyarray(image.dataobj)
    if not resample:
        raise DataError(
            f"{name}: is no image in the space of {what}: shape {run.shape[:3]} and {image.shape}, "
            f"affine {_affine(run)} and {_affine(image)}; choose images of one space, or set resample=true to put "
            f"{what} on the run's grid"
        )
    from nilearn.image import resample_img
    from nilearn.image.resampling import BoundingBoxError

    try:
        moved = resample_img(
            image, target_affine=run.affine, target_shape=run.shape[:3], interpolation="nearest", copy_header=True,
            force_resample=True,
        )  # fmt: skip
        values = np.asanyarray(moved.dataobj)
    except BoundingBoxError:
        values = np.zeros(run.shape[:3])
    if not values.any():
        raise DataError(f"{name}: nothing of {what} lies inside it; their affines do not belong to one space")
    return values


def same_grid(a: Any, b: Any) -> bool:
    """Whether the voxels of two images lie on each other."""
    if a.shape[:3] != b.shape[:3]:
        return False
    corners = np.array([(*c, 1) for c in product(*((0, n - 1) for n in a.shape[:3]))], dtype=np.float64).T
    apart = np.abs((a.affine @ corners - b.affine @ corners)[:3]).max()
    return bool(apart <= SAME_GRID * np.linalg.norm(a.affine[:3, :3], axis=0).min())


def turned_like(run: Any, image: Any) -> Any:
    """Return an image with its axes in the order and the directions of a run's; nothing is resampled."""
    from nibabel import orientations

    there, wanted = (orientations.io_orientation(i.affine) for i in (image, run))
    return image.as_reoriented(orientations.ornt_transform(there, wanted))


def _affine(image: Any) -> str:
    rows = "; ".join(" ".join(f"{v:.4g}" for v in row) for row in image.affine[:3])
    return f"[{rows}]"


def volume_blocks(run: Any, name: str) -> Iterator[np.ndarray]:
    """Yield a run as arrays of shape (x, y, z, a few volumes), in order.

    Raises
    ------
    DataError
        When the file ends before its header says.
    """
    n = run.shape[3]
    size = max(1, BLOCK_BYTES // (8 * int(np.prod(run.shape[:3]))))
    for a in range(0, n, size):
        try:
            block = np.asanyarray(run.dataobj[..., a : min(a + size, n)])
        except (EOFError, OSError, ValueError, zlib.error) as error:
            raise DataError(f"{name}: ends before its {n} volumes, or is damaged ({error})") from error
        yield block


def region_series(run: Any, labels: np.ndarray, values: list[int], name: str) -> np.ndarray:
    """Mean over the voxels of each region, volume by volume.

    Voxels that are not finite (outside the brain in some packages' output) are left out of the mean.

    Parameters
    ----------
    run : nibabel image
    labels : array, shape (x, y, z), int
        On the run's grid.
    values : list of int
        The labels wanted, each with at least one voxel.
    name : str
        For errors.

    Returns
    -------
    array, shape (volume, region), float64
        NaN where no voxel of the region is finite.
    """
    from scipy.sparse import csr_array

    flat = labels.ravel()
    inside = np.flatnonzero(np.isin(flat, values))
    row = np.searchsorted(values, flat[inside])
    sums = csr_array((np.ones(len(inside)), (row, np.arange(len(inside)))), shape=(len(values), len(inside)))
    out = []
    for block in volume_blocks(run, name):
        x = np.asarray(block.reshape(-1, block.shape[3])[inside], dtype=np.float64)
        there = np.isfinite(x)
        count = sums @ there.astype(np.float64)
        with np.errstate(invalid="ignore"):
            out.append((sums @ np.where(there, x, 0.0) / count).T)
    return np.concatenate(out)


def voxel_series(run: Any, mask: np.ndarray, name: str) -> np.ndarray:
    """Values of the voxels of a mask.

    Returns
    -------
    array, shape (volume, voxel), float32
        Voxels in the order of ``np.argwhere(mask)``.
    """
    inside = np.flatnonzero(mask.ravel())
    rows = [block.reshape(-1, block.shape[3])[inside].T.astype(np.float32) for block in volume_blocks(run, name)]
    return np.concatenate(rows)


def positions_m(affine: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Return voxel indices, shape (n, 3), as positions in metres (NIfTI affines are in millimetres)."""
    return (voxels @ affine[:3, :3].T + affine[:3, 3]) / 1000
