"""Whatever a user holds (an mne object, an array, a file, an image) → a recording, prepared like the training data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.flow import build_stages, run_stages, through
from data_prep.readers.array_recording import KINDS, UNITS
from data_prep.readers.from_epochs import recording_from_epochs
from data_prep.readers.from_mne import recording_from_raw
from data_prep.readers.nifti import recording_from_nifti
from data_prep.sources.files import MODALITIES, load_file
from data_prep.stages import STAGES
from data_prep.stages.resample import Resample
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.recording import Channel, Recording, Stream

ACCEPTED = (
    "an mne Raw or Epochs, an array [channel, time] with rate_hz and channel_names, a path to a file that mne opens, "
    "a NIfTI path with an atlas, or a data_prep Recording"
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A recording after the stages.

    Attributes
    ----------
    channels : tuple of Channel
        Good channels only; columns of the arrays.
    rate_hz : float
        Samples per second.
    interval_start_s : tuple of float
        Start of each valid interval.
    arrays : tuple of ndarray, shape (time, channel), float32
        One per interval.
    notes : tuple of str
        What was done that a user should know.
    """

    channels: tuple[Channel, ...]
    rate_hz: float
    interval_start_s: tuple[float, ...]
    arrays: tuple[np.ndarray, ...]
    notes: tuple[str, ...] = field(default=())


def recording_of(
    given: Any,
    *,
    rate_hz: float | None = None,
    channel_names: Sequence[str] | None = None,
    unit: str | None = None,
    modality: str | None = None,
    atlas: Any = None,
    labels: Mapping[int, str] | Sequence[str] | None = None,
    wanted: str = "",
) -> Recording:
    """Return what a user holds as a recording.

    Parameters
    ----------
    given
        See `ACCEPTED`; a three-dimensional array is [trial, channel, time].
    rate_hz, channel_names, unit, modality
        Of an array; `unit` is one of V, mV, uV, nV, T, pT, fT, au (default uV, fT or au by the modality). The modality
        also says what channels of unknown kind in a file are.
    atlas, labels, wanted
        Of an image; see `nifti.recording_from_nifti`.

    Raises
    ------
    ConfigError, DataError
        When something is missing or it cannot be read.
    """
    if modality is not None and modality not in KINDS:
        raise ConfigError(f"modality '{modality}' is unknown: {nearest(modality, KINDS)}")
    if isinstance(given, Recording):
        return given
    if isinstance(given, (str, Path)):
        path = Path(given)
        if not path.exists():
            raise DataError(f"{path}: no such file")
        if path.name.endswith((".nii", ".nii.gz")):
            subject = path.name.removesuffix(".gz").removesuffix(".nii")
            return recording_from_nifti(
                path, atlas=atlas, labels=labels, rate_hz=rate_hz, subject=subject, wanted=wanted
            )
        return _from_file(path, modality or "eeg")
    if hasattr(given, "affine") and hasattr(given, "dataobj"):
        return recording_from_nifti(given, atlas=atlas, labels=labels, rate_hz=rate_hz, wanted=wanted)
    if hasattr(given, "info") and hasattr(given, "get_data"):
        return _from_mne(given, modality)
    if isinstance(given, (np.ndarray, list, tuple)) or hasattr(given, "__array__"):
        return _from_array(np.asarray(given), rate_hz, channel_names, unit, modality)
    raise ConfigError(f"cannot read an object of type {type(given).__name__}; pass {ACCEPTED}")


