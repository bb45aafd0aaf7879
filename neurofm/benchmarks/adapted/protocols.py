"""The one path by which every model and every baseline is scored.

A protocol hands a `predict` callable nothing but what it may see, collects what it says and compares it with the truth.
The callable knows neither the truth nor where in the test span it stands. Decoders of trials: `adapted.trial_decoders`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.stats.metrics import pearson_per_region, r2_per_region
from neurofm.schema.errors import ConfigError, DataError

PredictMasked = Callable[[NDArray[np.float64], int], ArrayLike]
PredictNext = Callable[[NDArray[np.float64]], ArrayLike]


@dataclass(frozen=True, kw_only=True)
class TraceScores:
    """Predicted against true traces and what they are worth.

    Attributes
    ----------
    regions : array, shape (target,), int
        Which columns of the test span were scored.
    times : array, shape (time,), int
        Which rows of the test span were scored, in volumes from its start.
    true, predicted : array, shape (time, target)
        In the normalised unit of the test span.
    r2, r : array, shape (target,)
        R² (see `metrics.r2_per_region`) and Pearson correlation per region.
    """

    regions: NDArray[np.int64]
    times: NDArray[np.int64]
    true: NDArray[np.float64]
    predicted: NDArray[np.float64]
    r2: NDArray[np.float64]
    r: NDArray[np.float64]

    @property
    def mean_r2(self) -> float:
        """R² averaged over regions."""
        return float(np.nanmean(self.r2))


def _score(true: NDArray, predicted: NDArray, regions: NDArray, times: NDArray) -> TraceScores:
    return TraceScores(
        regions=regions,
        times=times,
        true=true,
        predicted=predicted,
        r2=r2_per_region(true, predicted),
        r=pearson_per_region(true, predicted),
    )


def _test_span(test: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(test, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"test span: expected finite values of shape (time, region), got {x.shape}")
    return x


def _answer(value: ArrayLike, shape: tuple[int, ...], what: str) -> NDArray[np.float64]:
    x = np.asarray(value, dtype=np.float64)
    if x.shape != shape:
        raise DataError(f"{what}: predict returned shape {x.shape}, expected {shape}")
    return x


def every_third_region(n_regions: int) -> list[int]:
    """Targets of the masked-region protocol: 0, 3, 6 and so on."""
    return list(range(0, n_regions, 3))


def tile(n_volumes: int, window: int | None, margin: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Windows over a span and, for each volume, the window that scores it: the one it lies most centrally in.

    Returns
    -------
    starts : array, shape (window,)
        The last window is moved back so that it ends with the span.
    owner : array, shape (n_volumes,)
        Index into `starts`.
    """
    length = n_volumes if window is None else int(window)
    if length > n_volumes:
        raise ConfigError(f"window: {length} volumes are more than the {n_volumes} of the test span")
    if length - 2 * margin < 1:
        raise ConfigError(f"margin: 2 · {margin} leaves nothing of a window of {length} volumes")
    starts = np.arange(0, max(1, n_volumes - length + 1), length - 2 * margin)
    if starts[-1] + length < n_volumes:
        starts = np.append(starts, n_volumes - length)
    centres = starts + (length - 1) / 2
    owner = np.abs(np.arange(n_volumes)[:, None] - centres[None, :]).argmin(1)
    return starts, owner


def masked_region_scores(
    predict: PredictMasked,
    test: ArrayLike,
    *,
    targets: Sequence[int] | None = None,
    window: int | None = None,
    margin: int = 0,
    edge: int = 1,
) -> TraceScores:
    """Hide one region at a time for the whole window and score how well the others tell it.

    Parameters
    ----------
    predict : callable (values (window, time, region), hidden) -> (window, time)
        `values` are copies in which the hidden region is NaN at all times; the answer is that region's trace in the
        same unit. It may be NaN only where nothing is scored (`edge`, and windows' margins).
    test : array_like, shape (time, region)
        Normalised by figures that may be known (see `normalise`).
    targets : sequence of int, optional
        Default: every third region.
    window, margin : int
        Windows of this many volumes (None: one window over the whole span) that overlap by 2 · margin; each volume is
        scored from the window it lies most centrally in. The answers, not the scored volumes, depend on it.
    edge : int
        Volumes at each end of the span that nobody is scored on: 1, so that a ridge with lags ±1 is on equal terms.
    """
    x = _test_span(test)
    regions = np.asarray(every_third_region(x.shape[1]) if targets is None else targets, dtype=np.int64)
    if len(x) <= 2 * edge:
        raise DataError(f"masked regions: {len(x)} volumes leave nothing to score with edge={edge}")
    starts, owner = tile(len(x), window, margin)
    length = len(x) if window is None else window
    windows = np.stack([x[s : s + length] for s in starts])
    volume = np.arange(len(x))
    predicted = np.empty((len(x), len(regions)))
    for column, region in enumerate(regions):
        visible = windows.copy()
        visible[:, :, region] = np.nan
        said = _answer(predict(visible, int(region)), windows.shape[:2], "masked regions")
        predicted[:, column] = said[owner, volume - starts[owner]]
    times = volume[edge : len(x) - edge]
    return _score(x[times][:, regions], predicted[times], regions, times)


def next_volume_scores(
    predict: PredictNext,
    test: ArrayLike,
    *,
    context: int,
    warm_up: int | None = None,
    regions: Sequence[int] | None = None,
    batch: int = 256,
) -> TraceScores:
    """Predict each volume of the test span from the `context` volumes before it.

    Parameters
    ----------
    predict : callable (history (window, context, region)) -> (window, region)
        `history` is a copy that ends with the volume before the predicted one.
    test : array_like, shape (time, region)
        Normalised.
    context : int
        Volumes of history that the model is given, all from the test span.
    warm_up : int, optional
        First volume that is scored; default `context`. Models of different context are compared with the same one.
    regions : sequence of int, optional
        Which regions are scored; default all.
    batch : int
        Windows per call.
    """
    x = _test_span(test)
    first = context if warm_up is None else warm_up
    if context < 1 or first < context:
        raise ConfigError(f"next volume: warm_up={first} must be at least context={context}, which must be at least 1")
    if first >= len(x):
        raise DataError(f"next volume: {len(x)} volumes leave nothing to score after {first}")
    scored = np.arange(x.shape[1]) if regions is None else np.asarray(regions, dtype=np.int64)
    times = np.arange(first, len(x))
    said = []
    for start in range(0, len(times), batch):
        some = times[start : start + batch]
        history = np.stack([x[t - context : t] for t in some])
        said.append(_answer(predict(history), (len(some), x.shape[1]), "next volume"))
    return _score(x[times][:, scored], np.concatenate(said)[:, scored], scored, times)
