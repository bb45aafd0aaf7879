"""MindEye2-class encoder: a linear map per subject, then a shared residual network (Scotti et al., ICML 2024, arXiv:2403.11207).

Voxels → the subject's own linear map, kept small by weight decay → residual blocks → one vector. The published linear
layer to 256 × 1,664 numbers holds 85 % of the weights; the objective's low-rank head stands in for it. Its second kind of
mixer works along a sequence of length one, where its norm is constant: it only adds an offset and is left out.

Loss and schedule: `conf/objective/alignment_mindeye.yaml`.
"""

from __future__ import annotations

from torch import nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.vector import mean_over_time
from neurofm.nn.subject_linear import SubjectLinear, drop_subjects, rows_of, start_from_mean, tables_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class MindEye(Backbone):
    """Linear map per subject and residual network; one token per window.

    Parameters
    ----------
    facts : Facts
        Subjects, and the largest number of voxels of any; voxels are known by their place.
    dim, n_blocks : int
        Width and depth of the shared network.
    dropout : float
        In its blocks.
    subject_dropout : float
        Probability of training a sample on the average subject's row; sensible only where voxels mean the same.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        dim: int = 4096,
        n_blocks: int = 4,
        dropout: float = 0.15,
        subject_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.max_channels, self.subject_dropout = dim, facts.max_channels, subject_dropout
        self.ridge = SubjectLinear(n_subjects=len(facts.subjects), n_in=facts.max_channels, n_out=dim, bias=True)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(dim, dim))
            for _ in range(n_blocks)
        )

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window."""
        values = mean_over_time(batch) * batch.channel_mask
        if values.shape[1] > self.max_channels and bool(batch.channel_mask[:, self.max_channels :].any()):
            raise ConfigError(
                f"mindeye: was built for up to {self.max_channels} voxels, got {values.shape[1]}; "
                "use the region of training"
            )
        values = values[:, : self.max_channels]
        values = nn.functional.pad(values, (0, self.max_channels - values.shape[1]))
        rows = rows_of(batch.subject, len(self.ridge.weight), len(values), values.device)
        if self.training:
            rows = drop_subjects(rows, self.subject_dropout)
        x = self.ridge(values, rows)
        for block in self.blocks:
            x = x + block(x)
        return one_token(x, batch)

    def subject_parameters(self) -> list[str]:
        """Return the table of the subjects' linear maps, weights and offsets both."""
        return tables_of(self)

    def start_new_subject(self) -> None:
        """Give whoever is not in the vocabulary the mean of the known subjects' maps.

        Native voxels of two people share no coordinates; with those a ridge regression to the known subjects' codes is
        the better start.
        """
        start_from_mean(self)
