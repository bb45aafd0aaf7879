"""New rows of a growing table, sought where the known rows lie.

With few seconds of a new session an embedding of 64 numbers can go anywhere. Known units say where embeddings of units
are: row = mean + z·L with L·Lᵀ their covariance, so that z of a known unit has mean 0 and unit covariance: a step goes as
far as units differ, along what they differ in.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neurofm.models.unit_table import GrowingTable


class AmongKnown(nn.Module):
    """Rows behind the first `n_known` are mean + z·L of the known rows; the others are what they are.

    Row 0, of what is in no vocabulary, is not counted as known.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, weight: Tensor, n_known: int) -> None:
        super().__init__()
        known = weight[1:n_known].detach().double()
        values, vectors = torch.linalg.eigh(torch.cov(known.T))
        self.register_buffer("mean", known.mean(0).to(weight))
        self.register_buffer("spread", (vectors * values.clamp(min=0).sqrt()).to(weight))
        self.n_known = n_known
        # "table": no weight decay, see training.schedule
        # alike to the last bit, units would be taken for one another: a little apart they part sooner
        self.new_table = nn.Parameter(0.3 * torch.randn(len(weight) - n_known, weight.shape[1]).to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the whole table."""
        return torch.cat([weight[: self.n_known], self.mean + self.new_table @ self.spread.T])


def seek_among_known(part: nn.Module, old: nn.Module, *, seed: int = 0) -> None:
    """Make the trainable tables of `part` that have grown since `old` train z of their new rows, and nothing else.

    A table that has not grown, or that knows fewer than two rows, is left as it is.
    """
    before = dict(old.named_modules())
    for name, module in list(part.named_modules()):
        if not isinstance(module, GrowingTable) or not module.weight.requires_grad:
            continue
        n_known = before[name].num_embeddings
        if n_known < 3 or module.num_embeddings == n_known:
            continue
        module.weight.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            among = AmongKnown(module.weight, n_known)
        parametrize.register_parametrization(module, "weight", among)
