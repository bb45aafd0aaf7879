"""Whose mean and standard deviation a person's values are expressed in, and what that makes of the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.schema.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Mean and standard deviation per region, and where they come from.

    Attributes
    ----------
    mean, sd : array, shape (region,), float64
        In the recording's unit.
    source : str
        In words, for the report.
    transductive : bool
        Whether the tested volumes had a part in it.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    source: str
    transductive: bool = False

    def apply(self, values: ArrayLike) -> NDArray[np.float64]:
        """Values of shape (time, region) in standard deviations from the mean."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.sd


def fit_normaliser(values: ArrayLike, *, source: str, transductive: bool = False) -> Normaliser:
    """Mean and standard deviation over time of `values`, shape (time, region).

    Raises
    ------
    DataError
        When a region does not vary or a value is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise DataError(f"normalisation ({source}): expected (time, region) with at least 2 volumes, got {x.shape}")
    if not np.isfinite(x).all():
        raise DataError(f"normalisation ({source}): region {np.argmin(np.isfinite(x).all(0))} has a value not finite")
    sd = x.std(0)
    flat = np.flatnonzero(sd <= 1e-9 * np.maximum(1e-30, np.abs(x).max(0)))
    if len(flat):
        raise DataError(f"normalisation ({source}): region {flat[0]} does not vary; mark it bad in channels.parquet")
    return Normaliser(mean=x.mean(0), sd=sd, source=source, transductive=transductive)


def held_out_normaliser(
    calibration: ArrayLike, *, population: Sequence[ArrayLike] = (), unlabelled: ArrayLike | None = None
) -> Normaliser:
    """Make the honest normaliser of a new person: from its calibration volumes and nothing else.

    With no calibration volume there is no honest figure of its own. Then, in this order: the `unlabelled` volumes that
    were recorded before the test and are used for their mean and standard deviation only (said so in `source`), or the
    average over the `population` of each region's mean and standard deviation.

    Parameters
    ----------
    calibration : array_like, shape (n, region)
        The first n volumes of the person; n may be 0.
    population : sequence of array_like, shape (time, region)
        Runs of other people, in the same unit.
    unlabelled : array_like, shape (m, region), optional
        Volumes before the test for the case n = 0.
    """
    values = np.asarray(calibration, dtype=np.float64)
    if len(values):
        return fit_normaliser(values, source=f"its first {len(values)} volumes")
    if unlabelled is not None and len(np.asarray(unlabelled)):
        m = len(np.asarray(unlabelled))
        return fit_normaliser(unlabelled, source=f"its first {m} volumes, for mean and standard deviation only")
    if not len(population):
        raise DataError("normalisation: no calibration volumes and no population to take the figures from")
    others = [fit_normaliser(p, source="population") for p in population]
    mean = np.mean([o.mean for o in others], axis=0)
    sd = np.mean([o.sd for o in others], axis=0)
    return Normaliser(mean=mean, sd=sd, source=f"the average of {len(others)} other people")


def transductive_normaliser(run: ArrayLike) -> Normaliser:
    """Mean and standard deviation of the whole run, the tested part included; every score made with it is labelled."""
    return fit_normaliser(run, source="the whole run, test included (transductive)", transductive=True)
