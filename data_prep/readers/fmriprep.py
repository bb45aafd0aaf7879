"""What lies around a preprocessed run in BIDS: sidecars and events by inheritance, confounds by name or strategy."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.readers.tables import number, read_rows
from neurofm.schema.errors import ConfigError, DataError, nearest

PRESETS = ("simple", "scrubbing", "compcor", "ica_aroma")
COMPONENTS = ("motion", "high_pass", "wm_csf", "global_signal", "compcor", "ica_aroma", "scrub")
Confounds = str | Sequence[str] | Mapping[str, Any]


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities of a BIDS file name: ``{"sub": "01", "task": "rest", …}``."""
    from nilearn.interfaces.bids import parse_bids_filename

    found = parse_bids_filename(str(path))["entities"]
    return {k: v for k, v in found.items() if v is not None}


def related(root: Path, of: dict[str, str], ending: str) -> list[Path]:
    """Return the files that say something of a run by BIDS' inheritance principle, the most specific first.

    A file counts when it ends in `ending` and has no entity that differs from the run's; it lies in the run's
    folder, its session's, its subject's or the root.
    """
    subject = root / f"sub-{of.get('sub', '')}"
    session = subject / f"ses-{of['ses']}" if "ses" in of else subject
    out: list[Path] = []
    for folder in dict.fromkeys((session / "func", session, subject / "func", subject, root)):
        fits = [p for p in sorted(folder.glob(f"*{ending}")) if entities_of(p).items() <= of.items()]
        out += sorted(fits, key=lambda p: -len(entities_of(p)))
    return out


def sidecar_value(files: Sequence[Path], key: str) -> float | None:
    """Return a number from the first of the JSON files that has it.

    Raises
    ------
    DataError
        When a file is no JSON object or its value no number.
    """
    for path in files:
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path.name}: is not readable as JSON ({error})") from error
        if not isinstance(content, dict):
            raise DataError(f"{path.name}: holds no JSON object")
        if key in content:
            value = content[key]
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise DataError(f"{path.name}: field '{key}' is {value!r}; expected a number of seconds")
            return float(value)
    return None


def check_confounds(confounds: Confounds | None, source: str) -> None:
    """Check a choice of confounds before any file is read.

    Raises
    ------
    ConfigError
        When it is neither a preset, nor a list, nor arguments of ``load_confounds``.
    """
    if isinstance(confounds, str) and confounds not in PRESETS:
        raise ConfigError(
            f"source '{source}': confounds '{confounds}' is no strategy of nilearn: {nearest(confounds, PRESETS)} "
            "(columns are given as a list)"
        )
    if isinstance(confounds, Mapping):
        from inspect import signature

        from nilearn.interfaces.fmriprep import load_confounds

        known = set(signature(load_confounds).parameters) - {"img_files", "demean"}
        for key in confounds:
            if key not in known:
                raise ConfigError(f"source '{source}': confounds.{key} is unknown: {nearest(str(key), known)}")


def load(image: Path, confounds: Confounds, n_volumes: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Read the confounds of a run.

    Parameters
    ----------
    image : Path
        The preprocessed run; its ``desc-confounds`` table lies beside it.
    confounds : str, list of str or mapping
        A strategy of ``nilearn.interfaces.fmriprep.load_confounds_strategy``; a list of columns (``trans_*`` takes
        several) or of the components of ``load_confounds``; or arguments of ``load_confounds``.
    n_volumes : int
        Length of the run.

    Returns
    -------
    values : array, shape (volume, confound)
        Without gaps: a derivative's first value, which is missing, is its second.
    names : list of str
    keep : array of bool, shape (volume,)
        False for volumes before the steady state and those to be scrubbed.

    Raises
    ------
    DataError
        When the table is missing or does not fit.
    """
    if not isinstance(confounds, (str, Mapping)) and not set(confounds) <= set(COMPONENTS):
        values, names = _columns(confounds_table(image), list(confounds))
        keep = np.ones(len(values), bool)
    else:
        values, names, keep = _by_nilearn(image, confounds)
    if len(values) != n_volumes:
        raise DataError(f"{image.name}: has {n_volumes} volumes, its confounds table {len(values)} rows")
    if not keep.any():
        raise DataError(f"{image.name}: scrubbing leaves no volume; loosen its thresholds or choose other confounds")
    return values, names, keep


def confounds_table(image: Path) -> Path:
    """Return the confounds table beside a run.

    Raises
    ------
    DataError
        When there is none.
    """
    of = entities_of(image) | {"desc": "confounds"}
    for suffix in ("timeseries", "regressors"):
        for path in sorted(image.parent.glob(f"*_desc-confounds_{suffix}.tsv"), key=lambda p: -len(entities_of(p))):
            if entities_of(path).items() <= of.items():
                return path
    raise DataError(f"{image.name}: has no *_desc-confounds_timeseries.tsv beside it; set source.confounds=null")


def _columns(path: Path, wanted: list[str]) -> tuple[np.ndarray, list[str]]:
    rows = read_rows(path)
    there = list(rows[0]) if rows else []
    names: list[str] = []
    for pattern in wanted:
        fits = [c for c in there if fnmatchcase(c, pattern) and c not in names]
        if not fits and pattern not in names:
            raise DataError(f"{path.name}: has no column '{pattern}': {nearest(pattern, there)}")
        names += fits
    values = np.array([[number(r[c], path, i, c, missing=np.nan) for c in names] for i, r in enumerate(rows)])
    return _whole(values, names, path.name), names


def _by_nilearn(image: Path, confounds: Confounds) -> tuple[np.ndarray, list[str], np.ndarray]:
    from nilearn.interfaces.fmriprep import load_confounds, load_confounds_strategy

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if isinstance(confounds, str):
                table, mask = load_confounds_strategy(str(image), denoise_strategy=confounds)
            elif isinstance(confounds, Mapping):
                given = {k: tuple(v) if k == "strategy" else v for k, v in confounds.items()}
                table, mask = load_confounds(str(image), **given)
            else:
                table, mask = load_confounds(str(image), strategy=tuple(confounds))
    except (ValueError, KeyError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{image.name}: nilearn finds no such confounds ({reason[:300]})") from error
    n = len(confounds_rows(image)) if table is None else len(table)
    values = np.empty((n, 0)) if table is None else np.array(table, np.float64)
    names = [] if table is None else [str(c) for c in table.columns]
    keep = np.ones(n, bool)
    if mask is not None:
        keep[:] = False
        keep[np.asarray(mask, int)] = True
    return _whole(values, names, image.name), names, keep


def confounds_rows(image: Path) -> list[dict[str, str]]:
    """Return the rows of a run's confounds table as they stand."""
    return read_rows(confounds_table(image))


def _whole(values: np.ndarray, names: list[str], what: str) -> np.ndarray:
    """Fill the first row of derivatives; refuse any other gap."""
    if len(values) > 1 and values.size:
        values[0] = np.where(np.isfinite(values[0]), values[0], values[1])
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DataError(f"{what}: confound '{names[column]}' has no value in row {row + 1}")
    return values
