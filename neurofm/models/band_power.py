"""Log power of every electrode in bands, weighed into a few numbers per segment: a competitor, not a published system.

    patches ─ log power in bands ─ standardised ─ weights of (electrode, band) ─ sum over electrodes ─ one token per segment

It is linear in log power, as filter-bank decoders are, but what it weighs can be learned from many people without labels
(`objectives.masked_summary`), and a window is a few numbers, which a few trials suffice to read. Signals should be
brought to a common level first (transform `recenter`).

Shape legend: B batch, T segment, C channel, M channel of the vocabulary, F band, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from neurofm.tokenizers.log_spectrum import LogPower


class BandPower(Backbone):
    """One token per segment, of no channel.

    Parameters
    ----------
    facts : Facts
        Rate, window, names of the electrodes; one that no training recording has weighs nothing.
    patch_s, patch_samples : float or int
        Length of a segment; exactly one of the two.
    dim : int
        Numbers D of a token: few, as each has to be read from few trials.
    n_bands : int
        Bands F at most, of equal width on a logarithmic scale of frequency; see `LogPower`.
    """

    fuses_channels = hides_tokens = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        dim: int = 4,
        n_bands: int = 6,
    ) -> None:
        super().__init__()
        if not facts.channels:
            raise ConfigError("band_power needs names of channels, which these data do not have")
        self.dim = dim
        self.patch_samples = patch_length("band_power", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        count_patches(facts.window_samples, self.patch_samples)
        self.tokenizer = LogPower(patch_samples=self.patch_samples, n_bands=n_bands, standardise=True)
        self.n_features = self.tokenizer.n_features
        self.weight = nn.Parameter(torch.empty(len(facts.channels) + 1, self.n_features, dim))
        nn.init.normal_(self.weight, std=0.1 * self.n_features**-0.5)
        with torch.no_grad():
            self.weight[0] = 0.0  # of unknown names

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None) -> Encoded:
        """Encode a batch: N = T tokens; those of segments where `mask_tokens` (B, T, 1) is True do not count."""
        if batch.channel_ids is None:
            raise ConfigError("band_power: needs batch.channel_ids, as it knows its electrodes by name")
        if mask_tokens is not None and mask_tokens.shape[2] != 1:
            raise ConfigError("band_power: a token stands for all channels, so only whole segments can be hidden")
        # names beyond the table are unknown ones
        ids = batch.channel_ids.masked_fill(batch.channel_ids >= len(self.weight), 0)
        known = batch.channel_mask & (ids > 0)
        features = self.patch_features(batch.signal).masked_fill(~known[:, None, :, None], 0.0)
        tokens = torch.einsum("btcf,bcfd->btd", features, self.weight[ids])
        # sums over more electrodes are not larger
        out = segment_tokens(tokens / known.sum(1).clamp(min=1).sqrt()[:, None, None], batch, self.patch_samples)
        return out if mask_tokens is None else out._replace(mask=out.mask & ~mask_tokens.flatten(1))

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return log power in bands, shape (B, T, C, n_features)."""
        return self.tokenizer.patch_features(signal)
