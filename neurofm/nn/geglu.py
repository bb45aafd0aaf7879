"""Feed-forward block gated by a GELU (Shazeer 2020, arXiv:2002.05202)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class GEGLU(nn.Module):
    """down(dropout(a · gelu(b))) of the normed input, with (a, b) one linear map; (…, dim) → (…, dim)."""

    def __init__(self, dim: int, *, factor: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * factor * dim)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(factor * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is to be added to x."""
        a, gate = self.up(self.norm(x)).chunk(2, dim=-1)
        return self.down(self.dropout(a * F.gelu(gate)))
