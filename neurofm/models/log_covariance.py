"""Logarithms of short covariances of whitened electrodes, weighed into a few numbers: a competitor, not a published system.

    patches ─ one band's cross-spectrum ─ shrunk ─ matrix logarithm ─ weights of pairs of electrodes ─ one token per segment

The logarithm of a covariance is what Riemannian decoders are linear in (Barachant et al. 2012, IEEE TBME 59:920; at the
identity, to which each person is brought first by the transform `recenter`). Such a decoder has to find hundreds of weights in
a few trials. Here pretraining finds few directions in other people without a label: those along which the segments of a
window agree, in closed form (`nn.shared_directions`); a new person's trials only have to read their numbers.

Shape legend: B batch, T segment, C channel, M channel of the vocabulary, F frequency of a patch, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.matrix_log import matrix_log
from neurofm.nn.patching import count_patches, cut_patches
from neurofm.nn.shared_directions import SharedCovariance
from neurofm.nn.spectrum import bin_weights
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

STARTS = ("shared", "random")
# beyond, the covariance of their pairs would need gigabytes
MOST_ELECTRODES = 140


class LogCovariance(Backbone):
    """One token per segment, of no channel.

    Parameters
    ----------
    facts : Facts
        Rate, window, names of the electrodes; one that no training recording has weighs nothing.
    patch_s, patch_samples : float or int
        Length of a segment; exactly one of the two.
    dim : int
        Numbers D of a token: few, as each has to be read from few trials.
    band_hz : pair of float
        Frequencies whose covariance is taken, ends included.
    shrinkage : float
        Share of the identity in a segment's covariance, above 0: a segment may have fewer frequencies than electrodes.
    start : str
        "shared": weights before training are the directions along which segments of the training windows agree, each
        scaled to carry variance 1 of it and moved to mean 0; "random": new random ones.
    """

    fuses_channels = hides_tokens = True
    n_features = 1

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        dim: int = 3,
        band_hz: Sequence[float] = (8.0, 30.0),
        shrinkage: float = 0.1,
        start: str = "shared",
    ) -> None:
        super().__init__()
        if not facts.channels:
            raise ConfigError("log_covariance needs names of channels, which these data do not have")
        if start not in STARTS:
            raise ConfigError(f"log_covariance: start='{start}' is unknown: {nearest(start, STARTS)}")
        if not 0 < shrinkage < 1 or dim < 1:
            raise ConfigError(f"log_covariance: shrinkage={shrinkage} must be in (0, 1), dim={dim} above 0")
        self.dim, self.shrinkage, self.start = dim, shrinkage, start
        self.patch_samples = patch_length("log_covariance", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        self.window_samples = count_patches(facts.window_samples, self.patch_samples) * self.patch_samples
        frequency = torch.fft.rfftfreq(self.patch_samples, 1 / facts.rate_hz)
        inside = (frequency >= band_hz[0]) & (frequency <= band_hz[1]) & (frequency > 0)
        if len(band_hz) != 2 or not inside.any():
            raise ConfigError(
                f"log_covariance: band_hz={list(band_hz)} holds no frequency of a patch of {self.patch_samples} samples, "
                f"which are {facts.rate_hz / self.patch_samples:g} Hz apart up to {facts.rate_hz / 2:g}"
            )
        weight = bin_weights(self.patch_samples) * inside
        self.in_band: Tensor
        self.register_buffer("in_band", (weight / weight.sum()).sqrt(), persistent=False)
        # symmetric in use; row and column 0: names that are unknown
        self.weight = nn.Parameter(torch.empty(len(facts.channels) + 1, len(facts.channels) + 1, dim))
        nn.init.normal_(self.weight, std=0.1)
        with torch.no_grad():
            self.weight[0] = self.weight[:, 0] = 0.0
        self.bias = nn.Parameter(torch.zeros(dim))

    def covariance_logs(self, signal: Tensor, known: Tensor) -> Tensor:
        """Return the matrix logarithm of each patch's shrunk covariance, (B, T, C, C); zero where not `known` (B, C)."""
        here = (known[:, :, None] & known[:, None])[:, None]
        spectrum = self._spectrum(signal.masked_fill(~known[..., None], 0.0))
        covariance = (spectrum @ spectrum.mH).real
        identity = torch.eye(signal.shape[1], dtype=signal.dtype, device=signal.device)
        # an electrode that is not there is a block of its own, which leaves the others' logarithm alone
        return matrix_log((1 - self.shrinkage) * covariance + self.shrinkage * identity).masked_fill(~here, 0.0)

    def _spectrum(self, signal: Tensor) -> Tensor:
        """Fourier coefficients of patches in the band, (B, T, C, F): white noise of variance 1 has summed power 1."""
        return torch.fft.rfft(cut_patches(signal, self.patch_samples), norm="ortho") * self.in_band.to(signal.dtype)

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None) -> Encoded:
        """Encode a batch: N = T tokens; those of segments where `mask_tokens` (B, T, 1) is True do not count."""
        if mask_tokens is not None and mask_tokens.shape[2] != 1:
            raise ConfigError("log_covariance: a token stands for all channels, so only whole segments can be hidden")
        ids, known = self._names(batch)
        logs = self.covariance_logs(batch.signal, known)
        tokens = torch.einsum("btce,bced->btd", logs, self.weight[ids[:, :, None], ids[:, None]]) + self.bias
        out = segment_tokens(tokens, batch, self.patch_samples)
        return out if mask_tokens is None else out._replace(mask=out.mask & ~mask_tokens.flatten(1))

    def _names(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Rows of the electrodes' weights, 0 where unknown, and which are there and known, each (B, C)."""
        if batch.channel_ids is None:
            raise ConfigError("log_covariance: needs batch.channel_ids, as it knows its electrodes by name")
        # names beyond the table are unknown ones
        ids = batch.channel_ids.masked_fill(batch.channel_ids >= len(self.weight), 0)
        return ids, batch.channel_mask & (ids > 0)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return the log power of each electrode in the band, shape (B, T, C, 1)."""
        power = self._spectrum(signal).abs().square().sum(-1)
        return ((1 - self.shrinkage) * power + self.shrinkage).log()[..., None]

    @torch.no_grad()
    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Set the weights to what segments of the same window share, within people; a new subject's data change nothing.

        Windows are those of `Facts.window_s`, side by side from the start of each stretch.
        """
        if new_subject or self.start != "shared":
            return
        shared, M = SharedCovariance(), len(self.weight)
        for batch in stretches:
            ids, known = self._names(batch)
            # one recording, so the same electrodes throughout
            here = known[0]
            names = ids[0][here]
            if len(names) > MOST_ELECTRODES:
                raise ConfigError(
                    f"log_covariance: {len(names)} electrodes are too many to solve for all their pairs (at most "
                    f"{MOST_ELECTRODES}); choose channels, or start=random"
                )
            i, j = torch.triu_indices(len(names), len(names))
            # each pair once, by its smaller name first, with the length that its two entries have together
            pair = torch.minimum(names[i], names[j]) * M + torch.maximum(names[i], names[j])
            times = (1 + (i != j)).to(self.weight).sqrt()
            person = (0 if batch.subject is None else int(batch.subject[0]), tuple(names.tolist()))
            signal = batch.signal.to(self.weight)[:, here]
            for first in range(0, signal.shape[-1] - self.window_samples + 1, self.window_samples):
                window = signal[..., first : first + self.window_samples]
                shared.add(person, self.covariance_logs(window, known[:, here])[:, :, i, j] * times, pair)
        pairs, vector, value, mean = shared.directions(self.dim)
        if len(pairs) < self.dim:
            raise ConfigError(f"log_covariance: dim={self.dim} is more than the {len(pairs)} pairs of electrodes")
        self.weight.zero_()
        row, column = pairs // M, pairs % M
        # each pair stands in two places, whose weights add up
        scale = value.clamp(min=1e-12).rsqrt()
        found = vector * scale / (1 + (row != column)).to(vector).sqrt()[:, None]
        self.weight[row, column] = self.weight[column, row] = found.to(self.weight)
        self.bias.copy_(-mean * scale)
