"""NICE: natural images from EEG by a temporal-spatial convolution (Song et al., ICLR 2024, arXiv:2308.13234).

Electrodes → (attention or graph attention over channels, added) → TSConv → one vector of L·F numbers. The projector to
the image embedding is the objective's head (``objective: {name: alignment, head: residual}``). At 63 electrodes and 250
samples TSConv has 103,680 parameters, the projector to 768 numbers 1,698,816.

The montage is fixed: a channel is known by its name, one that is missing is zero or refused, one without a known name
is left out; so padding never enters.
"""

from __future__ import annotations

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.vector import check_window, montage_size
from neurofm.nn.channel_mixing import ChannelGraphAttention, ChannelSelfAttention
from neurofm.nn.montage import to_montage
from neurofm.nn.tsconv import TSConv
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

SPATIAL = ("none", "attention", "graph")


class NICE(Backbone):
    """Temporal-spatial convolution over a fixed montage; one token per window.

    Parameters
    ----------
    facts : Facts
        Names of the electrodes, rate and window.
    spatial : str
        "none", "attention" (NICE-SA) or "graph" (NICE-GA): what is added to the signal before the convolution.
    n_filters, kernel, pool, stride
        Of `TSConv`, in samples.
    dropout, spatial_dropout : float
        After the spatial filters; within `spatial`.
    missing : str
        What happens to windows that lack an electrode: "zero" or "refuse".
    """

    idle = tuple(f"tsconv.{name}" for name in TSConv.idle)

    def __init__(
        self,
        facts: Facts,
        *,
        spatial: str = "none",
        n_filters: int = 40,
        kernel: int = 25,
        pool: int = 51,
        stride: int = 5,
        dropout: float = 0.5,
        spatial_dropout: float = 0.3,
        missing: str = "zero",
    ) -> None:
        super().__init__()
        if spatial not in SPATIAL:
            raise ConfigError(f"nice: unknown spatial '{spatial}': {nearest(spatial, SPATIAL)}")
        if missing not in ("zero", "refuse"):
            raise ConfigError(f"nice: unknown missing '{missing}': {nearest(missing, ('zero', 'refuse'))}")
        self.n_channels, self.n_samples = montage_size("nice", facts), facts.window_samples
        self.missing = missing
        self.before: ChannelSelfAttention | ChannelGraphAttention | None = None
        if spatial == "attention":
            self.before = ChannelSelfAttention(
                n_channels=self.n_channels, n_samples=self.n_samples, dropout=spatial_dropout
            )
        elif spatial == "graph":
            self.before = ChannelGraphAttention(n_samples=self.n_samples, dropout=spatial_dropout)
        self.tsconv = TSConv(
            n_channels=self.n_channels, n_filters=n_filters, kernel=kernel, pool=pool, stride=stride, dropout=dropout
        )
        self.dim = self.tsconv.n_steps(self.n_samples) * n_filters

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window, step-major with the filter fastest."""
        check_window("nice", batch, self.n_samples)
        x, there = to_montage(
            batch.signal, batch.channel_mask, batch.channel_ids, self.n_channels, model="nice", missing=self.missing
        )
        if self.before is not None:
            x = self.before(x, there)
        return one_token(self.tsconv(x).flatten(1), batch)
