"""What the tokenizers of LaBraM and NeuroRVQ share: patches → codes → spectrum of the patches.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, P samples per patch, F frequency,
K codebook.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.models.base import CodebookModel, Codes, Encoded
from neurofm.models.layout import channel_tokens, whole_patches
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.nn.patching import count_patches, cut_patches, join_patches
from neurofm.nn.quantize import Quantized, ResidualQuantizer, VectorQuantizer
from neurofm.nn.spectrum import Spectrum, bin_weights, masked_deviation, masked_mean, patches_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest

SCALINGS = ("none", "window")
PHASES = ("sincos", "angle")


class SpectralTokenizer(CodebookModel):
    """Encoder, quantizers, decoder; a subclass says how patches are read and what is compared.

    Parameters
    ----------
    rate_hz, window_samples, patch_samples
        Of the data.
    encoder, decoder : PatchTransformer
        Shared by all branches.
    quantizers : sequence of quantizers
        One per branch.
    dim, code_dim : int
        Width of the transformers, and of the codes.
    scaling : str
        ``none``: the signal times `scale`; ``window``: mean 0 and deviation 1 over the samples of the window's good
        channels.
    scale : float
        Factor on the signal.
    phase : str
        ``sincos``: sine and cosine of each phase, which know no jump; ``angle``: the angle itself.
    """

    # everything behind the encoder serves the tokenizer's own losses alone
    only_for_terms = ("quantizers", "to_code", "from_code", "decoder", "amplitude", "angle", "log_amplitude", "phases")

    def __init__(
        self,
        *,
        rate_hz: float,
        window_samples: int,
        patch_samples: int,
        encoder: PatchTransformer,
        decoder: PatchTransformer,
        quantizers: Sequence[VectorQuantizer | ResidualQuantizer],
        dim: int,
        code_dim: int,
        scaling: str,
        scale: float,
        phase: str,
    ) -> None:
        super().__init__()
        for name, value, known in (("scaling", scaling, SCALINGS), ("phase", phase, PHASES)):
            if value not in known:
                raise ConfigError(f"{name}='{value}' is unknown: {nearest(value, known)}")
        count_patches(window_samples, patch_samples)
        self.rate_hz, self.patch_samples = rate_hz, patch_samples
        self.n_branches, self.dim = len(quantizers), dim * len(quantizers)
        self.scaling, self.scale, self.phase = scaling, scale, phase
        self.encoder, self.decoder = encoder, decoder
        self.quantizers = nn.ModuleList(quantizers)
        self.n_codes = tuple(k for q in quantizers for k in q.sizes)
        self.to_code = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim)) for _ in quantizers
        )
        self.from_code = nn.ModuleList(nn.Linear(code_dim, dim) for _ in quantizers)
        self.weights: Tensor
        self.register_buffer("weights", bin_weights(patch_samples), persistent=False)

    def branches(self, signal: Tensor) -> list[Tensor]:
        """Return the tokens of each branch, each (B, T, C, D)."""
        raise NotImplementedError

    def spectrum(self, tokens: Tensor) -> Spectrum:
        """Return the spectrum that the decoder's tokens (B, N, branches · D) stand for, each part (B, N, F)."""
        raise NotImplementedError

    def terms(self, tokens: Tensor, patches: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Compare the decoder's tokens with patches (B, N, P) where `mask` (B, N) is True."""
        raise NotImplementedError

    def normalised(self, batch: NeuralBatch) -> Tensor:
        """Return the signal that `decode` approximates, shape (B, C, S); zero in channels that are not there."""
        signal = batch.signal.masked_fill(~batch.channel_mask[..., None], 0.0) * self.scale
        if self.scaling == "none":
            return signal
        there = batch.channel_mask[..., None] & batch.time_mask[:, None]
        count = there.sum((1, 2), keepdim=True).clamp(min=1)
        centred = (signal - (signal * there).sum((1, 2), keepdim=True) / count) * there
        deviation = (centred.square().sum((1, 2), keepdim=True) / count).sqrt()
        return centred / deviation.clamp(min=1e-6)

    def features(self, batch: NeuralBatch) -> list[Tensor]:
        """Return the encoder's tokens of each branch, each (B, N, D)."""
        mask = whole_patches(batch, self.patch_samples)
        return [self.encoder(x, batch, mask) for x in self.branches(self.normalised(batch))]

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Return the encoder's tokens before they become codes, the branches side by side."""
        mask = whole_patches(batch, self.patch_samples)
        return channel_tokens(torch.cat(self.features(batch), -1), batch, self.patch_samples, mask=mask)

    def codes_of(self, encoded: Encoded) -> Tensor:
        """Return the codes of encoded tokens, branch by branch, level by level."""
        parts = zip(self.quantizers, self.to_code, encoded.tokens.chunk(self.n_branches, -1), strict=True)
        return torch.cat([q.encode(to_code(x), encoded.mask) for q, to_code, x in parts], -1)  # type: ignore[operator]

    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return the signal that codes stand for, shape (B, C, S); each branch may have its first levels only."""
        n_levels, rest = divmod(codes.code.shape[-1], self.n_branches)
        if rest or not 0 < n_levels <= len(self.n_codes) // self.n_branches:
            raise ConfigError(
                f"codes of {codes.code.shape[-1]} levels, but there are {self.n_branches} branches of "
                f"{len(self.n_codes) // self.n_branches} levels; give each branch the same number of first levels"
            )
        parts = zip(self.quantizers, codes.code.split(n_levels, -1), strict=True)
        values = [q.decode(code) * codes.mask[..., None] for q, code in parts]  # type: ignore[operator]
        estimate = patches_of(self.spectrum(self._decoded(values, batch, codes.mask)), self.patch_samples)
        C = batch.signal.shape[1]
        estimate = estimate.masked_fill(~codes.mask[..., None], 0.0)
        return join_patches(estimate.unflatten(1, (-1, C)))

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return commitment and what the subclass compares, and the use of each codebook."""
        mask = whole_patches(batch, self.patch_samples)
        patches = cut_patches(self.normalised(batch), self.patch_samples).flatten(1, 2)
        parts = zip(self.quantizers, self.to_code, self.features(batch), strict=True)
        found: list[Quantized] = [q(to_code(x), mask) for q, to_code, x in parts]
        tokens = self._decoded([f.values for f in found], batch, mask)
        terms = {"commitment": torch.stack([f.loss for f in found]).sum(), **self.terms(tokens, patches, mask)}
        metrics = {}
        for number, f in enumerate(found, 1):
            branch = f"_b{number}" if self.n_branches > 1 else ""
            for name, value in f.metrics.items():
                metric, _, level = name.partition("_")
                metrics[f"{metric}{branch}{'_' + level if level else ''}"] = value
        return terms, metrics

    def _decoded(self, values: list[Tensor], batch: NeuralBatch, mask: Tensor) -> Tensor:
        """Codes' vectors, each (B, N, code_dim), through the decoder: (B, N, branches · D)."""
        C = batch.signal.shape[1]
        parts = zip(self.from_code, values, strict=True)
        return torch.cat([self.decoder(f(x).unflatten(1, (-1, C)), batch, mask) for f, x in parts], -1)

    def sine_and_cosine(self, heads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Of the phase: from one head for the angle, or from a head for each, all (B, N, F)."""
        if self.phase == "angle":
            return heads[0].sin(), heads[0].cos()
        sin, cos = heads
        return sin.tanh(), cos.tanh()

    def phase_error(self, heads: Sequence[Tensor], truth: Spectrum, mask: Tensor) -> Tensor:
        """Mean error of the phase: of the angle relative to its variance in the window, or `sincos_loss`."""
        if self.phase == "sincos":
            return self._mean(sincos_loss(*self.sine_and_cosine(heads), truth), mask)
        angle = truth.sin.atan2(truth.cos)
        _, deviation = masked_deviation(angle, mask)
        return self._mean(((heads[0] - angle) / deviation).square(), mask)

    def _mean(self, error: Tensor, mask: Tensor) -> Tensor:
        """Mean over tokens and the frequencies of a full spectrum."""
        return masked_mean(error * self.weights.to(error.dtype), mask)


def sincos_loss(sin: Tensor, cos: Tensor, truth: Spectrum) -> Tensor:
    """1 − cosine of the angle between estimate and truth, and 0.1 · (s² + c² − 1)² so that the estimate has length 1.

    NeuroRVQ's phase loss per frequency; the same for a phase and that phase + 2π.
    """
    square = sin.square() + cos.square()
    agreement = (sin * truth.sin + cos * truth.cos) / square.clamp(min=1e-8).sqrt()
    return 1 - agreement + 0.1 * (square - 1).square()
