"""Attention from sensor positions to virtual sensors, for recordings of any layout.

Shape legend: B batch, C sensor, P axis of the position, E width of its Fourier code, V virtual sensor, S sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neurofm.schema.errors import ConfigError, DataError

MARGIN = 0.2


def flat_map(positions: Tensor) -> Tensor:
    """Azimuthal equidistant projection about the vertex, (B, C, 3) metres → (B, C, 2): angle from +z, by azimuth."""
    x, y, z = positions.unbind(-1)
    angle = torch.atan2(torch.hypot(x, y), z)
    azimuth = torch.atan2(y, x)
    return torch.stack([angle * azimuth.cos(), angle * azimuth.sin()], dim=-1)


def unit_box(positions: Tensor, known: Tensor) -> Tensor:
    """Scale the positions of each window's known sensors to [0, 1] per axis; the others become 0.

    An axis along which all sensors agree becomes 0.5.
    """
    where = known[..., None]
    low = positions.masked_fill(~where, torch.inf).amin(1, keepdim=True)
    high = positions.masked_fill(~where, -torch.inf).amax(1, keepdim=True)
    span = high - low
    scaled = torch.where(span > 0, (positions - low) / span.clamp(min=1e-30), 0.5)
    return torch.where(where, scaled, 0.0)


def fourier_code(positions: Tensor, n_frequencies: int) -> Tensor:
    """Cosines and sines of every combination of integer frequencies along the axes, (B, C, P) → (B, C, 2·n^P).

    Phase 2π Σ_p k_p (x_p + 0.2) / 1.4, k_p from 0 to n − 1 (Défossez et al. 2023, arXiv:2208.12266, eq. 1).
    """
    k = torch.arange(n_frequencies, device=positions.device, dtype=positions.dtype)
    axes = (2 * math.pi / (1 + 2 * MARGIN)) * (positions[..., None] + MARGIN) * k
    phase = axes[..., 0, :]
    for axis in range(1, positions.shape[-1]):
        phase = (phase[..., None] + axes[..., axis, :].unsqueeze(-2)).flatten(-2)
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


class SpatialAttention(nn.Module):
    """Each virtual sensor is a softmax-weighted mean of the sensors, by their position alone.

    Défossez et al. 2023 (arXiv:2208.12266), eq. 1 and 2. In training a disc around a random place is blotted out.

    Parameters
    ----------
    n_virtual : int
        V; 270 as published.
    n_axes : int
        2: flat map of the head, with 32 frequencies per axis. 3: positions as they are, with 10.
    n_frequencies : int, optional
        Per axis.
    dropout_radius : float
        Radius of the disc, in units of the layout's extent; 0 = none.
    """

    def __init__(
        self, *, n_virtual: int = 270, n_axes: int = 2, n_frequencies: int | None = None, dropout_radius: float = 0.2
    ) -> None:
        super().__init__()
        if n_axes not in (2, 3):
            raise ConfigError(f"n_axes={n_axes} must be 2 (flat map of the head) or 3 (positions as they are)")
        self.n_axes, self.dropout_radius = n_axes, dropout_radius
        self.n_frequencies = n_frequencies or (32 if n_axes == 2 else 10)
        width = 2 * self.n_frequencies**n_axes
        self.heads = nn.Parameter(torch.empty(n_virtual, width))
        nn.init.normal_(self.heads, 0.0, width**-0.5)

    def forward(self, signal: Tensor, positions: Tensor | None, channel_mask: Tensor) -> Tensor:
        """Mix (B, C, S) to (B, V, S); sensors without a position take no part.

        Raises
        ------
        DataError
            When a window has no sensor with a position.
        """
        if positions is None:
            raise DataError("spatial attention needs batch.positions; these data have no sensor positions")
        known = channel_mask & positions.isfinite().all(-1)
        if not bool(known.any(1).all()):
            raise DataError("spatial attention: a window has no sensor with a known position")
        raw = torch.where(known[..., None], positions, 0.0).to(signal.dtype)
        place = unit_box(flat_map(raw) if self.n_axes == 2 else raw, known)
        scores = fourier_code(place, self.n_frequencies) @ self.heads.T
        seen = known & ~self._blotted(place, known)
        weight = scores.masked_fill(~seen[..., None], -torch.inf).softmax(1)
        return weight.transpose(1, 2) @ (signal * known[..., None])

    def _blotted(self, place: Tensor, known: Tensor) -> Tensor:
        """Sensors within the disc of this step, (B, C); none in windows where none would be left."""
        if not self.training or self.dropout_radius == 0:
            return torch.zeros_like(known)
        centre = torch.rand(self.n_axes, device=place.device, dtype=place.dtype)
        inside = (place - centre).norm(dim=-1) <= self.dropout_radius
        return inside & (known & ~inside).any(1, keepdim=True)
