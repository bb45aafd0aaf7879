"""Du-IN's backbone: one token per patch of all channels of a subject (Zheng et al. 2024, NeurIPS, arXiv:2405.11459).

Stage 1 is `du_in_tokenizer`; objective `masked_code` with complementary masks trains this one to predict its codes, and
`supervised` with ``readout: mlp`` to tell words apart. The released classifier states 4,377,639 parameters; 194,826 of
them (a quantizer, a contrastive block, fixed tables) take no part in what it computes.

Shape legend: B batch, C channel, S sample, N patch = token, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.du_in_parts import Block, RegionTokenizer, check_whole
from neurofm.models.layout import segment_tokens
from neurofm.models.patch_choice import patch_length
from neurofm.nn.patching import count_patches
from neurofm.nn.positions import sincos_table
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class DuIN(Backbone):
    """Subject layer, convolutions, time table, post-norm blocks.

    Parameters
    ----------
    facts : Facts
        Rate, window, subjects, largest number of channels.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 100 ms at 1000 Hz).
    n_shared, conv_dim, stride
        As of `RegionTokenizer`; the width of the tokens is ``patch / stride * n_shared``.
    n_layers, n_heads, head_dim, ffn_dim, dropout
        Of the blocks.
    n_channels : int, optional
        Of the subject layer, where people to come may have more than those trained on.
    n_positions : int, optional
        Most patches of a window; default those of the training window.
    """

    fuses_channels = hides_tokens = True

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
        n_heads: int = 8,
        head_dim: int = 64,
        ffn_dim: int = 320,
        dropout: float = 0.2,
        n_channels: int | None = None,
        n_positions: int | None = None,
    ) -> None:
        super().__init__()
        self.rate_hz = facts.rate_hz
        self.patch_samples = patch_length("du_in", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        self.tokenizer = RegionTokenizer(
            n_subjects=len(facts.subjects), n_channels=n_channels or facts.max_channels,
            patch_samples=self.patch_samples, n_shared=n_shared, conv_dim=conv_dim, stride=stride,
        )  # fmt: skip
        self.dim = self.tokenizer.dim
        n = n_positions or count_patches(facts.window_samples, self.patch_samples)
        self.time_table: Tensor
        self.register_buffer("time_table", sincos_table(n, self.dim), persistent=False)
        self.mask_token = nn.Parameter(torch.empty(self.dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.blocks = nn.ModuleList(
            Block(self.dim, n_heads=n_heads, head_dim=head_dim, ffn_dim=ffn_dim, dropout=dropout, number=i)
            for i in range(n_layers)
        )

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return the tokens of the patches, shape (B, N, 1, D): segments of no channel."""
        check_whole(batch)
        return self.tokenizer(batch)[:, :, None]

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None, tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; where `mask_tokens`, shape (B, N, 1), is True the mask token takes the patch's place."""
        x = self.embed_tokens(batch) if tokens is None else tokens
        if mask_tokens is not None:
            if mask_tokens.shape[2] != 1:
                raise ConfigError(
                    "du_in: a token stands for all channels of a segment, so a single channel cannot be hidden; use "
                    "objective=masked_code"
                )
            x = torch.where(mask_tokens[..., None], self.mask_token.to(x.dtype), x)
        x = x.flatten(1, 2)
        x = x + self.time_table[: x.shape[1]].to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return segment_tokens(x, batch, self.patch_samples)

    def subject_parameters(self) -> list[str]:
        """A subject owns its map from channels to the shared space."""
        return ["tokenizer.subject_layer.weight", "tokenizer.subject_layer.bias"]
