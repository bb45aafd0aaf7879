"""Stored numbers → float32 in physical units."""

from __future__ import annotations

import numpy as np


def to_float32(rows: np.ndarray, scale: np.ndarray, offset: np.ndarray | None, out: np.ndarray) -> None:
    """Write ``rows * scale + offset`` to `out`; the same bits as numpy gives, in half the time.

    Parameters
    ----------
    rows : ndarray, shape (T, C), int16, float16 or float32
        As stored, in memory that may be written to.
    scale, offset : ndarray, shape (C,), float32
        Per channel; no offset where None.
    out : ndarray, shape (T, C), float32
        Any layout; fastest where it, or its transpose, is contiguous.
    """
    if rows.dtype.itemsize > 4 or not rows.flags.writeable:
        # float64 (numpy multiplies it in double precision), or memory that torch must not touch
        np.multiply(rows, scale, out=out, casting="unsafe")
        if offset is not None:
            out += offset
        return
    import torch

    source, into, factor = torch.from_numpy(rows), torch.from_numpy(out), torch.from_numpy(scale)
    shift = None if offset is None else torch.from_numpy(offset)
    if not out.flags.c_contiguous and out.T.flags.c_contiguous:
        # turned over while the numbers are still small
        source, into, factor = source.t().contiguous(), into.t(), factor[:, None]
        shift = None if shift is None else shift[:, None]
    # converted in place and then scaled: a product of two types would first make a float32 copy elsewhere
    into.copy_(source).mul_(factor)
    if shift is not None:
        into.add_(shift)
