"""How far channels swing: standard deviations about a straight line over pieces of a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

CHUNK_S = 1.0


def spread_of(block: np.ndarray, rate_hz: float, *, most: int | None = None) -> np.ndarray:
    """Standard deviation of every piece of a block, shape (piece, channel); neither offsets nor drifts count.

    A block shorter than a piece is one piece; one of under three samples is none. `most` takes only the first so many.
    """
    size = min(max(8, round(CHUNK_S * rate_hz)), len(block))
    n = len(block) // size if size else 0
    n = n if most is None else min(n, most)
    if n == 0 or size < 3:
        return np.empty((0, block.shape[1]))
    x = np.asarray(block[: n * size], dtype=np.float64).reshape(n, size, -1)
    t = np.linspace(-1, 1, size)[None, :, None]
    x = x - x.mean(axis=1, keepdims=True)
    x = x - t * (t * x).sum(axis=1, keepdims=True) / (t**2).sum()
    return x.std(axis=1)


def typical(spreads: Sequence[np.ndarray]) -> np.ndarray:
    """Return each channel's median over pieces, so that artifacts do not decide; 0 for one without a whole piece."""
    spread = np.concatenate(spreads)
    whole = np.isfinite(spread)
    return np.array([np.median(s[w]) if w.any() else 0.0 for s, w in zip(spread.T, whole.T, strict=True)])
