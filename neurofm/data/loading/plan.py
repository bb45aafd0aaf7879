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
            ids = _repeated(ids, weights)
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


def _repeated(ids: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Systematic sampling along `ids`: a window occurs floor(w) or ceil(w) times, and as often in all as w sums to."""
    reached = np.floor(np.cumsum(np.asarray(weights, np.float64)[ids]) + 0.5 + 1e-9).astype(np.int64)
    return np.repeat(ids, np.diff(reached, prepend=0))


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


def plan_stream(
    place: Sequence[tuple[int, int]] | np.ndarray,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    world_size: int,
    n_workers: int,
    groups: np.ndarray,
    shuffle_over: int,
    weights: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:
    """Lay out an epoch in which every worker reads shards from beginning to end.

    Shards are permuted; the windows in their order are cut into as many stretches of equal length as there are ranks
    and workers, so each window comes once, and only a shard at a border is read twice. Within its stretch a worker
    shuffles neighbouring windows.

    Parameters
    ----------
    place : sequence of (int, int)
        Shard and position in it, of each window.
    seed, epoch, batch_size
        As in `plan_epoch`; what does not fill a group's last batch is left out, other windows in every epoch.
    world_size, n_workers : int
        Row ``i`` of the plan is read by worker ``i % n_workers`` of every rank, column ``c`` by rank ``c % world_size``.
    groups : ndarray, shape (n_windows,)
        Windows of different groups never share a batch.
    shuffle_over : int
        How many neighbouring windows of a stretch are shuffled.
    weights : sequence of float, optional
        As in `plan_epoch`.

    Returns
    -------
    ndarray, shape (batch, batch_size), int64
    """
    rng = keyed_generator(seed, epoch, "plan_stream")
    places, lanes, per_rank = np.asarray(place).reshape(-1, 2), max(1, n_workers), batch_size // world_size
    _, shard = np.unique(places[:, 0], return_inverse=True)
    order = np.lexsort((places[:, 1], rng.permutation(shard.max() + 1)[shard]))
    of_group = {g: order[groups[order] == g] for g in np.unique(groups).tolist()}
    if weights is not None:
        of_group = {g: _repeated(ids, weights) for g, ids in of_group.items()}
    rows = rng.permutation(np.repeat(list(of_group), [len(ids) // batch_size for ids in of_group.values()]))
    plan = np.full((len(rows), batch_size), EMPTY, np.int64)
    for g, ids in of_group.items():
        taken = 0
        for rank in range(world_size):
            for lane in range(lanes):
                mine = np.flatnonzero((rows == g) & (np.arange(len(rows)) % lanes == lane))
                stretch = ids[taken : taken + len(mine) * per_rank]
                taken += len(stretch)
                plan[mine, rank::world_size] = _nearby(stretch, shuffle_over, rng).reshape(len(mine), per_rank)
    return plan


def _nearby(ids: np.ndarray, over: int, rng: np.random.Generator) -> np.ndarray:
    """Ids in an order in which each has moved by about `over` places at most."""
    return ids[np.argsort(np.arange(len(ids)) + rng.uniform(0, max(over, 1), len(ids)), kind="stable")]


def merge_small(
    rates: Sequence[float], n_channels: Sequence[int], counts: Sequence[float] | np.ndarray, least: int
) -> np.ndarray:
    """Groups of windows that may share a batch: those of one rate and bucket, small ones joined with the next.

    Without joining, a person whose channel count nobody shares, with fewer windows than a batch, would never be seen.

    Parameters
    ----------
    rates, n_channels : sequence
        Of each kind of window.
    counts : sequence of float
        Windows of each kind in an epoch.
    least : int
        The windows of a batch.

    Returns
    -------
    ndarray, shape (n_kinds,), int64
        Group of each kind.
    """
    kinds = list(zip(rates, map(bucket, n_channels), strict=True))
    together: dict[tuple[float, int], float] = {}
    for kind, n in zip(kinds, counts, strict=True):
        together[kind] = together.get(kind, 0) + n
    group: dict[tuple[float, int], int] = {}
    number = -1
    for rate in sorted({r for r, _ in together}):
        number, held = number + 1, 0.0
        first = number
        for kind in sorted(k for k in together if k[0] == rate):
            if held >= least:
                number, held = number + 1, 0.0
            group[kind] = number
            held += together[kind]
        if held < least and number > first:
            # what is left over joins the one below
            for kind in [k for k, g in group.items() if g == number]:
                group[kind] = number - 1
            number -= 1
    return np.array([group[k] for k in kinds])
