"""Stage 1 of masked codebook modelling: train a tokenizer, signal → codes → signal.

Shape legend: B batch, C channel, S sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.models import MODELS
from neurofm.models.base import Backbone, CodebookModel
from neurofm.nn.bands import band_r_squared
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.grid import sample_mask
from neurofm.objectives.scores import r_squared
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class Tokenizer(Objective):
    """The sum of the model's own terms; in validation also R² of what its codes are decoded to.

    Parameters
    ----------
    model : CodebookModel
        A model with codebooks.
    facts : Facts
        Not used.
    band_scores : bool
        In validation, R² by frequency band (``r2_delta`` … ``r2_gamma``) beside that of the waveform.
    """

    needs = ("signal", "channel_mask", "time_mask")
    takes_terms = True
    report = "tokenizer"

    def __init__(self, model: Backbone, facts: Facts, /, *, band_scores: bool = True) -> None:
        super().__init__()
        if not isinstance(model, CodebookModel):
            fit = ", ".join(n for n in MODELS.names() if n.endswith("tokenizer"))
            raise ConfigError(
                f"objective 'tokenizer' trains models with codebooks, and {type(model).__name__} has none; choose one of "
                f"{fit}"
            )
        self.band_scores = band_scores

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the loss of one batch."""
        assert isinstance(model, CodebookModel)
        terms, metrics = model.losses(batch, generator)
        total = torch.stack(list(terms.values())).sum()
        metrics = {name: value.detach() for name, value in metrics.items()}
        if not self.training:
            metrics |= self.scores(model, batch)
        return Loss(total, {name: value.detach() for name, value in terms.items()}, metrics)

    @torch.no_grad()
    def scores(self, model: CodebookModel, batch: NeuralBatch) -> dict[str, Tensor]:
        """R² of the decoded codes against the signal that they stand for."""
        estimate, truth = self.predict(model, batch), model.normalised(batch)
        scores = {"r2": r_squared(estimate, truth, sample_mask(batch))}
        if self.band_scores:
            whole = batch.channel_mask & batch.time_mask.all(1, keepdim=True)
            found = band_r_squared(estimate, truth, whole, rate_hz=batch.rate_hz)
            scores |= {f"r2_{name}": value for name, value in found.items()}
        return scores

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the signal as its codes give it back, shape (B, C, S), in the units of the model's `normalised`."""
        assert isinstance(model, CodebookModel)
        return model.decode(model.codes(batch), batch)
