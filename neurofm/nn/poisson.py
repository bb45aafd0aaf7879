"""Poisson likelihood of counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOOR = 1e-9
"""Least expected count (as the Neural Latents Benchmark floors rates), so that a rate of 0 is not an infinite surprise."""


def poisson_nll(log_rate: Tensor, count: Tensor, *, full: bool = False) -> Tensor:
    """Return the negative log-likelihood in nats, entry by entry: exp(l) − k·l, and + ln k! where `full`.

    Parameters
    ----------
    log_rate : Tensor
        Logarithm l of the expected count per bin.
    count : Tensor
        Observed counts k, the same shape.
    full : bool
        Add the term that depends on the counts alone.
    """
    nll = log_rate.exp() - count * log_rate
    return nll + torch.lgamma(count + 1) if full else nll


@torch.no_grad()
def bits_per_spike(log_rate: Tensor, count: Tensor, null_rate: Tensor, where: Tensor) -> Tensor:
    """Return (NLL of `null_rate` − NLL of the model) / (spikes · ln 2) over the entries of `where`; NaN without spikes.

    Parameters
    ----------
    log_rate, count, null_rate : Tensor, shapes that broadcast
        Log of the expected count, observed count, and the expected count of the model compared with.
    where : Tensor, bool
        Entries that count.

    Source: Pei et al. 2021 (Neural Latents Benchmark), arXiv:2109.04463.
    """
    k = count.double()
    floor = math.log(FLOOR)
    model = poisson_nll(log_rate.double().clamp(min=floor), k)
    null = poisson_nll(null_rate.double().clamp(min=FLOOR).log(), k)
    gain = ((null - model) * where).sum()
    return (gain / ((k * where).sum() * math.log(2))).float()
