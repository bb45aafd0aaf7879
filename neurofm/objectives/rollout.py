"""Many steps ahead: predictions of the next segment fed back as if they had been recorded.

Shape legend: B batch, C channel, S time samples, P samples per patch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from neurofm.models.base import Backbone
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError

NextPatch = Callable[[Tensor, NeuralBatch], Tensor]


@torch.no_grad()
def roll_out(model: Backbone, batch: NeuralBatch, n_steps: int, *, patch_samples: int, next_patch: NextPatch) -> Tensor:
    """Continue a batch of windows by `n_steps` segments.

    The model runs as a stream (`model.step`): each segment is encoded once, from what is kept of those before. Lags
    are counted in the training window, and no more than its length is looked back on.

    Parameters
    ----------
    model : Backbone
        With `begin_stream` and `step`, in evaluation mode.
    batch : NeuralBatch
        What is known, shape (B, C, S); samples after the last whole patch are left out.
    n_steps : int
        Segments to add.
    patch_samples : int
        P.
    next_patch : callable (tokens of the newest segment (B, C, D), all that is known or said so far) → (B, C, P)
        The objective's estimate.

    Returns
    -------
    Tensor, shape (B, C, n_steps · P)
        Zero where a channel does not exist.

    Raises
    ------
    ConfigError
        When there is nothing to start from, or the model is no stream.
    """
    n_known = batch.signal.shape[-1] // patch_samples
    if n_known < 1 or n_steps < 1:
        raise ConfigError(f"a roll-out of {n_steps} steps from {n_known} segments is empty: both must be at least 1")
    known = _with_signal(batch, batch.signal[..., : n_known * patch_samples])
    fed, state, said = known, model.begin_stream(), []
    for _ in range(n_steps):
        encoded, state = model.step(fed, state)
        newest = encoded.tokens[:, -batch.signal.shape[1] :]
        patch = next_patch(newest, known).masked_fill(~batch.channel_mask.unsqueeze(-1), 0.0)
        said.append(patch)
        fed = _with_signal(batch, patch)
        known = _with_signal(batch, torch.cat([known.signal, patch], dim=-1))
    return torch.cat(said, dim=-1)


def _with_signal(batch: NeuralBatch, signal: Tensor) -> NeuralBatch:
    """Replace the signal by one of another length, all of it there."""
    there = torch.ones(len(signal), signal.shape[-1], dtype=torch.bool, device=signal.device)
    return replace(batch, signal=signal, time_mask=there)
