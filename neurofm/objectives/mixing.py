"""Augmentation of batches of labelled windows that are in memory: mixing pairs, dropping channels.

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
    batch: NeuralBatch, labelled: Tensor, alpha: float, rng: np.random.Generator
) -> tuple[NeuralBatch, Tensor, Tensor]:
    """Mix each labelled window with another one (mixup, Zhang et al. 2018, arXiv:1710.09412, eq. 1).

    Parameters
    ----------
    batch : NeuralBatch
        Windows of equal length.
    labelled : Tensor, shape (B,), bool
        Windows that take part.
    alpha : float
        The weight λ is from Beta(alpha, alpha). The larger of λ and 1 − λ goes to the window itself, which changes
        nothing about the pairs and keeps its channels and its label the leading ones.
    rng : numpy Generator
        Of pairs and weights.

    Returns
    -------
    batch : NeuralBatch
        With signal λ · own + (1 − λ) · other's.
    partner : Tensor, shape (B,), long
        Index of the other window.
    weight : Tensor, shape (B,), float
        λ of each window; 1 where the two have other channels or samples, which are not mixed.
    """
    device = batch.signal.device
    rows = labelled.cpu().nonzero().flatten().numpy()
    partner_rows = np.arange(len(batch))
    partner_rows[rows] = rng.permutation(rows)
    drawn = rng.beta(alpha, alpha, size=len(batch))
    partner = torch.from_numpy(partner_rows).to(device)
    weight = torch.from_numpy(np.maximum(drawn, 1 - drawn)).to(device, batch.signal.dtype)
    alike = (batch.channel_mask == batch.channel_mask[partner]).all(1)
    alike &= (batch.time_mask == batch.time_mask[partner]).all(1)
    if batch.channel_ids is not None:
        alike &= (batch.channel_ids == batch.channel_ids[partner]).all(1)
    weight = torch.where(alike, weight, 1.0)
    share = weight[:, None, None]
    return batch.with_signal(share * batch.signal + (1 - share) * batch.signal[partner]), partner, weight


def drop_channels(batch: NeuralBatch, probability: float, rng: np.random.Generator) -> NeuralBatch:
    """Set each channel of each window to zero with some probability, never all of a window's."""
    valid = batch.channel_mask.cpu().numpy()
    drawn = rng.random(valid.shape)
    kept = drawn >= probability
    # the channel of the largest number stays in any case
    kept[np.arange(len(valid)), np.where(valid, drawn, -1.0).argmax(1)] = True
    keep = torch.from_numpy(kept).to(batch.signal.device)
    return batch.with_signal(batch.signal * keep[..., None])
