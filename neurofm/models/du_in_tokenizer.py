"""Du-IN's tokenizer: a code for every patch of all channels of a subject together (Zheng et al. 2024, arXiv:2405.11459).

    signal ─ subject layer, convolutions ─ 8 blocks ─ nearest of 2048 unit codes ─ 4 blocks ─ deconvolutions ─ subject
    layer back ─ signal

Shape legend: B batch, C channel, S sample, N patch = token, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import CodebookModel, Codes, Encoded
from neurofm.models.du_in_parts import Block, RegionTokenizer, check_whole
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.patching import count_patches
from neurofm.nn.positions import sincos_table
from neurofm.nn.quantize import VectorQuantizer
from neurofm.nn.subject_layer import SubjectLayer
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts


class DuINTokenizer(CodebookModel):
    """Vector-quantized autoencoder of region-fused patches.

    Parameters
    ----------
    facts : Facts
        Rate, window, subjects, largest number of channels.
    patch_s, patch_samples, n_shared, conv_dim, stride, n_layers, n_heads, head_dim, ffn_dim, dropout, n_channels
        As of `du_in`.
    n_decoder_layers : int
        Blocks after the codes.
    n_codes, code_dim : int
        Size of the codebook.
    decay, commitment, restart_below
        As of `VectorQuantizer`. The released code also updates counts and starts k-means in evaluation; here only
        training touches the codebook.
    """

    fuses_channels = True
    # everything behind the encoder serves the tokenizer's own losses alone
    only_for_terms = (
        "quantizer",
        "to_code",
        "from_code",
        "decoder_blocks",
        "upsample",
        "mix",
        "subject_layer_back",
    )

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        n_shared: int = 16,
        conv_dim: int = 128,
        stride: int = 10,
        n_layers: int = 8,
        n_decoder_layers: int = 4,
        n_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int = 320,
        dropout: float = 0.2,
        n_codes: int = 2048,
        code_dim: int = 64,
        decay: float = 0.99,
        commitment: float = 1.0,
        restart_below: float = 0.05,
        n_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.rate_hz = facts.rate_hz
        self.patch_samples = patch_length("du_in", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        n_subjects, n_channels = len(facts.subjects), n_channels or facts.max_channels
        self.tokenizer = RegionTokenizer(
            n_subjects=n_subjects, n_channels=n_channels, patch_samples=self.patch_samples, n_shared=n_shared,
            conv_dim=conv_dim, stride=stride,
        )  # fmt: skip
        dim = self.dim = self.tokenizer.dim
        self.time_table: Tensor
        table = sincos_table(count_patches(facts.window_samples, self.patch_samples), dim)
        self.register_buffer("time_table", table, persistent=False)

        def blocks(n: int) -> nn.ModuleList:
            return nn.ModuleList(
                Block(dim, n_heads=n_heads, head_dim=head_dim, ffn_dim=ffn_dim, dropout=dropout, number=i)
                for i in range(n)
            )

        self.blocks, self.decoder_blocks = blocks(n_layers), blocks(n_decoder_layers)
        self.to_code = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim))
        self.quantizer = VectorQuantizer(
            code_dim, n_codes=n_codes, decay=decay, commitment=commitment, restart_below=restart_below
        )
        self.n_codes = self.quantizer.sizes
        self.from_code = nn.Sequential(nn.LayerNorm(code_dim), nn.Linear(code_dim, dim))
        steps, half = self.patch_samples // stride, stride // 2
        self.upsample = nn.Sequential(
            nn.ConvTranspose1d(dim, conv_dim, 3, padding=1),
            nn.ConvTranspose1d(conv_dim, conv_dim, 3, padding=1),
            nn.ConvTranspose1d(conv_dim, conv_dim, steps, stride=steps),
            nn.ConvTranspose1d(conv_dim, conv_dim, 9, padding=4),
            # lengths: (L − 1) stride − 2 padding + kernel + output padding = L stride
            nn.ConvTranspose1d(
                conv_dim, n_shared, 2 * stride - 1, stride=stride, padding=half, output_padding=2 * half - stride + 1
            ),
        )
        self.mix = nn.Linear(n_shared, n_shared)
        self.subject_layer_back = SubjectLayer(n_subjects, n_channels, n_shared, inward=False)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Return the encoder's tokens before they become codes; the codes, in evaluation, are those of these tokens."""
        return segment_tokens(self._features(batch), batch, self.patch_samples)

    def _features(self, batch: NeuralBatch) -> Tensor:
        check_whole(batch)
        x = self.tokenizer(batch)
        x = x + self.time_table[: x.shape[1]].to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return x

    def codes_of(self, encoded: Encoded) -> Tensor:
        """Return the codes of encoded tokens, one per patch."""
        return self.quantizer.encode(self.to_code(encoded.tokens))

    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return the signal that codes stand for, shape (B, C, S)."""
        return self._decoded(self.quantizer.decode(codes.code), batch)

    def _decoded(self, values: Tensor, batch: NeuralBatch) -> Tensor:
        x = self.from_code(values)
        x = x + self.time_table[: x.shape[1]].to(x.dtype)
        for block in self.decoder_blocks:
            x = block(x)
        shared = self.mix(self.upsample(x.transpose(1, 2)).transpose(1, 2)).transpose(1, 2)
        return self.subject_layer_back(shared, batch.subject, batch.channel_mask)

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return squared error of the signal and commitment, and the use of the codebook."""
        found = self.quantizer(self.to_code(self._features(batch)))
        estimate = self._decoded(found.values, batch)
        there = batch.channel_mask[..., None].expand_as(estimate)
        error = (estimate - self.normalised(batch)).square().masked_fill(~there, 0.0).sum() / there.sum().clamp(min=1)
        return {"mse": error, "commitment": found.loss}, found.metrics

    def subject_parameters(self) -> list[str]:
        """A subject owns its maps to the shared space and back."""
        return [
            f"{layer}.{leaf}"
            for layer in ("tokenizer.subject_layer", "subject_layer_back")
            for leaf in ("weight", "bias")
        ]
