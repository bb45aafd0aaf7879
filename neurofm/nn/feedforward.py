"""Position-wise layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import silu


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate x) · up x), without biases (arXiv:2002.05202).

    Parameters
    ----------
    dim : int
        Width of input and output.
    inner_dim : int
        Width between.
    """

    def __init__(self, dim: int, *, inner_dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, inner_dim, bias=False)
        self.up = nn.Linear(dim, inner_dim, bias=False)
        self.down = nn.Linear(inner_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `x`, shape (..., dim), to the same shape."""
        return self.down(silu(self.gate(x)) * self.up(x))
