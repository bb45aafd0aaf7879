"""Augmentation of batches of windows that are in memory: mixing pairs, dropping channels.

Kept beside the objective, since mixing changes what is to be predicted; transforms of `neurofm.data` see one window
at a time.

Shape legend: B batch, C channel, S time samples.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neurofm.schema.batch import NeuralBatch


def generator_of(generator: torch.Generator | None) -> np.random.Generator:
    """Return a numpy generator drawn from torch's: it has Beta, and gives the same numbers on every device."""
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))


def mix_pairs(
    batch: NeuralBatch,
    group: Tensor,
    rng: np.random.Generator,
    *,
    alpha: float,
    probability: float = 1.0,
    own_leads: bool = True,
) -> tuple[NeuralBatch, Tensor, Tensor]:
    """Mix windows with others of their group: λ · own + (1 − λ) · other's, λ from Beta(alpha, alpha).

    Mixup (Zhang et al. 2018, arXiv:1710.09412, eq. 1) within the windows that have a label; BiMixCo (Scotti et al. 2024,
    MindEye2, arXiv:2403.11207) within a subject, as channels of two people mean different things.

    Parameters
    ----------
    batch : NeuralBatch
        Windows of equal length.
    group : Tensor, shape (B,), long
        Who may be mixed with whom; −1 takes no part.
    rng : numpy Generator
        Of pairs and shares.
    alpha : float
        Small values mix mostly a little or nearly all.
    probability : float
        That a window is mixed at all.
    own_leads : bool
        Give the larger of λ and 1 − λ to the window itself, which changes nothing about the pairs and keeps its channels
        and its label the leading ones.

    Returns
    -------
    batch : NeuralBatch
        With the mixed signal.
    partner : Tensor, shape (B,), long
        Index of the other window.
    share : Tensor, shape (B,), float
        λ of each window; 1 where it stayed as it was, as all do whose partner has other channels or samples.
    """
    device, n = batch.signal.device, len(batch)
    groups, own = group.cpu().numpy(), np.arange(n)
    other = own.copy()
    for one in np.unique(groups[groups >= 0]):
        rows = np.flatnonzero(groups == one)
        other[rows] = rng.permutation(rows)
    drawn = rng.beta(alpha, alpha, size=n)
    if own_leads:
        drawn = np.maximum(drawn, 1 - drawn)
    mixed = other != own
    if probability < 1:
        mixed &= rng.random(n) < probability
    partner = torch.from_numpy(other).to(device)
    share = torch.from_numpy(np.where(mixed, drawn, 1.0)).to(device, batch.signal.dtype)
    alike = (batch.channel_mask == batch.channel_mask[partner]).all(1)
    alike &= (batch.time_mask == batch.time_mask[partner]).all(1)
    if batch.channel_ids is not None:
        alike &= (batch.channel_ids == batch.channel_ids[partner]).all(1)
    share = torch.where(alike, share, 1.0)
    part = share[:, None, None]
    return batch.with_signal(part * batch.signal + (1 - part) * batch.signal[partner]), partner, share


def drop_channels(batch: NeuralBatch, probability: float, rng: np.random.Generator) -> NeuralBatch:
    """Set each channel of each window to zero with some probability, never all of a window's."""
    valid = batch.channel_mask.cpu().numpy()
    drawn = rng.random(valid.shape)
    kept = drawn >= probability
    # the channel of the largest number stays in any case
    kept[np.arange(len(valid)), np.where(valid, drawn, -1.0).argmax(1)] = True
    keep = torch.from_numpy(kept).to(batch.signal.device)
    return batch.with_signal(batch.signal * keep[..., None])
