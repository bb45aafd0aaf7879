"""Runs one function over many items: in this process, on a Dask LocalCluster, under SLURM, or on any Dask scheduler."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from data_prep.running.slurm import CHOICES as SLURM_CHOICES
from data_prep.running.slurm import slurm_client
from data_prep.running.threads import threads
from data_prep.sources.base import Item
from neurofm.schema.errors import ConfigError, DataError, nearest

# Starting a LocalCluster costs some seconds: below this estimate of what is left to do, it does not pay.
PAYS_S = 8.0
# With more input than this the cluster is started at once instead of timing a few items first.
PAYS_BYTES = 2 << 30
# A task should last about this long, so that the scheduler's own cost vanishes.
TASK_S = 2.0

# One thread per worker: recordings are the unit of parallelism. MNE's configuration in the home directory is
# shared by all processes, so workers neither read nor write it.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MNE_DONTWRITE_HOME": "true",
}

Work = Callable[[Item], Any]


def run_items(work: Work, items: Sequence[Item], dask: str | Mapping[str, Any]) -> Iterator[tuple[Item, Any]]:
    """Yield (item, work(item)) as they finish, in any order.

    Parameters
    ----------
    work : callable
        Picklable; returns something small.
    items : sequence of Item
        What to work on.
    dask : str or mapping
        "none", "local", a scheduler's address ("tcp://…"), or a mapping with `kind` (none | local | slurm | address)
        and `n_workers`, `memory_limit`, `eager` (local), the arguments of `slurm.slurm_cluster`, or `address`.

    Raises
    ------
    ConfigError
        When `dask` is not one of these, or the scheduler does not answer.
    DataError
        When a worker died on an item.
    """
    choices = {"kind": dask} if isinstance(dask, str) else dict(dask)
    kind = str(choices.pop("kind", "local"))
    if "://" in kind:
        kind, choices["address"] = "address", kind
    known = {
        "none": (), "local": ("n_workers", "memory_limit", "eager"), "slurm": SLURM_CHOICES, "address": ("address",),
    }  # fmt: skip
    if kind not in known:
        raise ConfigError(f"dask kind '{kind}' is unknown: {nearest(kind, known)} (or a scheduler's address, tcp://…)")
    for key in choices:
        if key not in known[kind]:
            raise ConfigError(f"dask={kind} has no key '{key}': {nearest(key, known[kind])}")
    if kind == "none":
        yield from _here(work, items)
    elif kind == "local":
        yield from _local(work, items, **choices)
    elif kind == "slurm":
        with slurm_client(n_items=len(items), environment=WORKER_ENVIRONMENT, **choices) as (client, workers):
            yield from _distribute(work, items, client, workers, 0.0)
    else:
        yield from _address(work, items, **choices)


@contextmanager
def quiet_home() -> Iterator[None]:
    """Keep MNE away from its configuration file, and BLAS to one thread, while working in this process."""
    from threadpoolctl import threadpool_limits

    before = os.environ.get("MNE_DONTWRITE_HOME")
    os.environ["MNE_DONTWRITE_HOME"] = "true"
    try:
        with threadpool_limits(1):
            yield
    finally:
        if before is None:
            os.environ.pop("MNE_DONTWRITE_HOME", None)
        else:
            os.environ["MNE_DONTWRITE_HOME"] = before


def cpu_count() -> int:
    """Return how many CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _here(work: Work, items: Sequence[Item], n_threads: int = 1) -> Iterator[tuple[Item, Any]]:
    for item in items:
        with quiet_home(), threads(n_threads):
            result = work(item)
        yield item, result


def _local(
    work: Work,
    items: Sequence[Item],
    *,
    n_workers: int | None = None,
    memory_limit: str | float | None = None,
    eager: bool = False,
) -> Iterator[tuple[Item, Any]]:
    """Begin here, and start a cluster for the rest when the first items show that it pays."""
    if n_workers is not None and n_workers < 1:
        raise ConfigError(f"dask.n_workers is {n_workers}; expected 1 or more, or null for one per CPU core")
    workers = min(n_workers or cpu_count(), len(items))
    done, pace_s = 0, 0.0
    if not eager and sum(i.n_bytes for i in items) < PAYS_BYTES:
        began = time.monotonic()
        for pair in _here(work, items, n_workers or cpu_count()):
            yield pair
            done += 1
            pace_s = (time.monotonic() - began) / done
            if workers > 1 and pace_s * (len(items) - done) * (1 - 1 / workers) > PAYS_S:
                break
    rest = items[done:]
    if not rest:
        return
    with _cluster(workers, memory_limit) as client:
        yield from _distribute(work, rest, client, workers, pace_s)


@contextmanager
def _cluster(workers: int, memory_limit: str | float | None) -> Iterator[Any]:
    import dask.config
    from distributed import Client, LocalCluster

    with tempfile.TemporaryDirectory(prefix="neurofm-prep-") as scratch:
        environment = {**WORKER_ENVIRONMENT, "_MNE_FAKE_HOME_DIR": scratch}
        with (
            dask.config.set({"distributed.nanny.pre-spawn-environ": environment, "distributed.admin.tick.limit": "1h"}),
            LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                dashboard_address=None,
                local_directory=scratch,
                memory_limit="auto" if memory_limit is None else memory_limit,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client


def _address(work: Work, items: Sequence[Item], *, address: str) -> Iterator[tuple[Item, Any]]:
    from distributed import Client

    try:
        client = Client(address, set_as_default=False, timeout=20)
    except (OSError, TimeoutError, ValueError) as error:
        raise ConfigError(
            f"dask.address {address}: no scheduler answers ({error}); start one or use dask=local"
        ) from error
    with client:
        yield from _distribute(work, items, client, max(1, len(client.scheduler_info()["workers"])), 0.0)


def _distribute(
    work: Work, items: Sequence[Item], client: Any, workers: int, pace_s: float
) -> Iterator[tuple[Item, Any]]:
    """Send items in batches that last about TASK_S, but keep every worker in work until the end."""
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    size = 1 if pace_s == 0 else int(TASK_S / max(pace_s, 1e-3))
    size = max(1, min(size, -(-len(items) // (4 * workers))))
    batches = {}
    for i in range(0, len(items), size):
        batch = list(items[i : i + size])
        batches[client.submit(_work_batch, work, batch, pure=False, retries=0)] = batch
    for future in as_completed(list(batches), loop=client.loop):
        batch = batches.pop(future)
        try:
            results = future.result()
        except KilledWorker as error:
            keys = ", ".join(i.key for i in batch)
            raise DataError(
                f"a worker died again and again on {keys} (out of memory, most likely); "
                "give workers more memory (dask.memory_limit, fewer dask.n_workers) and run again: the rest is kept"
            ) from error
        future.release()
        yield from zip(batch, results, strict=True)


def _work_batch(work: Work, batch: list[Item]) -> list[Any]:
    os.environ.setdefault("MNE_DONTWRITE_HOME", "true")
    return [work(item) for item in batch]
