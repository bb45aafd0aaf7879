"""Random numbers that depend on a key and a position, and on nothing else.

A generator's numbers depend on how many were drawn before; these do not, so a window gets the same mask
whatever the batch it sits in, the padding of that batch, the number of ranks and the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch

# SplitMix64 (Steele, Lea and Flood 2014), its unsigned constants written as signed 64-bit numbers
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _shift(x: Tensor, n: int) -> Tensor:
    """Logical right shift of int64."""
    return (x >> n) & ((1 << (64 - n)) - 1)


def mix(x: Tensor) -> Tensor:
    """Hash int64 to int64; a bijection whose outputs look random."""
    x = x + _STEP
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)


def keyed_uniform(key: Tensor, n: int) -> Tensor:
    """Uniform numbers in [0, 1), one row per key.

    Parameters
    ----------
    key : Tensor, shape (B,), int64
        Equal keys give equal rows.
    n : int
        Numbers per row; a longer row begins with the shorter one.

    Returns
    -------
    Tensor, shape (B, n), float64
    """
    position = torch.arange(n, device=key.device)
    return _shift(mix(mix(key)[:, None] + position * _STEP), 11).double() * 2.0**-53


def sample_keys(batch: NeuralBatch, generator: torch.Generator | None) -> Tensor:
    """Return one key per window from the step's generator and the window's number in its split, shape (B,).

    Without `sample_id` the row in the batch takes its place.
    """
    step = int(torch.randint(2**62, (), generator=generator))
    number = batch.sample_id
    if number is None:
        number = torch.arange(len(batch), device=batch.signal.device)
    return mix(number.long() ^ step)
