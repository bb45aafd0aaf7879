"""Ridge from a window to the embedding of what was shown or heard: the bar that every contrastive model has to pass.

Shape legend: n windows, T time, C channel, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PENALTIES = tuple(10.0**k for k in range(-2, 8))


class EmbeddingRidge:
    """One ridge for all values of an embedding, its penalty chosen by leave-one-out on the training windows.

    Leave-one-out errors of ridge are known in closed form from one eigendecomposition (Golub, Heath & Wahba 1979); the
    penalty is relative to the mean squared feature, so it means the same in any unit.

    Parameters
    ----------
    penalties : sequence of float
        To choose from.
    """

    def __init__(self, *, penalties: Sequence[float] = PENALTIES) -> None:
        self.penalties = tuple(penalties)

    def fit(self, x: NDArray, y: NDArray) -> EmbeddingRidge:
        """Fit windows (n, …) to embeddings (n, …)."""
        a, b = _flat(x), _flat(y)
        self.x_mean, self.y_mean = a.mean(axis=0), b.mean(axis=0)
        a, b = a - self.x_mean, b - self.y_mean
        self.scale = float(np.sqrt((a**2).mean())) or 1.0
        a = a / self.scale
        n, p = a.shape
        # eigenvectors over windows, whichever side is smaller
        if n <= p:
            values, left = np.linalg.eigh(a @ a.T)
        else:
            values, right = np.linalg.eigh(a.T @ a)
            left = (a @ right) / np.sqrt(np.maximum(values, 1e-12 * values[-1]))
        keep = values > 1e-10 * values[-1]
        values, left = values[keep], left[:, keep]
        spoken = left.T @ b
        best = np.inf
        for penalty in self.penalties:
            share = values / (values + penalty)
            # the mean was fitted too: 1 / n of each window's own weight
            leverage = np.clip((left**2 * share).sum(axis=1) + 1 / n, None, 1 - 1e-6)
            error = (b - (left * share) @ spoken) / (1 - leverage)[:, None]
            loss = float((error**2).mean())
            if loss < best:
                best, self.penalty = loss, float(penalty)
        self.weights = a.T @ (left @ (spoken / (values + self.penalty)[:, None]))
        self.shape = y.shape[1:]
        return self

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        """Embeddings of windows."""
        flat = (_flat(x) - self.x_mean) / self.scale @ self.weights + self.y_mean
        return flat.reshape(len(x), *self.shape)


class LaggedEmbeddingRidge:
    """Ridge from the signal at and after a moment to the embedding at that moment, for what unfolds in time.

    Parameters
    ----------
    lags_s : (float, float)
        First and last lag: the brain answers after the sound.
    penalty : float
        Added to the diagonal of the covariance sum of z-scored channels.
    """

    def __init__(self, *, lags_s: tuple[float, float] = (0.0, 0.25), penalty: float = 1.0) -> None:
        self.lags_s, self.penalty = lags_s, penalty

    def fit(self, signals: Sequence[NDArray], targets: Sequence[NDArray], rate_hz: float) -> LaggedEmbeddingRidge:
        """Fit recordings (T, C) to frames (≤ T, D) on the same clock."""
        self.lags = np.arange(round(self.lags_s[0] * rate_hz), round(self.lags_s[1] * rate_hz) + 1)
        n = sum(map(len, signals))
        self.mean = sum(x.sum(axis=0) for x in signals) / n
        self.sd = np.sqrt(sum(((x - self.mean) ** 2).sum(axis=0) for x in signals) / n)
        n = sum(map(len, targets))
        self.y_mean = sum(y.sum(axis=0) for y in targets) / n
        width = len(self.lags) * len(self.mean)
        gram, cross, total = np.zeros((width, width)), np.zeros((width, len(self.y_mean))), np.zeros(width)
        for x, y in zip(signals, targets, strict=True):
            lagged = self._lagged(x)[: len(y)]
            gram += lagged.T @ lagged
            cross += lagged.T @ (y - self.y_mean)
            total += lagged.sum(axis=0)
        self.x_mean = total / n
        gram = gram - n * np.outer(self.x_mean, self.x_mean)
        self.weights = np.linalg.solve(gram + self.penalty * np.eye(len(gram)), cross)
        return self

    def predict(self, signal: NDArray) -> NDArray[np.float64]:
        """Frames (T, D) of a recording (T, C)."""
        return (self._lagged(signal) - self.x_mean) @ self.weights + self.y_mean

    def _lagged(self, x: NDArray) -> NDArray[np.float64]:
        z = (x.astype(np.float64) - self.mean) / np.where(self.sd > 0, self.sd, 1.0)
        out = np.zeros((len(z), len(self.lags) * z.shape[1]))
        for k, lag in enumerate(self.lags.tolist()):
            a, b = max(0, -lag), min(len(z), len(z) - lag)
            out[a:b, k * z.shape[1] : (k + 1) * z.shape[1]] = z[a + lag : b + lag]
        return out


def _flat(x: NDArray) -> NDArray[np.float64]:
    return np.asarray(x, np.float64).reshape(len(x), -1)
