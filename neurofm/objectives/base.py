"""What every objective is and returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


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


class Objective(nn.Module):
    """What is learned; owns its heads, targets and masks.

    A new one is `__init__(self, model, facts, /, *, …)`, `forward` and `predict`.

    Attributes
    ----------
    needs : tuple of str
        Batch fields that must not be None.
    idle : tuple of str
        Last words of the names of model parameters that it makes no use of; training freezes them.
    takes_terms : bool
        Whether it adds the model's own terms; else what serves those alone (`Backbone.only_for_terms`) is frozen.
    takes_tokenizer : bool
        Whether its choice ``tokenizer`` names a trained tokenizer. Training opens that, builds the objective with the choices
        ``n_codes`` and ``tokenizer_channels`` from it, and calls `attach`.
    report : str, optional
        Name of the report that `neurofm train` writes of a run, see `report.RUN_REPORTS`.
    is_classifier : bool
        Whether `predict` gives logits of `Facts.classes`.
    contrasts : bool
        Whether windows of a batch are told from each other, so that a part of a batch has another loss; validation then takes
        whole batches on every rank.
    places : bool
        Whether stimuli have a head of their own, so that `place` moves them.
    solves_on : str
        What `solve` is given: "stretches", unbroken spans of signal, or "windows", the task's, with their targets.
    held : int
        Channels of a subject whose context is kept (`read_context`); 0 where none is.
    """

    needs: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()
    takes_terms: bool = False
    takes_tokenizer: bool = False
    report: str | None = None
    is_classifier: bool = False
    contrasts: bool = False
    places: bool = False
    solves_on: str = "stretches"
    held: int = 0

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of one batch."""
        raise NotImplementedError(f"{type(self).__name__} has no forward(model, batch, generator)")

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return what the benchmark scores: logits (B, classes) or a signal estimate (B, C, T)."""
        raise ConfigError(f"{type(self).__name__} estimates nothing to be scored; fine-tune the model on a task")

    def place(self, embedding: Tensor) -> Tensor:
        """Where embeddings of stimuli lie among the answers of `predict`: as they are, unless both sides were learned."""
        return embedding

    def reconstruct(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the embedding of the stimulus in its own space, (B, *embedding_shape)."""
        return self.predict(model, batch)

    @property
    def linear_head(self) -> nn.Linear | None:
        """The map that `predict` is of the model's pooled vector, where it is that and nothing else."""
        return None

    def regression_targets(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Return what `linear_head` is regressed on in its own units, (B, outputs), and in which windows it is there, (B,)."""
        raise ConfigError(f"{type(self).__name__} has no targets that a linear head could be regressed on")

    def rollout(self, model: Backbone, batch: NeuralBatch, n_steps: int) -> Tensor:
        """Return the `n_steps` segments after the batch, each from those before it, the estimated ones included."""
        raise ConfigError(f"{type(self).__name__} cannot be rolled out; use objective=next_state")

    def subject_parameters(self) -> list[str]:
        """Names of the parameters that a new subject or session gets afresh."""
        return []

    def grow(self, facts: Facts) -> None:
        """Take in vocabularies of channels (units) and sessions that begin with the present ones."""

    @property
    def has_closed_form(self) -> bool:
        """Whether a part of it is solved, not trained, so that `solve` needs data."""
        return False

    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Solve what has a closed form, before any gradient step, from what `solves_on` says."""

    def read_context(self, model: Backbone, batch: NeuralBatch) -> None:
        """Keep what one subject's windows say, so that `predict` needs no further step; sets `held`."""
        raise NotImplementedError

    def attach(self, tokenizer: nn.Module) -> None:
        """Take a frozen tokenizer; see `takes_tokenizer`."""
        raise NotImplementedError(f"{type(self).__name__} has no attach(tokenizer)")
