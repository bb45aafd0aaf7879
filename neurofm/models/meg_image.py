"""Images from MEG: the speech network with a learned sum over time (Benchetrit et al., ICLR 2024, arXiv:2310.19812).

Attention by position → 1 × 1 → subject matrix → dilated residual convolutions → wide 1 × 1 → one learned weight per
sample. The two heads, for the contrastive and the regression term, are the objective's (``own_regression_head: true``).
"""

from __future__ import annotations

import torch
from torch import nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.speech_decoder import SpeechDecoder
from neurofm.models.vector import check_window
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts


class MEGImage(Backbone):
    """One vector per window: the network's features, summed over time by learned weights.

    Parameters
    ----------
    facts : Facts
        Subjects, rate and window.
    dim : int
        Width of the vector.
    hidden, n_layers, kernel, period, glu_every
        Of the convolutions.
    n_virtual, n_axes, n_frequencies, sensor_dropout, subject_layer, subject_dropout
        As in `SpeechDecoder`.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        dim: int = 512,
        hidden: int = 320,
        n_layers: int = 4,
        kernel: int = 3,
        period: int = 5,
        glu_every: int = 2,
        n_virtual: int = 270,
        n_axes: int = 3,
        n_frequencies: int | None = None,
        sensor_dropout: float = 0.2,
        subject_layer: bool = True,
        subject_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.n_samples = dim, facts.window_samples
        self.trunk = SpeechDecoder(
            facts, n_virtual=n_virtual, n_axes=n_axes, n_frequencies=n_frequencies, sensor_dropout=sensor_dropout,
            subject_layer=subject_layer, subject_dropout=subject_dropout, dim=hidden, n_layers=n_layers, kernel=kernel,
            period=period, glu_every=glu_every,
        )  # fmt: skip
        self.widen = nn.Linear(hidden, dim)
        self.time_weight = nn.Parameter(torch.full((self.n_samples,), 1 / self.n_samples))
        self.time_bias = nn.Parameter(torch.zeros(()))

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window."""
        check_window("meg_image", batch, self.n_samples)
        features = self.widen(self.trunk(batch).tokens) * batch.time_mask[..., None]
        return one_token(self.time_weight @ features + self.time_bias, batch)

    def subject_parameters(self) -> list[str]:
        """Return the table of subject matrices."""
        return [f"trunk.{name}" for name in self.trunk.subject_parameters()]

    def start_new_subject(self) -> None:
        """Give whoever is not in the vocabulary the mean of the known subjects' matrices."""
        self.trunk.start_new_subject()
