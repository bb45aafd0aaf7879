"""A linear readout in closed form: ridge regression on frozen features, its penalty chosen by leaving one out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from neurofm.hub.load import LoadedModel
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

# relative to standardised features; wide enough that the best is seldom at an end
PENALTIES = np.logspace(-2, 5, 22)


def ridge_head(loaded: LoadedModel) -> Callable[[NeuralBatch], None]:
    """Return what sets the head of a classifier from calibration windows.

    The regression is on one column per class, 1 for its windows and −1 for others, every class of equal total weight,
    and features z-scored over the calibration; mean, deviation and weights are folded into the head's own weight and
    bias. The penalty is the best of a fixed grid by leave-one-out error on the calibration (Golub et al. 1979), so no
    tail is spared and nothing is chosen elsewhere. The outputs rank classes; as logits they are flat.

    Raises
    ------
    ConfigError
        When the objective has no head that is linear in the model's pooled vector.
    """
    head, n_classes = loaded.objective.linear_head, len(loaded.facts.classes)
    if not loaded.objective.is_classifier or head is None:
        raise ConfigError(
            "adapt=probe with solver=ridge needs objective=supervised with readout=pool, a head linear in one vector per "
            "window; use solver=steps"
        )

    def solve(windows: NeuralBatch) -> None:
        from sklearn.linear_model import RidgeCV

        model = loaded.model
        if windows.target is None:
            raise DataError("adapt=probe with solver=ridge: the calibration windows have no labels")
        with torch.inference_mode():
            model.eval()
            x = model.pool(model(windows)).double().cpu().numpy()
        y = windows.target.cpu().numpy()
        labelled = y >= 0
        x, y = x[labelled], y[labelled]
        counts = np.bincount(y, minlength=n_classes)
        if np.count_nonzero(counts) < 2:
            raise DataError("adapt=probe with solver=ridge: the calibration windows are all of one class")
        mean, spread = x.mean(0), x.std(0)
        spread = np.where(spread > 1e-8 * max(float(spread.max()), 1e-30), spread, np.inf)
        wanted = np.where(np.arange(n_classes) == y[:, None], 1.0, -1.0)
        found = RidgeCV(alphas=PENALTIES).fit((x - mean) / spread, wanted, sample_weight=len(y) / counts[y])
        weight = np.atleast_2d(found.coef_) / spread
        bias = found.intercept_ - weight @ mean
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))
            head.bias.copy_(torch.from_numpy(bias))

    return solve
