"""Filters of a stimulus and of the units' own past, and a small network over them: spikes from what was seen or heard.

A generalised linear model of spikes (Pillow et al. 2008, Nature 454:995, eq. 1) has a filter of the stimulus and one of the
past spikes, whose sum is the log rate. Here there are `dim` of either, and their sums pass residual layers as in
convolutional models of the retina (McIntosh et al. 2016, arXiv:1702.01825); with no layer and the linear head of
`objectives.masked_counts` it is that generalised linear model. The token of a bin knows the stimulus to the end of its bin
and spikes of earlier bins.

Shape legend: B batch, C channel (unit), T bin, K columns of the stimulus, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts


class BinnedStream(nn.Module):
    """A stream as means over equal parts of every bin, scaled; (B, K, T · per_bin), 0 where no sample lies.

    Parameters
    ----------
    stream, columns : str, int
        Name in `batch.streams`, and its number of columns K.
    per_bin : int
        Parts of a bin.
    mean, scale : float
        Taken off, and divided by.
    """

    def __init__(
        self, *, stream: str, columns: int = 1, per_bin: int = 1, mean: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        if per_bin < 1 or columns < 1 or scale <= 0:
            raise ConfigError(
                f"stimulus_filters: per_bin={per_bin} and columns={columns} must be at least 1, scale={scale} above 0"
            )
        self.stream, self.columns, self.per_bin, self.mean, self.scale = stream, columns, per_bin, mean, scale

    def forward(self, batch: NeuralBatch) -> Tensor:
        """Bin the batch's stream."""
        if self.stream not in batch.streams:
            raise DataError(
                f"stimulus_filters: stream '{self.stream}' is not in the batch: {nearest(self.stream, batch.streams)} "
                "(data.streams)"
            )
        values, time_s, mask = batch.streams[self.stream]
        if values.shape[-1] != self.columns:
            raise DataError(
                f"stimulus_filters: stream '{self.stream}' has {values.shape[-1]} columns, expected {self.columns}"
            )
        n = batch.signal.shape[-1] * self.per_bin
        # to a thousandth of a part: times of a window are float32
        at = (time_s.double() * (batch.rate_hz * self.per_bin) + 1e-3).floor().long()
        there = (mask & (at >= 0) & (at < n)).to(values.dtype)
        at = at.clamp(0, n - 1)
        count = there.new_zeros(len(at), n).scatter_add_(1, at, there)
        scaled = (values - self.mean) / self.scale * there[..., None]
        total = scaled.new_zeros(len(at), n, self.columns).scatter_add_(
            1, at[..., None].expand(-1, -1, self.columns), scaled
        )
        return (total / count.clamp(min=1)[..., None]).transpose(1, 2)


class StimulusFilters(Backbone):
    """Causal filters of stimulus and past spikes, residual layers; one token per bin.

    Parameters
    ----------
    facts : Facts
        Vocabulary of units, bin.
    stimulus : mapping, optional
        Arguments of `BinnedStream`; None: past spikes alone.
    history_s : float
        Length of the stimulus's filters, the bin itself included.
    own_s : float
        Length of the filters of past spikes, those of all units of the window; 0: the stimulus alone.
    dim, n_layers, hidden : int
        Filters D, residual layers and their inner width.
    dropout : float
        Inside the layers.
    """

    causal = True
    sees_before = True

    def __init__(
        self,
        facts: Facts,
        *,
        stimulus: Mapping[str, Any] | None = None,
        history_s: float = 0.05,
        own_s: float = 0.02,
        dim: int = 16,
        n_layers: int = 1,
        hidden: int = 32,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        bins, self.n_own = round(history_s * facts.rate_hz), round(own_s * facts.rate_hz)
        if self.n_own < 0 or (stimulus is not None and bins < 1) or (stimulus is None and self.n_own < 1):
            raise ConfigError(
                f"stimulus_filters: history_s={history_s:g} and own_s={own_s:g} hold no bin of {1 / facts.rate_hz:g} s "
                "to predict from"
            )
        self.dim = dim
        self.binned = None if stimulus is None else BinnedStream(**stimulus)
        if self.binned is not None:
            per_bin = self.binned.per_bin
            self.reach = (bins - 1) * per_bin
            self.heard = nn.Conv1d(self.binned.columns, dim, bins * per_bin, stride=per_bin)
        if self.n_own:
            self.unit = GrowingTable(len(facts.channels), dim, std=facts.max_channels**-0.5)
            self.own = nn.Conv1d(dim, dim, self.n_own, groups=dim, bias=False)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, dim))
            for _ in range(n_layers)
        )

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode stimulus and past counts."""
        x = batch.signal.new_zeros((), dtype=next(self.parameters()).dtype)
        if self.binned is not None:
            x = self.heard(F.pad(self.binned(batch).to(self.heard.weight.dtype), (self.reach, 0)))
        if self.n_own:
            there = batch.channel_mask[..., None] & batch.time_mask[:, None]
            counts = torch.where(there, batch.signal, 0).to(self.own.weight.dtype)
            # the bin itself is what is to be told: bin t gets t − n … t − 1
            before = F.pad(counts, (self.n_own, 0))[..., :-1]
            x = x + self.own(torch.einsum("bct,bcd->bdt", before, self.unit(check_units(batch))))
        x = x.transpose(1, 2)
        for layer in self.layers:
            x = x + layer(x)
        return segment_tokens(x, batch, 1, mask=batch.time_mask)

    def subject_parameters(self) -> list[str]:
        """Return the vectors of the units."""
        return ["unit.weight"] if self.n_own else []

    def grow(self, facts: Facts) -> None:
        """Take in units behind the present ones."""
        if self.n_own:
            self.unit.grow(len(facts.channels))
