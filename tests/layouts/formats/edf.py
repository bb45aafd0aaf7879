"""EDF and EDF+ through edfio, on a grid of 0.01 µV so that what is written is exactly what is read."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STEP_UV = 0.01


def microvolts(rng: np.random.Generator, n: int, n_channels: int, sd_uv: float = 25.0) -> np.ndarray:
    """Return noise of the size of EEG on the grid, shape (time, channel)."""
    return np.round(np.clip(rng.normal(0, sd_uv, (n, n_channels)), -300, 300), 2)


def put_edf(
    path: Path,
    values: np.ndarray | None,
    *,
    rate_hz: float = 0.0,
    names: Sequence[str] = (),
    others: Sequence[tuple[str, np.ndarray, float]] = (),
    notes: Sequence[tuple[float, float | None, str]] = (),
    record_s: float | None = None,
    start: datetime.time = datetime.time(0, 0, 0),
    day: datetime.date | None = None,
    code: str = "X",
    sex: str = "X",
    more: Sequence[str] = (),
) -> None:
    """Write one file.

    Parameters
    ----------
    values : array, shape (time, channel), or None
        In µV; None = a file of annotations only.
    others : sequence of (name, values, rate)
        Further channels, after those of `values`.
    notes : sequence of (onset_s, duration_s or None, text)
        EDF+ annotations.
    record_s : float
        Length of a data record.
    more : sequence of str
        Further words of the patient field, such as ``Age:61``.
    """
    from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording

    columns = [] if values is None else [(n, v, rate_hz) for n, v in zip(names, values.T, strict=True)]
    span = (-32768 * STEP_UV, 32767 * STEP_UV)
    signals = [
        EdfSignal(
            np.asarray(v, dtype=np.float64), r, label=n, physical_dimension="uV", physical_range=span,
            digital_range=(-32768, 32767),
        )
        for n, v, r in [*columns, *others]
    ]  # fmt: skip
    whole = {} if record_s is None else {"data_record_duration": record_s}
    edf = Edf(
        signals,
        patient=Patient(code=code, sex=sex, additional=tuple(more)),
        recording=Recording(startdate=day),
        starttime=start,
        annotations=[EdfAnnotation(*n) for n in notes] or None,
        **whole,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    edf.write(path)
