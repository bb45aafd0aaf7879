"""Batches on their way out of a worker process.

torch hands over every tensor in shared memory of its own, made for it and mapped by the receiver: a dozen connections
and thousands of page faults per batch, together many times the work of reading it. Here small tensors go by value, and
the signal through memory that worker and receiver both keep: the worker fills its slots in turn, the receiver copies.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from neurofm.schema.batch import NeuralBatch

Item = tuple[NeuralBatch | None, list[str]]

# bytes up to which a tensor goes by value
SMALL = 1 << 16
# batches that a torch loader asks of a worker before it takes one of them (its prefetch_factor), and one for safety
AHEAD = 2
SLOTS = AHEAD + 1

# in a worker: its slots, and which of them the receiver knows
_slots: list[torch.UntypedStorage | None] = [None] * SLOTS
_known: set[int] = set()
_turn = 0
# in a receiver: the slots of each worker
_theirs: dict[tuple[int, int], torch.UntypedStorage] = {}


def empty(*shape: int) -> torch.Tensor:
    """Return memory for float32 numbers; in a worker the next slot."""
    global _turn
    if torch.utils.data.get_worker_info() is None:
        # numpy asks the system for large pages, torch does not
        return torch.from_numpy(np.empty(shape, np.float32))
    _turn = (_turn + 1) % SLOTS
    storage, wanted = _slots[_turn], 4 * math.prod(shape)
    if storage is None or storage.nbytes() < wanted:
        storage = _slots[_turn] = torch.UntypedStorage._new_shared(wanted)
        _known.discard(_turn)
    return torch.empty(0, dtype=torch.float32).set_(storage)[: math.prod(shape)].view(shape)


def pack(item: Any) -> Item:
    """Make a batch ready to leave a worker; the result is for `unpack` alone."""
    batch, skipped = item
    return (None if batch is None else batch.mapped(_wrapped)), skipped


def unpack(item: Item) -> Item:
    """Inverse of `pack`, in the receiver."""
    batch, skipped = item
    return (None if batch is None else batch.mapped(_unwrapped)), skipped


def forget(workers: Iterable[int]) -> None:
    """Give back the slots of workers that have ended, by their process ids."""
    gone = set(workers)
    for key in [k for k in _theirs if k[0] in gone]:
        del _theirs[key]


class _InSlot:
    """A tensor that lies in a slot; unpickling it gives a copy."""

    def __init__(self, slot: int, tensor: torch.Tensor) -> None:
        self.slot, self.tensor = slot, tensor

    def __reduce__(self) -> tuple[Any, ...]:
        storage = None if self.slot in _known else _slots[self.slot]
        _known.add(self.slot)
        return _received, (os.getpid(), self.slot, storage, tuple(self.tensor.shape), self.tensor.stride())


def _received(
    worker: int, slot: int, storage: torch.UntypedStorage | None, shape: tuple[int, ...], stride: tuple[int, ...]
) -> torch.Tensor:
    if storage is not None:
        _theirs[worker, slot] = storage
    there = torch.empty(0, dtype=torch.float32).set_(_theirs[worker, slot], 0, shape, stride)
    return there.clone(memory_format=torch.preserve_format)


def _wrapped(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    if value.nbytes <= SMALL:
        return value.numpy()
    where = value.untyped_storage().data_ptr()
    slot = next((i for i, s in enumerate(_slots) if s is not None and s.data_ptr() == where), None)
    return value if slot is None or value.storage_offset() else _InSlot(slot, value)


def _unwrapped(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
