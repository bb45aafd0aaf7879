"""Random numbers that depend on what they are for, not on who draws them or when."""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(*key: int | str) -> np.random.Generator:
    """Return a generator that is a pure function of `key`, such as (seed, epoch, sample_id).

    Philox is counter-based, so generators of different keys are independent streams; the key is hashed
    because neighbouring seeds and sample numbers must not give related streams.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest, np.uint64)))
