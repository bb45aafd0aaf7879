"""A vocabulary of vectors: standardised k-means centres, solved from data and not trained."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from neurofm.nn.quantize_codebook import kmeans, nearest_code, sums_by_code
from neurofm.schema.errors import DataError


class Vocabulary(NamedTuple):
    """Mean and standard deviation of each feature, (D,), and the centres of the standardised vectors, (K, D)."""

    mean: Tensor
    sd: Tensor
    centres: Tensor


def fit_vocabulary(
    vectors: Tensor, n_codes: int, *, n_starts: int = 10, max_steps: int = 500, seed: int = 0
) -> Vocabulary:
    """Standardise vectors and find their centres: the best of several starts, each run until it stands still.

    Parameters
    ----------
    vectors : Tensor, shape (n, D)
        From the training part and nothing else.
    n_codes : int
        K.
    n_starts, max_steps : int
        Starts, and most steps of Lloyd's algorithm in each.
    seed : int
        Of the starts; equal vectors and seed give equal centres.

    Raises
    ------
    DataError
        When there are fewer vectors than codes, or one is not finite.
    """
    if len(vectors) < n_codes or not bool(vectors.isfinite().all()):
        raise DataError(
            f"a vocabulary of {n_codes} codes needs as many finite vectors, there are {len(vectors)}"
            f"{'' if bool(vectors.isfinite().all()) else ', not all finite'}; take fewer codes or shorter patches"
        )
    x = vectors.double()
    mean, sd = x.mean(0), x.std(0, correction=0)
    sd = torch.where(sd > 0, sd, torch.ones_like(sd))
    x = (x - mean) / sd
    best, least = x[:n_codes], torch.inf
    for start in range(n_starts):
        centres = kmeans(x, n_codes, generator=torch.Generator().manual_seed(seed * 1009 + start))
        code = nearest_code(x, centres)
        for _ in range(max_steps):
            total = sums_by_code(x, code, n_codes)
            centres = torch.where(total[:, -1:] > 0, total[:, :-1] / total[:, -1:].clamp(min=1), centres)
            before, code = code, nearest_code(x, centres)
            if torch.equal(before, code):
                break
        inertia = float((x - centres[code]).square().sum())
        if inertia < least:
            best, least = centres, inertia
    return Vocabulary(mean.float(), sd.float(), best.float())
