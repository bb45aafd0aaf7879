"""Threads inside one recording, for the time in which recordings are prepared one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Part = TypeVar("Part")

# One pool per process: while a cluster's workers have a recording each, there is none and all runs in one thread.
_pool: ThreadPoolExecutor | None = None


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let `spread` use `n` threads inside this block."""
    global _pool
    if n < 2 or _pool is not None:
        yield
        return
    with ThreadPoolExecutor(n, thread_name_prefix="neurofm-prep") as pool:
        _pool = pool
        try:
            yield
        finally:
            _pool = None


def spread(work: Callable[[Part], None], parts: Iterable[Part]) -> None:
    """Call `work` on every part; parts must not share what they write, so that their order cannot matter."""
    if _pool is None:
        for part in parts:
            work(part)
        return
    for done in [_pool.submit(work, part) for part in parts]:
        done.result()
