"""A NIfTI image and an atlas → region time series, by nilearn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.recording import Channel, Recording, Stream

# NIfTI header: unit of the fourth dimension → seconds
TIME_UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


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
    try:
        import nibabel
        from nilearn.maskers import NiftiLabelsMasker
    except ImportError as error:
        raise ConfigError(f"{name}: needs nilearn; install it with: pip install 'neurofm[fmri]'") from error
    run, regions = _open(image, name, nibabel), _open(atlas, "atlas", nibabel)
    if len(run.shape) != 4 or run.shape[3] < 2:
        raise DataError(f"{name}: has shape {run.shape}; expected x, y, z and at least two volumes")
    rate = rate_hz if rate_hz is not None else _rate(run, name)
    values = sorted(int(v) for v in np.unique(np.asanyarray(regions.dataobj)) if v != 0)
    names = _names(labels, values)
    masker = NiftiLabelsMasker(
        regions, standardize=None, resampling_target="data", keep_masked_labels=False, reports=False, verbose=0
    )
    series = np.asarray(masker.fit_transform(run), np.float64)
    found = [masker.region_ids_[i] for i in range(series.shape[1])]
    channels = tuple(Channel(name=names[int(v)], kind="bold", unit="au", region=names[int(v)]) for v in found)
    return Recording(
        dataset="given",
        subject=subject,
        modality="fmri",
        streams=(Stream.from_arrays([series], rate_hz=float(rate), channels=channels, unit="au"),),
    )


def _open(image: Any, name: str, nibabel: Any) -> Any:
    if not isinstance(image, (str, Path)):
        return image
    try:
        return nibabel.load(image)
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"{image}: is not a readable NIfTI image for {name} ({error})") from error


def _rate(run: Any, name: str) -> float:
    header = run.header
    step = float(header.get_zooms()[3]) * TIME_UNITS.get(header.get_xyzt_units()[1], 1.0)
    if not (np.isfinite(step) and step > 0):
        raise DataError(f"{name}: its header states a repetition time of {step}; pass rate_hz=1/TR")
    # a float32 header says 0.72 as 0.72000003
    return 1 / float(f"{step:.6g}")


def _names(labels: Mapping[int, str] | Sequence[str] | None, values: list[int]) -> dict[int, str]:
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
