"""NeuroRVQ's backbone (arXiv:2510.13068): the multi-scale convolutions and one transformer that all scales share.

Stage 1 is `neurorvq_tokenizer`; objective `masked_code` trains this one to predict its codes, each branch its own.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width of a branch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens, whole_patches
from neurofm.models.patch_choice import patch_length
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts
from neurofm.tokenizers.temporal_conv import MultiScaleConv


class NeuroRVQBackbone(Backbone):
    """Multi-scale convolutions, channel and time embedding, pre-norm blocks; the branches side by side in the end.

    Parameters
    ----------
    facts : Facts
        Rate, window, vocabulary of channel names.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 1 s at 200 Hz).
    scale : float
        Factor on the signal.
    first_taps, second_taps : sequence of int
        Of the convolutions of each scale; their number is the number of branches.
    dim, n_layers, n_heads, mlp_dim, layer_scale, dropout, drop_path
        As of `PatchTransformer`; `dim` is the width of a branch.
    space, n_names, n_positions
        As of `labram`; shorter windows use the last positions.
    """

    hides_tokens = True

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        scale: float = 1.0,
        first_taps: Sequence[int] = (21, 15, 9, 5),
        second_taps: Sequence[int] = (9, 7, 5, 3),
        dim: int = 200,
        n_layers: int = 12,
        n_heads: int = 10,
        mlp_dim: int | None = None,
        space: str = "name",
        n_names: int | None = None,
        n_positions: int | None = None,
        layer_scale: float | None = 1e-5,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.n_branches, self.dim = len(first_taps), dim * len(first_taps)
        self.scale, self.rate_hz = scale, facts.rate_hz
        self.patch_samples = patch_length(
            "neurorvq_backbone", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples
        )
        n_segments = count_patches(facts.window_samples, self.patch_samples)
        self.tokenizer = MultiScaleConv(
            dim, patch_samples=self.patch_samples, first_taps=first_taps, second_taps=second_taps
        )
        self.mask_token = nn.Parameter(torch.zeros(dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.encoder = PatchTransformer(
            facts, dim=dim, n_layers=n_layers, n_heads=n_heads, mlp_dim=mlp_dim, space=space, n_names=n_names,
            n_positions=n_positions or n_segments, right_aligned=True, layer_scale=layer_scale, dropout=dropout,
            drop_path=drop_path,
        )  # fmt: skip

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return the tokens of the patches, the branches side by side, shape (B, T, C, n_branches · D)."""
        return torch.cat(self.tokenizer(batch.signal * self.scale), -1)

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None, tokens: Tensor | None = None) -> Encoded:
        """Encode a batch; where `mask_tokens` (B, T, C or 1) is True one mask token takes the patch's place in every branch."""
        x = self.embed_tokens(batch) if tokens is None else tokens
        mask = whole_patches(batch, self.patch_samples)
        out = []
        for branch in x.chunk(self.n_branches, -1):
            seen = branch
            if mask_tokens is not None:
                seen = torch.where(mask_tokens[..., None], self.mask_token.to(x.dtype), branch)
            out.append(self.encoder(seen, batch, mask))
        return channel_tokens(torch.cat(out, -1), batch, self.patch_samples, mask=mask)
