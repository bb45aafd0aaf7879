"""Many steps ahead: how far a model that feeds its predictions back is worth more than persistence and VAR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.adapted.protocols import PredictNext
from neurofm.benchmarks.baselines.var import VAR, predict_persistence
from neurofm.benchmarks.stats.metrics import r2_per_region
from neurofm.schema.errors import ConfigError, DataError

RollOut = Callable[[NDArray[np.float64], int], ArrayLike]
"""(history (window, context, region), n_steps) → (window, n_steps, region)"""


@dataclass(frozen=True, kw_only=True)
class RolloutScores:
    """What roll-outs are worth at each step.

    Attributes
    ----------
    r2 : array, shape (step, region)
        R² over windows of the value that many steps after the last one known; row 0 is one step ahead.
    n_windows : int
        Roll-outs scored.
    """

    r2: NDArray[np.float64]
    n_windows: int

    @property
    def by_step(self) -> NDArray[np.float64]:
        """R² averaged over regions, shape (step,)."""
        return np.nanmean(self.r2, axis=1)


def feed_back(predict: PredictNext) -> RollOut:
    """Make a roll-out of a one-step prediction: the history keeps its length and ends with what was said last."""

    def roll(history: NDArray[np.float64], n_steps: int) -> NDArray[np.float64]:
        known = np.array(history, dtype=np.float64)
        said = []
        for _ in range(n_steps):
            following = np.asarray(predict(known), dtype=np.float64)
            said.append(following)
            known = np.concatenate([known[:, 1:], following[:, None]], axis=1)
        return np.stack(said, axis=1)

    return roll


def rollout_scores(
    roll: RollOut, test: ArrayLike, *, context: int, n_steps: int, stride: int = 1, batch: int = 256
) -> RolloutScores:
    """Roll out from many places of the test span and score every step.

    Parameters
    ----------
    roll : callable
        Is given copies of the `context` values before each place, and nothing else.
    test : array_like, shape (time, region)
        Normalised by figures that may be known.
    context, n_steps : int
        Time points known and predicted.
    stride : int
        Time points between places. Neighbours overlap: they are no independent samples.
    batch : int
        Windows per call.
    """
    x = np.asarray(test, dtype=np.float64)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise DataError(f"roll-out: the test span must be finite values of shape (time, region), got {x.shape}")
    if context < 1 or n_steps < 1 or stride < 1:
        raise ConfigError(f"roll-out: context={context}, n_steps={n_steps} and stride={stride} must be at least 1")
    starts = np.arange(context, len(x) - n_steps + 1, stride)
    if len(starts) < 2:
        raise DataError(f"roll-out: {len(x)} time points are too few for {context} known and {n_steps} predicted")
    said = []
    for i in range(0, len(starts), batch):
        some = starts[i : i + batch]
        history = np.stack([x[t - context : t] for t in some])
        answer = np.asarray(roll(history, n_steps), dtype=np.float64)
        if answer.shape != (len(some), n_steps, x.shape[1]):
            raise DataError(f"roll-out: got shape {answer.shape}, expected {(len(some), n_steps, x.shape[1])}")
        said.append(answer)
    predicted = np.concatenate(said)
    true = np.stack([x[t : t + n_steps] for t in starts])
    r2 = np.stack([r2_per_region(true[:, k], predicted[:, k]) for k in range(n_steps)])
    return RolloutScores(r2=r2, n_windows=len(starts))


def compare_rollouts(
    models: Mapping[str, RollOut], test: ArrayLike, *, var: VAR, context: int, n_steps: int, stride: int = 1
) -> dict[str, RolloutScores]:
    """Score models beside the bars on the same places: ``persistence`` and ``var``, a fitted VAR fed back.

    Raises
    ------
    ConfigError
        When the context is shorter than the order of the VAR, or a model takes the name of a bar.
    """
    bars = {"persistence": feed_back(predict_persistence), "var": feed_back(var.predict_next)}
    if context < var.order:
        raise ConfigError(f"roll-out: context={context} is shorter than the order {var.order} of the VAR")
    for name in set(models) & set(bars):
        raise ConfigError(f"roll-out: a model is called '{name}', which is the name of a bar; call it otherwise")
    return {
        name: rollout_scores(roll, test, context=context, n_steps=n_steps, stride=stride)
        for name, roll in {**models, **bars}.items()
    }
