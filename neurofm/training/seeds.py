"""Random streams that depend on what they are for, not on what was drawn before."""

from __future__ import annotations

import hashlib

import torch


def seed_of(*key: int | str) -> int:
    """Return a 63-bit seed from any key; equal keys give equal seeds on every machine."""
    text = "/".join(map(str, key)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def torch_generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by `key`."""
    return torch.Generator().manual_seed(seed_of(*key))
