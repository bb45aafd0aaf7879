"""A NIfTI image and an atlas → region time series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.volumes import (
    checked_tr_s,
    header_tr_s,
    import_nibabel,
    on_grid_of,
    open_image,
    open_run,
    region_series,
)
from neurofm.schema.errors import ConfigError
from neurofm.schema.recording import Channel, Recording, Stream


def recording_from_nifti(
    image: Any,
    *,
    atlas: Any,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    rate_hz: float | None = None,
    subject: str = "given",
    wanted: str = "",
) -> Recording:
    """Average a run over the regions of a label image.

    Parameters
    ----------
    image : path or nibabel image
        Four-dimensional, volumes last; preprocessed, in the atlas's space.
    atlas : path or nibabel image
        Label image, 0 = background; resampled to the run's grid where it differs.
    labels : mapping of int to str, or sequence of str, optional
        Name of each label; a sequence names the labels in ascending order. Default: the numbers.
    rate_hz : float, optional
        1 / repetition time, where the header does not say.
    subject : str
        For the recording's id.
    wanted : str
        End of the sentence that says what regions are needed.

    Raises
    ------
    ConfigError
        When the atlas is missing, labels do not fit it, or nilearn is not installed.
    DataError
        When the image is no readable run.
    """
    name = Path(image).name if isinstance(image, (str, Path)) else "the image"
    if atlas is None:
        raise ConfigError(
            f"{name}: a NIfTI image becomes region time series first: pass atlas= (a label image in the same space) and "
            f"labels= (label → region name){wanted}"
        )
    import_nibabel(name)
    run, regions = open_run(image, name), open_image(atlas, "atlas")
    tr_s = 1 / rate_hz if rate_hz else checked_tr_s({"its header": header_tr_s(run)}, name, fix="pass rate_hz=1/TR")
    names = name_labels(labels, label_values(np.asanyarray(regions.dataobj)))
    placed = on_grid_of(run, regions, "the atlas", name, resample=True)
    found = label_values(placed)
    series = region_series(run, placed, found, name)
    channels = tuple(Channel(name=names[v], kind="bold", unit="au", region=names[v]) for v in found)
    return Recording(
        dataset="given",
        subject=subject,
        modality="fmri",
        streams=(Stream.from_arrays([series], rate_hz=rate_hz or 1 / tr_s, channels=channels, unit="au"),),
    )


def label_values(labels: np.ndarray) -> list[int]:
    """Labels of an atlas in ascending order, without the background 0."""
    return sorted(int(v) for v in np.unique(labels[np.isfinite(labels)]) if v != 0)


def name_labels(labels: Mapping[int, str] | Sequence[str] | None, values: list[int]) -> dict[int, str]:
    """Return a name for each label.

    Raises
    ------
    ConfigError
        When the names do not fit the labels.
    """
    if labels is None:
        return {v: str(v) for v in values}
    if isinstance(labels, Mapping):
        named = {int(k): str(v) for k, v in labels.items()}
        unnamed = [v for v in values if v not in named]
        if unnamed:
            raise ConfigError(f"labels: the atlas's label {unnamed[0]} has no name; name all {len(values)} of them")
        return named
    if len(labels) != len(values):
        raise ConfigError(f"labels: {len(labels)} names for the {len(values)} labels of the atlas; pass one per label")
    return dict(zip(values, map(str, labels), strict=True))
