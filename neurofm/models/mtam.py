"""MTAM's EEG tower: every band power of every electrode is a token (Qiu et al., EMNLP Findings 2023, arXiv:2208.06348).

Band powers → convolution along the tokens and a sinusoid → transformer layers → mean. The text is a frozen embedding; the
transport term between the two clouds is the objective's (`conf/objective/alignment_mtam.yaml`) and passes gradients,
which the release's does not. The montage is fixed, as in `nice`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import window_tokens
from neurofm.models.vector import montage_size
from neurofm.nn.montage import to_montage
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

ZUCO_BANDS_HZ = ((4, 6), (6.5, 8), (8.5, 10), (10.5, 13), (13.5, 18), (18.5, 30), (30.5, 40), (40, 49.5))
"""The eight bands of ZuCo's fields t1, t2, a1, a2, b1, b2, g1, g2."""


def band_powers(signal: Tensor, rate_hz: float, bands_hz: Sequence[Sequence[float]]) -> Tensor:
    """Natural logarithm of the mean power in each band, (B, C, S) → (B, C, bands); Hann window, edges included."""
    S = signal.shape[-1]
    window = torch.hann_window(S, device=signal.device, dtype=signal.dtype)
    power = torch.fft.rfft((signal - signal.mean(-1, keepdim=True)) * window).abs().square()
    power = power / (rate_hz * window.square().sum())
    hz = torch.fft.rfftfreq(S, 1 / rate_hz, device=signal.device)
    inside = [(hz >= low) & (hz <= high) for low, high in bands_hz]
    mean = torch.stack([power[..., where].mean(-1) for where in inside], dim=-1)
    return (mean + 1e-12).log()


def _sinusoid(n: int, dim: int) -> Tensor:
    """Sines and cosines of the token's place, (n, dim)."""
    rate = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
    phase = torch.arange(n)[:, None] * rate
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)[:, :dim]


class _Layer(nn.Module):
    def __init__(self, dim: int, n_heads: int, head_dim: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * n_heads * head_dim)
        self.out = nn.Linear(n_heads * head_dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn_dim), nn.ReLU(), nn.Linear(ffn_dim, dim))
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        x = self.norm_1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return self.norm_2(x + self.dropout(self.ffn(x)))


class MTAM(Backbone):
    """Band powers as tokens; N = channels of the montage × bands.

    Parameters
    ----------
    facts : Facts
        Names of the electrodes, rate and window.
    bands_hz : sequence of (low, high), optional
        Bands; None takes the samples of the batch as the features themselves, for data that come as band powers.
    dim, n_layers, n_heads, head_dim, ffn_dim, dropout
        Of the transformer.
    missing : str
        What happens to windows that lack an electrode: "zero" (its tokens are not attended to) or "refuse".
    """

    def __init__(
        self,
        facts: Facts,
        *,
        bands_hz: Sequence[Sequence[float]] | None = ZUCO_BANDS_HZ,
        dim: int = 16,
        n_layers: int = 1,
        n_heads: int = 1,
        head_dim: int = 64,
        ffn_dim: int = 32,
        dropout: float = 0.3,
        missing: str = "zero",
    ) -> None:
        super().__init__()
        self.n_channels, self.missing, self.dim = montage_size("mtam", facts), missing, dim
        self.rate_hz = facts.rate_hz
        self.bands_hz = None if bands_hz is None else [(float(low), float(high)) for low, high in bands_hz]
        self._check_bands(facts)
        self.n_bands = facts.window_samples if self.bands_hz is None else len(self.bands_hz)
        self.norm = nn.LayerNorm(self.n_channels * self.n_bands)
        self.conv = nn.Conv1d(1, dim, 3, padding=1)
        self.position: Tensor
        self.register_buffer("position", _sinusoid(self.n_channels * self.n_bands, dim), persistent=False)
        self.layers = nn.ModuleList(_Layer(dim, n_heads, head_dim, ffn_dim, dropout) for _ in range(n_layers))

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: tokens electrode-major with the band fastest, of no channel of the batch."""
        x, there = to_montage(
            batch.signal, batch.channel_mask, batch.channel_ids, self.n_channels, model="mtam", missing=self.missing
        )
        if self.bands_hz is not None:
            x = band_powers(x, batch.rate_hz, self.bands_hz)
        elif x.shape[-1] != self.n_bands:
            raise ConfigError(f"mtam: was built for {self.n_bands} features per electrode, got {x.shape[-1]}")
        x = (x * there[..., None]).flatten(1)
        mask = there.repeat_interleave(self.n_bands, dim=1)
        tokens = self.conv((self.norm(x) * mask)[:, None]).transpose(1, 2) + self.position
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return window_tokens(tokens, batch, mask=mask)

    def _check_bands(self, facts: Facts) -> None:
        step = facts.rate_hz / facts.window_samples
        for low, high in self.bands_hz or ():
            if not 0 <= low < high <= facts.rate_hz / 2 or math.floor(high / step) < math.ceil(low / step):
                raise ConfigError(
                    f"mtam: band {low:g}–{high:g} Hz holds no frequency of a window of {facts.window_s:g} s at "
                    f"{facts.rate_hz:g} Hz (steps of {step:.3g} Hz); choose other bands_hz or a longer window"
                )
