"""LiPCoT: patches as autoregressive models, models as words of a vocabulary, words through a BERT.

Anjum 2024, LiPCoT: linear predictive coding based tokenizer for self-supervised learning of time series data via language
models, arXiv:2408.07292.

    signal ─ patches ─ warped Burg ─ coefficients and log scale ─ standardise ─ nearest of K centres ─ code
    code ─ embedding + channel + segment ─ norm ─ post-norm transformer ─ tokens

The vocabulary is solved from the training part before any step (`solve`), saved with the model, and never changes after.
A code is a spectrum: decoded signals have the patch's spectrum, not its course. Where the paper has one token per channel
in a fixed order with relative positions, channels are told apart by name here, so that a window may lack some.

Shape legend: B batch, T segment, C channel, P samples per patch, N = T·C tokens, D width, p order, K code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from neurofm.models.base import CodebookModel, Codes, Encoded
from neurofm.models.layout import channel_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.linear_prediction import ar_spectrum, burg
from neurofm.nn.patching import count_patches, cut_patches, join_patches
from neurofm.nn.quantize_codebook import nearest_code
from neurofm.nn.vocabulary import fit_vocabulary
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

# log10 of the smallest residual scale, so that silence is a number
FLOOR = 1e-6


class LiPCoT(CodebookModel):
    """Linear-prediction words of every channel's patches, and a transformer over them.

    Parameters
    ----------
    facts : Facts
        Rate, window, names of channels.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two.
    order : int
        p of the autoregressive model.
    warp : float
        Of its frequency axis; 0 = plain Burg.
    n_codes : int
        K, words of the vocabulary.
    vocabulary_seed : int
        Of k-means.
    dim, n_layers, n_heads, ffn_dim, dropout
        Of the transformer.
    """

    hides_tokens = True
    solved = ("feature_mean", "feature_sd", "centres")

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        order: int = 16,
        warp: float = 0.2,
        n_codes: int = 64,
        vocabulary_seed: int = 42,
        dim: int = 256,
        n_layers: int = 6,
        n_heads: int = 1,
        ffn_dim: int = 3072,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if n_codes < 2 or dim % n_heads:
            raise ConfigError(f"lipcot: n_codes={n_codes} must be 2 or more, dim={dim} a multiple of n_heads={n_heads}")
        self.patch_samples = patch_length("lipcot", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        if not 1 <= order < self.patch_samples or not -1 < warp < 1:
            raise ConfigError(
                f"lipcot: order={order} must be below the {self.patch_samples} samples of a patch, warp={warp} in (-1, 1)"
            )
        self.rate_hz, self.dim, self.order, self.warp = facts.rate_hz, dim, order, warp
        self.n_segments = count_patches(facts.window_samples, self.patch_samples)
        self.n_codes, self.vocabulary_seed = (n_codes,), vocabulary_seed
        self.feature_mean: Tensor
        self.feature_sd: Tensor
        self.centres: Tensor
        self.register_buffer("feature_mean", torch.zeros(order + 1))
        self.register_buffer("feature_sd", torch.ones(order + 1))
        # random until solved, so that an untrained model says something
        self.register_buffer("centres", torch.randn(n_codes, order + 1))
        self.code_embedding = nn.Embedding(n_codes, dim)
        self.channel_embedding = nn.Embedding(len(facts.channels) + 1, dim)
        self.segment_embedding = nn.Embedding(self.n_segments, dim)
        self.mask_token = nn.Parameter(torch.empty(dim))
        self.embed_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, n_heads, ffn_dim, dropout, activation="gelu", batch_first=True)
            for _ in range(n_layers)
        )
        for table in (self.code_embedding, self.channel_embedding, self.segment_embedding):
            nn.init.normal_(table.weight, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def features(self, signal: Tensor) -> Tensor:
        """Return coefficients and log10 of the residual's scale of every patch, (B, C, S) → (B, T, C, p + 1)."""
        patches = cut_patches(signal, self.patch_samples)
        patches = patches - patches.mean(-1, keepdim=True)
        coefficients, power = burg(patches, self.order, warp=self.warp)
        return torch.cat([coefficients, power.sqrt().clamp(min=FLOOR).log10()[..., None]], dim=-1)

    @torch.no_grad()
    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Find the vocabulary in unbroken stretches of the training part.

        A new subject's data leave it as it is: its words are what the network has learned.
        """
        if new_subject:
            return
        found = []
        for batch in stretches:
            n = batch.signal.shape[-1] // self.patch_samples * self.patch_samples
            if n:
                vectors = self.features(batch.signal[..., :n].to(self.centres))
                found.append(vectors.transpose(1, 2)[batch.channel_mask.to(vectors.device)].flatten(0, 1))
        if not found:
            raise DataError(
                f"lipcot: no stretch of the training part is as long as a patch of {self.patch_samples} samples"
            )
        words = fit_vocabulary(torch.cat(found), self.n_codes[0], seed=self.vocabulary_seed)
        for name, value in zip(self.solved, words, strict=True):
            getattr(self, name).copy_(value)

    @torch.no_grad()
    def codes(self, batch: NeuralBatch) -> Codes:
        """Return the word of every patch."""
        code = self._words(batch.signal)
        B, T, C = code.shape
        encoded = channel_tokens(code.new_zeros(B, T * C, 0), batch, self.patch_samples)
        return Codes(code.flatten(1)[..., None], encoded.mask, encoded.channel, encoded.time_s)

    def _words(self, signal: Tensor) -> Tensor:
        """Nearest centre of each patch, (B, T, C)."""
        # compared in full precision: a word must not depend on the autocast it was read under
        with torch.no_grad(), torch.autocast(signal.device.type, enabled=False):
            vectors = (self.features(signal.to(self.centres)) - self.feature_mean) / self.feature_sd
            return nearest_code(vectors.flatten(0, -2), self.centres).view(vectors.shape[:-1])

    @torch.no_grad()
    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return noise with the spectra that codes stand for, shape (B, C, T·P); the same codes give the same noise."""
        C = batch.signal.shape[1]
        word = self.centres[codes.code[..., 0]] * self.feature_sd + self.feature_mean
        spectrum = ar_spectrum(
            word[..., :-1], 100.0 ** word[..., -1], self.patch_samples, warp=self.warp
        ).unflatten(1, (-1, C))  # fmt: skip
        T = spectrum.shape[1]
        # channel by channel, so that padding does not change the noise of those before it
        noise = torch.randn(C, T, self.patch_samples, generator=torch.Generator().manual_seed(0)).to(spectrum)
        shaped = torch.fft.rfft(noise.transpose(0, 1)) * spectrum.sqrt()
        # a patch's mean is not modelled
        shaped[..., 0] = 0
        patches = torch.fft.irfft(shaped, n=self.patch_samples)
        return (join_patches(patches) * batch.channel_mask[..., None]).to(batch.signal.dtype)

    def normalised(self, batch: NeuralBatch) -> Tensor:
        """Return the signal as it is: transforms fitted on the training part have scaled it."""
        return batch.signal

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the error of quantization, which nothing here can lower: the vocabulary is solved, not trained."""
        with torch.no_grad():
            vectors = (self.features(batch.signal.to(self.centres)) - self.feature_mean) / self.feature_sd
            vectors = vectors.transpose(1, 2)[batch.channel_mask].flatten(0, 1)
            code = nearest_code(vectors, self.centres)
            counts = torch.bincount(code, minlength=self.n_codes[0]).float()
            p = counts / counts.sum().clamp(min=1)
            error = (vectors - self.centres[code]).square().mean()
            metrics = {"perplexity": torch.special.entr(p).sum().exp(), "usage": (counts > 0).float().mean()}
        # of the parameters of the transformer none takes part; the optimiser is given a gradient of zero
        return {"quantization": error + 0.0 * self.mask_token.sum()}, metrics

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; where `mask_tokens`, shape (B, T, C), is True a word is hidden."""
        if batch.channel_ids is None:
            raise DataError("field channel_ids: lipcot knows channels by name; load data with channel names")
        code = self._words(batch.signal)
        x = self.code_embedding(code)
        if mask_tokens is not None:
            x = torch.where(mask_tokens[..., None], self.mask_token.to(x.dtype), x)
        T = x.shape[1]
        if self.n_segments < T:
            raise ConfigError(f"lipcot was built for {self.n_segments} segments, got {T}; use the window of training")
        x = x + self.channel_embedding(batch.channel_ids)[:, None] + self.segment_embedding.weight[:T, None]
        x = self.dropout(self.embed_norm(x.flatten(1, 2)))
        absent = ~batch.channel_mask.repeat(1, T)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=absent)
        return channel_tokens(x, batch, self.patch_samples)
