"""What models share that give one token per window, not one per patch."""

from __future__ import annotations

from torch import Tensor

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


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
