"""BrainBERT: a transformer over the spectrogram of one electrode at a time.

Wang et al. 2023, BrainBERT: self-supervised representation learning for intracranial recordings, ICLR, arXiv:2302.14367.

    signal ─ spectrogram ─ each bin standardised ─ linear ─ + position ─ norm ─ post-norm transformer ─ tokens

Every channel is a sequence of its own; tokens of a window are its frames, channel by channel.

Shape legend: B batch, C channel, S sample, N frame, F frequency bin, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens, masked_mean
from neurofm.nn.positions import sincos_table
from neurofm.nn.spectra import count_frames, standardised, stft_magnitude
from neurofm.nn.superlets import Superlets
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts


class BrainBERT(Backbone):
    """Spectrogram of each channel through a post-norm transformer.

    Parameters
    ----------
    facts : Facts
        Rate and window.
    spectrogram : str
        ``stft``: bins standardised over the whole clip, then trimmed; ``superlet``: trimmed, then standardised; both as
        published.
    window_samples, n_bins : int
        Of the STFT: length of a frame, and lowest bins kept. 400 and 40 at 2048 Hz: 0 to 200 Hz.
    hop_samples : int
        Samples between frames.
    superlet_hz : sequence of three numbers
        Lowest and highest frequency and their number, which takes the place of `n_bins`.
    superlet_order : pair of float
        Wavelets at the lowest and at the highest frequency.
    trim_frames : int
        Frames dropped at each end, which lean on the zeros beyond it.
    dim, n_layers, n_heads, ffn_dim, dropout
        Of the transformer.
    pooling : str
        ``centre``: mean of the ten frames in the middle, as the paper's decoders read them; ``mean``: of all.
    norm_bias : float
        What the biases of all layer norms start from. The released code starts them at 1.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        spectrogram: str = "stft",
        window_samples: int = 400,
        n_bins: int = 40,
        hop_samples: int = 50,
        superlet_hz: Sequence[float] = (0.1, 200.0, 40),
        superlet_order: Sequence[float] = (3.0, 30.0),
        trim_frames: int = 10,
        dim: int = 768,
        n_layers: int = 6,
        n_heads: int = 12,
        ffn_dim: int = 3072,
        dropout: float = 0.1,
        pooling: str = "centre",
        norm_bias: float = 0.0,
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("spectrogram", spectrogram, ("stft", "superlet")), ("pooling", pooling, ("centre", "mean"))
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"brainbert: unknown {name} '{value}'; {nearest(value, known)}")
        if dim % n_heads or dim % 2:
            raise ConfigError(f"brainbert: dim={dim} must be even and a multiple of n_heads={n_heads}")
        if trim_frames < 1:
            raise ConfigError(f"brainbert: trim_frames={trim_frames} must be at least 1: the first frame is half zeros")
        self.dim, self.kind, self.pooling, self.trim_frames = dim, spectrogram, pooling, trim_frames
        self.window_samples, self.hop_samples, self.n_samples = window_samples, hop_samples, facts.window_samples
        self.superlets: Superlets | None = None
        if spectrogram == "superlet":
            low, high, n = superlet_hz
            n_bins, self.top_hz = int(n), float(high)
            self.superlets = Superlets(
                rate_hz=facts.rate_hz, n_samples=self.n_samples, order=(superlet_order[0], superlet_order[1]),
                frequencies_hz=torch.linspace(low, high, n_bins, dtype=torch.float64).tolist(), hop_samples=hop_samples,
            )  # fmt: skip
            frames = self.superlets.n_frames
        else:
            frames = count_frames(self.n_samples, window_samples=window_samples, hop_samples=hop_samples)
        self.n_bins, self.n_frames = n_bins, frames - 2 * trim_frames
        if self.n_frames < 1:
            raise ConfigError(
                f"brainbert: a window of {self.n_samples} samples has {frames} frames, none are left after dropping "
                f"{trim_frames} at each end; use a longer window or a smaller hop_samples"
            )
        self.embed = nn.Linear(n_bins, dim)
        self.register_buffer("position_table", sincos_table(self.n_frames, dim), persistent=False)
        self.embed_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, n_heads, ffn_dim, dropout, activation="gelu", batch_first=True)
            for _ in range(n_layers)
        )
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.constant_(module.bias, norm_bias)
            elif isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def spectrogram(self, batch: NeuralBatch) -> Tensor:
        """Return what the network reads and is taught to restore, shape (B, C, N, F)."""
        x, t = batch.signal, self.trim_frames
        if x.shape[-1] != self.n_samples:
            raise ConfigError(
                f"brainbert was built for windows of {self.n_samples} samples, got {x.shape[-1]}; use the window of training"
            )
        if self.superlets is not None:
            return standardised(self.superlets(x)[..., t : t + self.n_frames, :])
        magnitude = stft_magnitude(
            x, window_samples=self.window_samples, hop_samples=self.hop_samples, n_bins=self.n_bins
        )
        return standardised(magnitude)[..., t : t + self.n_frames, :]

    def encode(self, batch: NeuralBatch, spectrogram: Tensor | None = None) -> Encoded:
        """Encode a batch; `spectrogram`, shape (B, C, N, F), takes the place of the batch's own (parts of it hidden)."""
        x = self.spectrogram(batch) if spectrogram is None else spectrogram
        B, C = x.shape[:2]
        x = self.embed(x.flatten(0, 1)) + self.position_table.to(x.dtype)
        x = self.dropout(self.embed_norm(x))
        for block in self.blocks:
            x = block(x)
        tokens = x.unflatten(0, (B, C)).transpose(1, 2).flatten(1, 2)
        # frame n lies about sample n · hop of the window
        return channel_tokens(tokens, batch, self.hop_samples, first_segment=self.trim_frames - 0.5)

    def pool(self, encoded: Encoded) -> Tensor:
        """Return the mean over channels and frames, by the rule of `pooling`, shape (B, D)."""
        keep = encoded.mask.unflatten(1, (self.n_frames, -1))
        if self.pooling == "centre":
            middle = torch.arange(self.n_frames, device=keep.device) - self.n_frames // 2
            keep = keep & ((middle >= -5) & (middle < 5))[:, None]
        return masked_mean(encoded.tokens, keep.flatten(1))
