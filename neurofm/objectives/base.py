"""What every objective returns and offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from neurofm.models.base import Model
from neurofm.schema.batch import NeuralBatch


@dataclass
class Loss:
    """A loss, its terms before weighting, and metrics (scalars, detached).

    Attributes
    ----------
    total : Tensor, shape ()
        What is minimised.
    terms, metrics : dict of str to Tensor, shape ()
        For the log.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What is learned; owns its heads, targets and masks."""

    needs: tuple[str, ...]
    """Batch fields that must not be None.

    An objective may also say ``idle``: last words of the names of model parameters that it makes no use of, and
    ``takes_terms``: the method of a model whose own terms it adds. Training freezes what is idle: that, what a model itself calls
    ``idle``, and what it has ``only_for_terms`` where they are not taken. ``contrasts``: whether windows of a batch are told from
    each other, so that a part of a batch has another loss; validation then takes whole batches on every rank.
    """

    def __call__(self, model: Model, batch: NeuralBatch, generator: torch.Generator | None) -> Loss:
        """Return the loss of one batch."""
        ...

    def predict(self, model: Model, batch: NeuralBatch) -> Tensor:
        """Return what the benchmark scores: logits (B, classes) or a signal estimate (B, C, T)."""
        ...
