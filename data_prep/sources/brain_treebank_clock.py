"""From a film's clock to samples of the recording, by the triggers that were sent while it played."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.readers.tables import number_or_nan, stream_rows
from neurofm.schema.errors import DataError

# Between two triggers the recording may be longer than the film by this much before a pause is assumed.
SLACK_S = 0.1
SLACK_PART = 0.02


@dataclass(frozen=True, kw_only=True)
class MovieClock:
    """Triggers in order of film time.

    The film's time stands still in a pause while samples go on: two triggers with one film time. A moment that
    falls on a pause belongs to what is played after it.

    Attributes
    ----------
    index : array, shape (trigger,), float64
        Sample of each trigger.
    movie_s : array, shape (trigger,), float64
        Film time of each trigger.
    """

    index: np.ndarray
    movie_s: np.ndarray

    def rate_hz(self, nominal: tuple[float, ...]) -> float:
        """Return the one of `nominal` that the triggers speak for.

        Raises
        ------
        DataError
            When the median of samples per second of film is more than 5 % off each of them.
        """
        step = np.diff(self.movie_s)
        if not (step > 0).any():
            return nominal[0]
        measured = float(np.median(np.diff(self.index)[step > 0] / step[step > 0]))
        best = min(nominal, key=lambda r: abs(r / measured - 1) if measured > 0 else math.inf)
        if not abs(measured / best - 1) < 0.05:
            known = " or ".join(f"{r:g}" for r in nominal)
            raise DataError(f"triggers are {measured:.1f} samples per second of film apart, expected {known}")
        return best

    def sample_of(self, movie_s: float, rate_hz: float) -> float:
        """Return the sample (not rounded) at which a moment of the film was played.

        Between two triggers it is interpolated. Where more was recorded between them than played, a pause lies at
        an unknown place, and the nearer trigger counts. Outside the triggers the rate is used.
        """
        k = int(np.searchsorted(self.movie_s, movie_s, side="right")) - 1
        if k < 0:
            return float(self.index[0] - (self.movie_s[0] - movie_s) * rate_hz)
        after = movie_s - self.movie_s[k]
        if k + 1 == len(self.movie_s):
            return float(self.index[k] + after * rate_hz)
        played, recorded = self.movie_s[k + 1] - self.movie_s[k], self.index[k + 1] - self.index[k]
        if abs(recorded / rate_hz - played) <= SLACK_S + SLACK_PART * played:
            return float(self.index[k] + recorded * after / played)
        if after <= played - after:
            return float(self.index[k] + after * rate_hz)
        return float(self.index[k + 1] - (played - after) * rate_hz)


def read_clock(path: Path) -> MovieClock:
    """Read a table with the columns `index` (sample) and `movie_time` (seconds).

    Rows that lack one of them are dropped; of rows with the same index the last counts.

    Raises
    ------
    DataError
        When a column is missing or no row is left.
    """
    rows: dict[float, float] = {}
    for row in stream_rows(path, "index", "movie_time"):
        index, movie_s = number_or_nan(row["index"]), number_or_nan(row["movie_time"])
        if math.isfinite(index) and math.isfinite(movie_s):
            rows[index] = movie_s
    if not rows:
        raise DataError(f"{path.name}: holds no trigger with a sample and a film time")
    ordered = sorted((movie_s, index) for index, movie_s in rows.items())
    return MovieClock(index=np.array([i for _, i in ordered]), movie_s=np.array([m for m, _ in ordered]))
