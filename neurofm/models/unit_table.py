"""One learned vector per unit of a vocabulary that grows: what a new session brings with it, and all it must learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import DataError


class GrowingTable(nn.Embedding):
    """Rows 1 … n of a vocabulary; row 0, of what is not in it, is never trained.

    A subclass of `nn.Embedding`, so weight decay leaves it alone: rows without a gradient then stay to the bit.
    """

    def __init__(self, n_names: int, dim: int, *, std: float = 0.02) -> None:
        super().__init__(n_names + 1, dim, padding_idx=0)
        self.std = std
        nn.init.normal_(self.weight, std=std)

    @torch.no_grad()
    def grow(self, n_names: int) -> None:
        """Add rows at the end for names that the vocabulary got since; those there stay to the bit.

        New rows start about the mean of those there: training has moved them together, and a row at the origin is no
        unit that the network has met.
        """
        new = self.weight.new_empty(n_names + 1 - self.num_embeddings, self.embedding_dim).normal_(std=self.std)
        if self.num_embeddings > 1:
            new += self.weight[1:].mean(0)
        self.weight = nn.Parameter(torch.cat([self.weight, new]))
        self.num_embeddings = n_names + 1


def check_units(batch: NeuralBatch) -> Tensor:
    """Return `channel_ids` after making sure that every unit is in the vocabulary, shape (B, C).

    Raises
    ------
    DataError
        When one is not: an embedding of its own cannot be guessed, and sharing one would mix units up.
    """
    if batch.channel_ids is None:
        raise DataError("batch.channel_ids is missing; a model with an embedding per unit needs to know which is which")
    unknown = batch.channel_mask & (batch.channel_ids == 0)
    if bool(unknown.any()):
        row = int(unknown.any(1).nonzero()[0])
        where = f" of '{batch.recording_id[row]}'" if batch.recording_id else ""
        raise DataError(
            f"{int(unknown[row].sum())} units{where} are not in the model's vocabulary; adapt the model to this session "
            "first (neurofm finetune adapt=unit_embedding)"
        )
    return batch.channel_ids
