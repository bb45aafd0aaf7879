"""Mixing pairs of responses of one person, for BiMixCo.

Shape legend: B batch, C channel, S time samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch


def mix_responses(
    batch: NeuralBatch, rng: np.random.Generator, *, alpha: float = 0.15, probability: float = 0.5
) -> tuple[NeuralBatch, Tensor, Tensor]:
    """Mix each response with another of the same subject: v' = β v + (1 − β) v_other, β ~ Beta(alpha, alpha).

    Scotti et al. 2024 (MindEye2, arXiv:2403.11207). Channels of two people mean different things, so partners are drawn
    within a subject, and only between windows of the same channels and samples.

    Parameters
    ----------
    batch : NeuralBatch
    rng : numpy Generator
        Of partners and shares.
    alpha : float
        Small values mix mostly a little or nearly all.
    probability : float
        That a window is mixed at all.

    Returns
    -------
    batch : NeuralBatch
        With the mixed signal.
    partner : Tensor, shape (B,), long
    share : Tensor, shape (B,)
        β; 1 where a window stayed as it was.
    """
    n, device = len(batch), batch.signal.device
    subject = np.zeros(n, dtype=int) if batch.subject is None else batch.subject.cpu().numpy()
    other = np.arange(n)
    for one in np.unique(subject):
        rows = np.flatnonzero(subject == one)
        other[rows] = rng.permutation(rows)
    beta, chosen = rng.beta(alpha, alpha, size=n), rng.random(n) < probability
    partner = torch.from_numpy(other).to(device)
    share = torch.from_numpy(np.where(chosen & (other != np.arange(n)), beta, 1.0)).to(device, batch.signal.dtype)
    alike = (batch.channel_mask == batch.channel_mask[partner]).all(1)
    alike &= (batch.time_mask == batch.time_mask[partner]).all(1)
    if batch.channel_ids is not None:
        alike &= (batch.channel_ids == batch.channel_ids[partner]).all(1)
    share = torch.where(alike, share, 1.0)
    own = share[:, None, None]
    return batch.with_signal(own * batch.signal + (1 - own) * batch.signal[partner]), partner, share
