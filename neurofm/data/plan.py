"""The order of an epoch: a list of global batches, a pure function of its arguments.

Ranks and workers take slices of it, so what is trained on depends on neither.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from neurofm.data.keyed import keyed_generator
from neurofm.schema.errors import ConfigError, nearest

# channel counts within a bucket differ by less than this factor, so padding stays under 10 %
BUCKET_RATIO = 1.1
EMPTY = -1
LAST = ("drop", "keep", "repeat")


def bucket(n_channels: int) -> int:
    """Bucket of a channel count: counts of one bucket differ by a factor below `BUCKET_RATIO`."""
    return math.floor(math.log(n_channels) / math.log(BUCKET_RATIO) + 1e-9)


def plan_epoch(
    n_windows: int,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    shuffle: bool = True,
    last: str = "drop",
    groups: Sequence[int] | np.ndarray | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """Lay out one epoch.

    Parameters
    ----------
    n_windows : int
        Windows are numbered from 0.
    seed, epoch : int
        Key of the permutation; without `shuffle` neither matters.
    batch_size : int
        Windows per global batch, over all ranks.
    shuffle : bool
        Permute windows within groups, and the order of batches; else windows come in their order, group by group.
    last : str
        What happens to a group's last, incomplete batch: "drop", "keep" (filled up with −1), or "repeat" (filled up
        from the group's beginning).
    groups : sequence of int, optional
        Windows of different groups never share a batch.
    weights : sequence of float, optional
        How often each window occurs per epoch, on average over its group; default once. The number of batches is the
        same in every epoch.

    Returns
    -------
    ndarray, shape (batch, batch_size), int64
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; expected 1 or more")
    if last not in LAST:
        raise ConfigError(f"last is '{last}': {nearest(last, LAST)}")
    key = np.zeros(n_windows, np.int64) if groups is None else np.asarray(groups)
    rng = keyed_generator(seed, epoch, "plan")
    batches = []
    for group in np.unique(key):
        ids = np.flatnonzero(key == group)
        if shuffle:
            ids = rng.permutation(ids)
        if weights is not None:
            # systematic sampling along the permutation: a window occurs floor(w) or ceil(w) times
            reached = np.floor(np.cumsum(np.asarray(weights, np.float64)[ids]) + 0.5 + 1e-9).astype(np.int64)
            ids = np.repeat(ids, np.diff(reached, prepend=0))
            ids = rng.permutation(ids) if shuffle else ids
        missing = -len(ids) % batch_size
        if last == "drop":
            ids = ids[: len(ids) - len(ids) % batch_size]
        elif missing:
            filling = np.full(missing, EMPTY) if last == "keep" else np.resize(ids, missing)
            ids = np.concatenate([ids, filling])
        batches.append(ids.reshape(-1, batch_size))
    plan = np.concatenate(batches) if batches else np.empty((0, batch_size), np.int64)
    return rng.permutation(plan, axis=0) if shuffle and len(batches) > 1 else plan


def slice_of(batch: np.ndarray, *, rank: int, world_size: int) -> np.ndarray:
    """One rank's share of a global batch, empty places left out.

    A rank whose share is all empty gets the batch's first window again, since every rank must make the step; the
    batch's `sample_id` lets metrics count it once.
    """
    mine = batch[rank::world_size]
    mine = mine[mine != EMPTY]
    return mine if len(mine) else batch[:1]


def plan_hash(plan: np.ndarray, windows_hash: str) -> str:
    """Sixteen hex digits that change with the windows or with the order they come in."""
    digest = hashlib.sha256(windows_hash.encode() + repr(plan.shape).encode())
    digest.update(plan.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
