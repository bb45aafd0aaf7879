"""The residual dilated convolutions that speech and image decoding share.

Shape legend: B batch, D width, S sample.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError


class DilatedConv(nn.Module):
    """Convolutions with dilation 2^(k mod period), norm, GELU and residual; a gated one after every `glu_every`-th.

    Défossez et al. 2023 (arXiv:2208.12266), fig. 2 and appendix. The first layer has no residual where widths differ.
    Normalisation is BatchNorm; lengths stay.

    Parameters
    ----------
    n_in, dim : int
        Width of input and of every layer D.
    n_layers, period : int
        Number of layers, and after how many the dilation starts again from 1.
    kernel : int
        Taps, odd.
    glu_every : int
        0 = no gated layers.
    """

    def __init__(
        self, *, n_in: int, dim: int = 320, n_layers: int = 10, period: int = 5, kernel: int = 3, glu_every: int = 2
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ConfigError(f"kernel={kernel} must be odd, so that the length stays")
        self.glu_every = glu_every
        self.layers = nn.ModuleList()
        self.gates = nn.ModuleList()
        for i in range(n_layers):
            dilation = 2 ** (i % period)
            width = dim if i else n_in
            conv = nn.Conv1d(width, dim, kernel, dilation=dilation, padding=dilation * (kernel // 2))
            self.layers.append(nn.Sequential(conv, nn.BatchNorm1d(dim), nn.GELU()))
            if glu_every and (i + 1) % glu_every == 0:
                self.gates.append(nn.Conv1d(dim, 2 * dim, kernel, padding=kernel // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Filter (B, n_in, S) to (B, D, S)."""
        for i, layer in enumerate(self.layers):
            h = layer(x)
            x = x + h if h.shape == x.shape else h
            if self.glu_every and (i + 1) % self.glu_every == 0:
                x = F.glu(self.gates[i // self.glu_every](x), dim=1)
        return x