def _from_file(path: Path, modality: str) -> Recording:
    if modality not in MODALITIES:
        raise ConfigError(f"{path}: files are read as one of {', '.join(MODALITIES)}, not as '{modality}'")
    try:
        return load_file(path.parent, path.name, {"subject": path.name.split(".")[0]}, None, modality, {})
    except (ValueError, OSError, RuntimeError, NotImplementedError, KeyError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise DataError(f"{path}: mne cannot open it ({reason[:200]}); pass {ACCEPTED}") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def _from_mne(given: Any, modality: str | None) -> Recording:
    kinds = set(given.get_channel_types())
    if modality is None:
        modality = "meg" if kinds & {"mag", "grad"} else "ieeg" if kinds & {"ecog", "seeg", "dbs"} else "eeg"
    from mne import BaseEpochs
    from mne.io import BaseRaw

    if isinstance(given, BaseRaw):
        return recording_from_raw(given, dataset="given", subject="given", modality=modality)
    if not isinstance(given, BaseEpochs):
        raise ConfigError(f"cannot read an object of type {type(given).__name__}; pass {ACCEPTED}")
    return recording_from_epochs(given.copy(), dataset="given", subject="given", modality=modality)


def _from_array(
    array: np.ndarray,
    rate_hz: float | None,
    channel_names: Sequence[str] | None,
    unit: str | None,
    modality: str | None,
) -> Recording:
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu":
        raise DataError(
            f"the array has shape {array.shape} and type {array.dtype}; expected numbers [channel, time], or "
            "[trial, channel, time]"
        )
    if rate_hz is None or not rate_hz > 0:
        raise ConfigError(f"an array needs its sampling rate: pass rate_hz= (samples per second), got {rate_hz}")
    n_channels = array.shape[-2]
    if channel_names is None or len(channel_names) != n_channels:
        have = "none" if channel_names is None else f"{len(channel_names)}"
        turned = ""
        if channel_names is not None and len(channel_names) == array.shape[-1]:
            turned = "; the array looks transposed, pass array.T"
        raise ConfigError(f"an array needs channel_names=, one for each of its {n_channels} rows, got {have}{turned}")
    if unit is not None and unit not in UNITS:
        raise ConfigError(f"unit '{unit}' is unknown: {nearest(unit, UNITS)}")
    if modality is None:
        stored = UNITS[unit or "uV"][0]
        modality = {"fT": "meg", "au": "fmri"}.get(stored, "eeg")
    stated = unit or {"meg": "fT", "eeg": "uV", "ieeg": "uV"}.get(modality, "au")
    stored, factor = UNITS[stated]
    channels = tuple(Channel(name=str(n), kind=KINDS[modality], unit=stored) for n in channel_names)
    trials = [t.T * factor for t in (array[None] if array.ndim == 2 else array)]
    step = float(np.ceil(array.shape[-1] / rate_hz) + 1)
    return Recording(
        dataset="given",
        subject="given",
        modality=modality,
        streams=(Stream.from_arrays(trials, rate_hz=float(rate_hz), channels=channels, unit=stored),),
        interval_start_s=tuple(i * step for i in range(len(trials))),
    )


def prepare_like(
    recording: Recording, *, stages: Sequence[Mapping[str, Any]], rate_hz: float, allow_import: bool = False
) -> Prepared:
    """Run the stages that a model's training data went through, and resample to its rate where they did not.

    Parameters
    ----------
    recording : Recording
        As the source gives it.
    stages : sequence of mapping
        ``{"name": …, **choices}`` as in a card's ``prep``.
    rate_hz : float
        What the model reads.
    allow_import : bool
        Whether a stage may be named by import path; only for models of your own.

    Raises
    ------
    ConfigError
        When a stage is not a registered one: a saved model can import nothing.
    DataError
        When the recording is not usable.
    """
    for stage in stages:
        STAGES.get(str(stage.get("name", "")), allow_import=allow_import)
    flow = run_stages(recording, build_stages(stages))
    notes = [
        f"the unit of channels of kind {k.removeprefix('unit_factor_')} was repaired: values were multiplied by {v:g}"
        for k, v in flow.figures.items()
        if k.startswith("unit_factor_") and v != 1
    ]
    if abs(flow.info.rate_hz / rate_hz - 1) > 1e-6:
        notes.append(f"resampled from {flow.info.rate_hz:g} to {rate_hz:g} Hz")
        flow = through(flow, Resample(rate_hz=rate_hz))
    good = [i for i, c in enumerate(flow.info.channels) if not c.bad]
    if not good:
        raise DataError(f"all {len(flow.info.channels)} channels are bad (the first: {flow.info.channels[0].reason})")
    arrays = []
    for i in range(len(flow.intervals)):
        blocks = [np.asarray(b)[:, good] for b in flow.blocks(i, 0, None)]
        arrays.append(np.concatenate(blocks).astype(np.float32) if blocks else np.empty((0, len(good)), np.float32))
    channels = tuple(flow.info.channels[i] for i in good)
    for c, channel in enumerate(channels):
        if not all(np.isfinite(a[:, c]).all() for a in arrays):
            raise DataError(
                f"channel '{channel.name}' holds values that are not finite, and the preparation of this model mends "
                "none; mark it bad or cut them out"
            )
    bad = [c.name for c in flow.info.channels if c.bad]
    if bad:
        notes.append(f"{len(bad)} bad channels were left out: {', '.join(bad[:10])}")
    return Prepared(
        channels=channels,
        rate_hz=flow.info.rate_hz,
        interval_start_s=tuple(i.start_s for i in flow.intervals),
        arrays=tuple(arrays),
        notes=tuple(notes),
    )
