"""What models share that give one token per window, not one per patch."""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.models.base import Encoded
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


def one_token(vector: Tensor, batch: NeuralBatch) -> Encoded:
    """(B, D) as one token that stands for the whole window and belongs to no channel."""
    B = len(vector)
    return Encoded(
        tokens=vector[:, None],
        mask=torch.ones(B, 1, dtype=torch.bool, device=vector.device),
        channel=torch.full((B, 1), -1, device=vector.device),
        time_s=vector.new_full((B, 1), 0.5 * batch.signal.shape[-1] / batch.rate_hz),
    )


def sample_tokens(tokens: Tensor, batch: NeuralBatch) -> Encoded:
    """(B, S, D), one token per sample, of no channel."""
    B, S, _ = tokens.shape
    centre_s = (torch.arange(S, device=tokens.device, dtype=tokens.dtype) + 0.5) / batch.rate_hz
    return Encoded(
        tokens=tokens,
        mask=batch.time_mask,
        channel=torch.full((B, S), -1, device=tokens.device),
        time_s=centre_s.expand(B, -1),
    )


def mean_over_time(batch: NeuralBatch) -> Tensor:
    """Mean of each channel over the valid samples, (B, C); a beta series has one."""
    there = batch.time_mask[:, None].to(batch.signal)
    return (batch.signal * there).sum(2) / there.sum(2).clamp(min=1)


def check_window(model: str, batch: NeuralBatch, n_samples: int) -> None:
    """Refuse windows of another length than the weights were made for."""
    if batch.signal.shape[-1] != n_samples:
        raise ConfigError(
            f"{model}: was built for windows of {n_samples} samples, got {batch.signal.shape[-1]}; "
            "use the window of training"
        )


def montage_size(model: str, facts: Facts) -> int:
    """Number of named channels.

    Raises
    ------
    ConfigError
        When the data name none.
    """
    if not facts.channels:
        raise ConfigError(f"{model}: has one filter per electrode and needs the channels' names; these data have none")
    return len(facts.channels)
