"""Fixed tables of positions."""

from __future__ import annotations

import torch
from torch import Tensor

from neurofm.schema.errors import ConfigError


def sincos_table(n_positions: int, dim: int, *, base: float = 10000.0) -> Tensor:
    """Sines in the even columns and cosines in the odd ones (Vaswani et al. 2017, section 3.5), shape (n_positions, dim)."""
    if dim % 2:
        raise ConfigError(f"a table of sines and cosines needs an even width, not dim={dim}")
    rate = base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(n_positions, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()
