"""A linear readout in closed form: ridge regression on frozen features, its penalty chosen within the calibration."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurofm.adapt.rows import select
from neurofm.hub.load import LoadedModel
from neurofm.models.base import offers
from neurofm.objectives.base import Objective
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

Array = NDArray[np.float64]

# relative to standardised features; wide enough that the best is seldom at an end
PENALTIES = np.logspace(-2, 5, 22)
# stretches of time that are left out in turn, of behaviour
FOLDS = 5
# windows that are read at once
CHUNK = 256


def ridge_head(loaded: LoadedModel) -> Callable[[NeuralBatch], None]:
    """Return what sets the head of a classifier or of behaviour from calibration windows.

    Features are z-scored over the calibration; mean, deviation and weights are folded into the head's own weight and
    bias. The penalty is the best of a fixed grid on the calibration, so no tail is spared and nothing is chosen elsewhere.

    A classifier's regression is on one column per class, 1 for its windows and −1 for others, every class of equal total
    weight, and the penalty has the least leave-one-out error (Golub et al. 1979). The outputs rank classes; as logits
    they are flat. Behaviour is regressed as it is, and as neighbouring windows overlap, the penalty is that of least error
    on stretches of time left out in turn, together with all windows that overlap them.

    Raises
    ------
    ConfigError
        When the objective has no head that is linear in the model's pooled vector.
    """
    objective = loaded.objective
    head = objective.linear_head
    if head is None or not (objective.is_classifier or offers(objective, Objective.regression_targets)):
        raise ConfigError(
            "adapt=probe with solver=ridge needs objective=supervised or behaviour with readout=pool, a head linear in one "
            "vector per window; use solver=steps"
        )

    def solve(windows: NeuralBatch) -> None:
        x = _features(loaded, windows)
        if objective.is_classifier:
            weight, bias = _of_classes(x, windows, len(loaded.facts.classes))
        else:
            weight, bias = _of_behaviour(x, windows, *objective.regression_targets(windows))
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))

    return solve


def _features(loaded: LoadedModel, windows: NeuralBatch) -> Array:
    model = loaded.model.eval()
    with torch.inference_mode():
        rows = torch.arange(len(windows)).split(CHUNK)
        return np.concatenate([model.pool(model(select(windows, r))).double().cpu().numpy() for r in rows])


def _of_classes(x: Array, windows: NeuralBatch, n_classes: int) -> tuple[Array, Array]:
    from sklearn.linear_model import RidgeCV

    if windows.target is None:
        raise DataError("adapt=probe with solver=ridge: the calibration windows have no labels")
    y = windows.target.cpu().numpy()
    labelled = y >= 0
    x, y = x[labelled], y[labelled]
    counts = np.bincount(y, minlength=n_classes)
    if np.count_nonzero(counts) < 2:
        raise DataError("adapt=probe with solver=ridge: the calibration windows are all of one class")
    mean, spread = _moments(x)
    wanted = np.where(np.arange(n_classes) == y[:, None], 1.0, -1.0)
    found = RidgeCV(alphas=PENALTIES).fit((x - mean) / spread, wanted, sample_weight=len(y) / counts[y])
    weight = np.atleast_2d(found.coef_) / spread
    return weight, found.intercept_ - weight @ mean


def _of_behaviour(x: Array, windows: NeuralBatch, values: Tensor, mask: Tensor) -> tuple[Array, Array]:
    there = mask.cpu().numpy()
    x, y = x[there], values.double().cpu().numpy()[there]
    if len(x) < 2 * FOLDS:
        raise DataError(
            f"adapt=probe with solver=ridge: {len(x)} calibration windows have behaviour, too few to choose a penalty by; "
            "lower task.stride_s or take a longer calibration"
        )
    window_s = windows.signal.shape[-1] / windows.rate_hz
    one_by_one = np.arange(len(windows)) * window_s
    start_s = (one_by_one if windows.start_s is None else windows.start_s.double().cpu().numpy())[there]
    names = np.array(windows.recording_id or [""] * len(windows))[there]
    order = np.lexsort((start_s, names))
    errors, n_left = np.zeros(len(PENALTIES)), 0
    for fold in np.array_split(order, FOLDS):
        # whatever shares time with the windows left out would tell of them
        close = np.abs(start_s[:, None] - start_s[fold]) < window_s - 1e-9
        near = (close & (names[:, None] == names[fold])).any(1)
        if (~near).sum() < 2:
            continue
        n_left += len(fold)
        for i, (weight, bias) in enumerate(_ridges(x[~near], y[~near])):
            errors[i] += np.square(x[fold] @ weight.T + bias - y[fold]).sum()
    if not n_left:
        raise DataError(
            f"adapt=probe with solver=ridge: the {len(x)} calibration windows of {window_s:g} s all share time with one "
            "another, so none can be left out to choose a penalty by; take a longer calibration or use solver=steps"
        )
    return _ridges(x, y)[int(errors.argmin())]


def _ridges(x: Array, y: Array) -> list[tuple[Array, Array]]:
    """Weight (Y, D) and bias (Y,) for every penalty, by one singular value decomposition."""
    mean, spread = _moments(x)
    u, d, vt = np.linalg.svd((x - mean) / spread, full_matrices=False)
    uy = u.T @ (y - y.mean(0))
    found = []
    for penalty in PENALTIES:
        weight = (vt.T @ ((d / (d * d + penalty))[:, None] * uy)).T / spread
        found.append((weight, y.mean(0) - weight @ mean))
    return found


def _moments(x: Array) -> tuple[Array, Array]:
    """Mean and deviation of every feature; what does not vary is not used."""
    spread = x.std(0)
    return x.mean(0), np.where(spread > 1e-8 * max(float(spread.max()), 1e-30), spread, np.inf)
