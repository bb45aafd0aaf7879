"""ATM: adaptive thinking mapper, electrodes as tokens before NICE's convolution (Li et al., NeurIPS 2024, arXiv:2403.07721).

Each electrode's time course is one token: linear map, position, an optional subject token, one encoder layer over
electrodes, then TSConv over the transformed electrodes. The montage is fixed, as in `nice`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.vector import check_window, montage_size
from neurofm.nn.montage import to_montage
from neurofm.nn.subject_linear import rows_of
from neurofm.nn.tsconv import TSConv
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class _ElectrodeLayer(nn.Module):
    """Attention over electrodes and a feed-forward part, norm after each sum; width need not divide by the heads."""

    def __init__(self, dim: int, n_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        inner = dim // n_heads * n_heads
        self.query, self.key, self.value = (nn.Linear(dim, inner) for _ in range(3))
        self.out = nn.Linear(inner, dim)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ffn = nn.Sequential(
            nn.Linear(dim, ffn_dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(ffn_dim, dim), nn.Dropout(dropout)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        x = self.norm_1(x + self.dropout(self.out(mixed.transpose(1, 2).flatten(2))))
        return self.norm_2(x + self.ffn(x))


class ATM(Backbone):
    """Electrode tokens, one encoder layer, temporal-spatial convolution; one token per window.

    Parameters
    ----------
    facts : Facts
        Names of the electrodes, subjects, rate and window.
    n_heads, ffn_dim, n_layers : int
        Of the encoder over electrodes.
    subject_token : bool
        Whether a learned token of the subject joins the electrodes; it is not passed on to the convolution.
    n_filters, kernel, pool, stride
        Of `TSConv`, in samples.
    dropout, conv_dropout : float
        In the encoder; after the spatial filters.
    missing : str
        What happens to windows that lack an electrode: "zero" or "refuse".
    """

    idle = tuple(f"tsconv.{name}" for name in TSConv.idle)

    def __init__(
        self,
        facts: Facts,
        *,
        n_heads: int = 4,
        ffn_dim: int = 256,
        n_layers: int = 1,
        subject_token: bool = False,
        n_filters: int = 40,
        kernel: int = 25,
        pool: int = 51,
        stride: int = 5,
        dropout: float = 0.25,
        conv_dropout: float = 0.5,
        missing: str = "zero",
    ) -> None:
        super().__init__()
        self.n_channels, self.n_samples = montage_size("atm", facts), facts.window_samples
        if self.n_samples < n_heads:
            raise ConfigError(f"atm: a window of {self.n_samples} samples is too short for {n_heads} heads")
        self.missing = missing
        self.embed = nn.Linear(self.n_samples, self.n_samples)
        self.position = nn.Parameter(0.02 * torch.randn(self.n_channels, self.n_samples))
        self.subject_table = None
        if subject_token:
            self.subject_table = nn.Parameter(0.02 * torch.randn(len(facts.subjects) + 1, self.n_samples))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_ElectrodeLayer(self.n_samples, n_heads, ffn_dim, dropout) for _ in range(n_layers))
        self.tsconv = TSConv(
            n_channels=self.n_channels, n_filters=n_filters, kernel=kernel, pool=pool, stride=stride,
            dropout=conv_dropout,
        )  # fmt: skip
        self.dim = self.tsconv.n_steps(self.n_samples) * n_filters

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window."""
        check_window("atm", batch, self.n_samples)
        x, there = to_montage(
            batch.signal, batch.channel_mask, batch.channel_ids, self.n_channels, model="atm", missing=self.missing
        )
        h, keys = self.embed(x) + self.position, there
        if self.subject_table is not None:
            rows = rows_of(batch.subject, len(self.subject_table), len(x), x.device)
            h = torch.cat([h, self.subject_table[rows][:, None]], dim=1)
            keys = torch.cat([keys, keys.new_ones(len(x), 1)], dim=1)
        h = self.dropout(h)
        for layer in self.layers:
            h = layer(h, keys)
        h = h[:, : self.n_channels] * there[..., None]
        return one_token(self.tsconv(h).flatten(1), batch)

    def subject_parameters(self) -> list[str]:
        """Return the table of subject tokens, if there is one."""
        return [] if self.subject_table is None else ["subject_table"]

    @torch.no_grad()
    def start_new_subject(self) -> None:
        """Give whoever is not in the vocabulary the mean of the known subjects' tokens."""
        if self.subject_table is not None and len(self.subject_table) > 1:
            self.subject_table[0] = self.subject_table[1:].mean(0)
