"""LaBraM's backbone (Jiang et al., ICLR 2024, arXiv:2405.18765): patches of every channel in one transformer.

Stage 1 is `labram_tokenizer`; objective `masked_code` trains this one to predict its codes.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens, whole_patches
from neurofm.models.patch_choice import patch_length
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.tokenizers.temporal_conv import TemporalConv


class LaBraM(Backbone):
    """Temporal convolutions, channel and time embedding, pre-norm blocks, norm.

    Parameters
    ----------
    facts : Facts
        Rate, window, vocabulary of channel names.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 1 s at 200 Hz).
    scale : float
        Factor on the signal (published: 0.01 on µV); 1 for signals that transforms have scaled.
    dim, n_layers, n_heads, mlp_dim, layer_scale, dropout, drop_path
        As of `PatchTransformer`.
    n_maps : int, optional
        Feature maps of the convolutions.
    space, n_names
        Embedding of the channel, by canonical name (published) or by coordinates; see `Places`.
    n_positions : int, optional
        Most patches of a window; default those of the training window.
    """

    hides_tokens = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        scale: float = 1.0,
        dim: int = 200,
        n_layers: int = 12,
        n_heads: int = 10,
        mlp_dim: int | None = None,
        n_maps: int | None = None,
        space: str = "name",
        n_names: int | None = None,
        n_positions: int | None = None,
        layer_scale: float | None = 0.1,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.dim, self.scale, self.rate_hz = dim, scale, facts.rate_hz
        self.patch_samples = patch_length("labram", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        n_segments = count_patches(facts.window_samples, self.patch_samples)
        self.tokenizer = TemporalConv(dim, patch_samples=self.patch_samples, n_maps=n_maps)
        self.mask_token = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.encoder = PatchTransformer(
            facts, dim=dim, n_layers=n_layers, n_heads=n_heads, mlp_dim=mlp_dim, space=space, n_names=n_names,
            n_positions=n_positions or n_segments, layer_scale=layer_scale, dropout=dropout, drop_path=drop_path,
        )  # fmt: skip

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return the tokens of the patches, shape (B, T, C, D)."""
        return self.tokenizer(batch.signal * self.scale)

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None, tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; where `mask_tokens` (B, T, C or 1) is True the mask token takes the patch's place."""
        x = self.embed_tokens(batch) if tokens is None else tokens
        if mask_tokens is not None:
            x = torch.where(mask_tokens[..., None], self.mask_token.to(x.dtype), x)
        mask = whole_patches(batch, self.patch_samples)
        return channel_tokens(self.encoder(x, batch, mask), batch, self.patch_samples, mask=mask)
