"""From a run to channels: the mean of each region of an atlas, or every voxel of a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.nifti import label_values, name_labels
from data_prep.readers.tables import read_labels
from data_prep.readers.volumes import on_grid_of, open_image, positions_m, region_series, voxel_series
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import sha256_file
from neurofm.schema.recording import Channel

# NIfTI sform codes of spaces that people share.
FRAMES = {3: "talairach", 4: "mni"}


@dataclass(frozen=True, kw_only=True)
class Masking:
    """Which voxels become which channels.

    Attributes
    ----------
    root : Path
        Where relative paths are looked for first; then the working folder.
    atlas : str, optional
        Label image, 0 = background: one channel per label.
    mask : str, optional
        Voxels above 0 are one channel each; an atlas beside it gives them their regions.
    labels : str, optional
        Table of the atlas's region names.
    resample : bool
        Put atlas and mask on the run's grid by nearest neighbour where they differ.

    `atlas` and `mask` may hold ``{subject}`` and ``{session}``, for images in each person's own space.
    """

    root: Path
    atlas: str | None = None
    mask: str | None = None
    labels: str | None = None
    resample: bool = False

    def check(self, source: str) -> None:
        """Check that there is something to mask with, before any run is read.

        Raises
        ------
        ConfigError
            When neither atlas nor mask is given, or a file is missing.
        """
        if self.atlas is None and self.mask is None:
            raise ConfigError(f"source '{source}' needs atlas (a label image) or mask (an image of voxels to keep)")
        for name, file in (("atlas", self.atlas), ("mask", self.mask), ("labels", self.labels)):
            if file is not None and "{" not in file and not self._path(file, {}).is_file():
                raise ConfigError(f"source '{source}': {name} '{file}' is no file")

    def describe(self) -> dict[str, Any]:
        """Return file names with checksums; the folders stay out of the dataset."""
        out: dict[str, Any] = {"resample": self.resample}
        for name, file in (("atlas", self.atlas), ("mask", self.mask), ("labels", self.labels)):
            if file is None:
                out[name] = None
                continue
            path = self._path(file, {})
            out[name] = {"file": Path(file).name, "sha256": sha256_file(path) if path.is_file() else ""}
        return out

    def files(self, who: dict[str, str]) -> list[Path]:
        """Return the files that the channels of one recording depend on, those that exist."""
        paths = [self._path(f, who) for f in (self.atlas, self.mask, self.labels) if f is not None]
        return [p for p in paths if p.is_file()]

    def _path(self, file: str, who: dict[str, str]) -> Path:
        for field, value in who.items():
            file = file.replace(f"{{{field}}}", value)
        path = Path(file).expanduser()
        under = self.root / path
        return under if under.exists() else path

    def series(self, run: Any, name: str, who: dict[str, str], frame: str) -> tuple[tuple[Channel, ...], np.ndarray]:
        """Read a run.

        Parameters
        ----------
        run : nibabel image
        name : str
            For errors.
        who : dict of str to str
            What stands for ``{subject}`` and ``{session}``.
        frame : str
            Coordinate frame of the run; "" = as its header says.

        Returns
        -------
        channels : tuple of Channel
            With positions in metres: a region's is the mean of its voxels.
        values : array, shape (volume, channel)

        Raises
        ------
        DataError
            When the images do not fit the run.
        """
        frame = frame or FRAMES.get(int(run.header["sform_code"]), "scanner")
        placed, names = (None, {}) if self.atlas is None else self._regions(self.atlas, run, name, who)
        if self.mask is not None:
            inside = self._placed(self.mask, "mask", run, name, who) > 0
            if not inside.any():
                raise DataError(f"{name}: its mask '{Path(self.mask).name}' has no voxel above 0")
            at = np.argwhere(inside)
            region = [""] * len(at) if placed is None else [names.get(int(v), "") for v in placed[inside]]
            return voxel_channels(at, run.affine, frame, region), voxel_series(run, inside, name)
        assert placed is not None
        found = label_values(placed)
        stem = Path(self.atlas or "").name.split(".")[0].lower()
        channels = region_channels(placed, found, names, run.affine, frame, stem)
        return channels, region_series(run, placed, found, name)

    def _placed(self, file: str, what: str, run: Any, name: str, who: dict[str, str]) -> np.ndarray:
        path = self._path(file, who)
        if not path.is_file():
            raise DataError(f"{name}: its {what} '{path.name}' is no file")
        return on_grid_of(run, open_image(path, f"the {what}"), f"the {what} {path.name}", name, resample=self.resample)

    def _regions(self, atlas: str, run: Any, name: str, who: dict[str, str]) -> tuple[np.ndarray, dict[int, str]]:
        """Labels on the run's grid, and the names of all the atlas has: a small region may be lost in resampling."""
        placed = self._placed(atlas, "atlas", run, name, who)
        image = open_image(self._path(atlas, who), "the atlas")
        table = None if self.labels is None else read_labels(self._path(self.labels, who))
        return placed, name_labels(table, label_values(np.asanyarray(image.dataobj)))


def region_channels(
    labels: np.ndarray, values: list[int], names: dict[int, str], affine: np.ndarray, frame: str, atlas: str
) -> tuple[Channel, ...]:
    """Return one channel per region, at the mean of its voxels.

    Parameters
    ----------
    labels : array, shape (x, y, z)
    values : list of int
        Labels in the order of the channels.
    names : dict of int to str
    affine : array, shape (4, 4)
        Indices → millimetres.
    frame : str
        As in the channel table.
    atlas : str
        First part of the canonical names.
    """
    from scipy.ndimage import center_of_mass

    centres = np.array(center_of_mass(np.ones(labels.shape, np.float32), labels, values)).reshape(-1, 3)
    return tuple(
        Channel(
            name=names[v], canonical=f"{atlas}:{names[v].lower()}", kind="bold", unit="au", x=x, y=y, z=z,
            frame=frame, region=names[v],
        )
        for v, (x, y, z) in zip(values, positions_m(affine, centres).tolist(), strict=True)
    )  # fmt: skip


def voxel_channels(
    at: np.ndarray, affine: np.ndarray, frame: str, regions: list[str], *, unit: str = "au"
) -> tuple[Channel, ...]:
    """Return one channel per voxel, named by its indices: ``v012-034-056``.

    Parameters
    ----------
    at : array, shape (voxel, 3), int
    affine : array, shape (4, 4)
        Indices → millimetres.
    frame, regions, unit
        As in the channel table.
    """
    places = positions_m(affine, at).tolist()
    return tuple(
        Channel(name=f"v{i:03d}-{j:03d}-{k:03d}", kind="bold", unit=unit, x=x, y=y, z=z, frame=frame, region=region)
        for (i, j, k), (x, y, z), region in zip(at.tolist(), places, regions, strict=True)
    )
