"""Codes for patches of region or voxel time series: the fMRI member of the codebook family; not a published system.

A token is some volumes of one parcel, as in BrainLM (Ortega Caro et al. 2024); where BrainLM regresses it, here it becomes
a code. Parcels are known by name, voxels by their coordinates (``space: coordinates``).

    patch ─ linear ─ + place ─ blocks ─ codes (one codebook, a residual chain, or finite scalars) ─ blocks ─ linear ─ patch

Shape legend: B batch, T segment, C parcel, N = T·C tokens (parcel fastest), D width, P volumes per patch, L level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurofm.models.base import CodebookModel, Codes, Encoded
from neurofm.models.layout import channel_tokens, whole_patches
from neurofm.models.patch_choice import patch_length
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.nn.patching import count_patches, join_patches
from neurofm.nn.quantize import FiniteScalarQuantizer, ResidualQuantizer, VectorQuantizer
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts
from neurofm.tokenizers.linear_patch import LinearPatch

QUANTIZERS = ("vector", "residual", "finite")


class ParcelTokenizer(CodebookModel):
    """Vector-quantized autoencoder of patches of every parcel.

    Parameters
    ----------
    facts : Facts
        Rate, window, vocabulary of parcels.
    patch_s, patch_samples : float or int
        Length of a patch in seconds or volumes; exactly one of the two.
    quantizer : str
        ``vector``: one codebook of unit vectors; ``residual``: a chain of `n_levels`; ``finite``: a grid of
        `grid_levels`, without a codebook.
    n_codes, n_levels, code_dim : int
        Size and number of codebooks, width of codes.
    level_dropout : bool
        See `ResidualQuantizer`: any first levels are a code.
    grid_levels : sequence of int
        Values of each coordinate of ``finite``.
    decay, commitment : float
        Of the codebooks.
    dim, n_layers, n_decoder_layers, n_heads, mlp_dim, dropout
        Of the blocks. Without any (``n_layers=0``) a code depends on its own patch alone.
    space : str
        ``name``, ``coordinates`` or ``none``: how the blocks know parcels apart.
    """

    # everything behind the encoder serves the tokenizer's own losses alone
    only_for_terms = ("quantizer", "to_code", "from_code", "decoder", "to_patch")

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        quantizer: str = "residual",
        n_codes: int = 256,
        n_levels: int = 4,
        code_dim: int = 16,
        level_dropout: bool = True,
        grid_levels: Sequence[int] = (8, 6, 5),
        decay: float = 0.99,
        commitment: float = 0.25,
        dim: int = 64,
        n_layers: int = 1,
        n_decoder_layers: int = 1,
        n_heads: int = 4,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        space: str = "name",
    ) -> None:
        super().__init__()
        if quantizer not in QUANTIZERS:
            raise ConfigError(f"parcel_tokenizer: unknown quantizer '{quantizer}'; {nearest(quantizer, QUANTIZERS)}")
        self.dim, self.rate_hz = dim, facts.rate_hz
        self.patch_samples = patch_length(
            "parcel_tokenizer", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples
        )
        self.tokenizer = LinearPatch(dim, patch_samples=self.patch_samples)
        n_positions = count_patches(facts.window_samples, self.patch_samples)
        self.encoder, self.decoder = (
            PatchTransformer(
                facts, dim=dim, n_layers=n, n_heads=n_heads, mlp_dim=mlp_dim, space=space, n_positions=n_positions,
                dropout=dropout,
            )
            if n
            else None
            for n in (n_layers, n_decoder_layers)
        )  # fmt: skip
        self.to_code, self.from_code = nn.Linear(dim, code_dim), nn.Linear(code_dim, dim)
        self.quantizer: VectorQuantizer | ResidualQuantizer | FiniteScalarQuantizer
        if quantizer == "vector":
            self.quantizer = VectorQuantizer(code_dim, n_codes=n_codes, decay=decay, commitment=commitment)
        elif quantizer == "residual":
            self.quantizer = ResidualQuantizer(
                code_dim, n_codes=n_codes, n_levels=n_levels, decay=decay, commitment=commitment,
                level_dropout=level_dropout,
            )  # fmt: skip
        else:
            self.quantizer = FiniteScalarQuantizer(code_dim, levels=grid_levels)
        self.n_codes = self.quantizer.sizes
        self.to_patch = nn.Linear(dim, self.patch_samples)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Return the encoder's tokens before they become codes."""
        mask = whole_patches(batch, self.patch_samples)
        x = self.tokenizer(self.normalised(batch))
        x = x.flatten(1, 2) if self.encoder is None else self.encoder(x, batch, mask)
        return channel_tokens(x, batch, self.patch_samples, mask=mask)

    def codes_of(self, encoded: Encoded) -> Tensor:
        """Return the codes of encoded tokens."""
        return self.quantizer.encode(self.to_code(encoded.tokens), encoded.mask)

    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return the signal that codes, or their first levels, stand for, shape (B, C, S)."""
        return self._decoded(self.quantizer.decode(codes.code), codes.mask, batch)

    def _decoded(self, values: Tensor, mask: Tensor, batch: NeuralBatch) -> Tensor:
        C = batch.signal.shape[1]
        x = self.from_code(values * mask[..., None])
        x = x if self.decoder is None else self.decoder(x.unflatten(1, (-1, C)), batch, mask)
        patches = self.to_patch(x).masked_fill(~mask[..., None], 0.0)
        return join_patches(patches.unflatten(1, (-1, C)))

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return squared error of the signal and commitment, and the use of each codebook."""
        found = self(batch)
        quantized = self.quantizer(self.to_code(found.tokens), found.mask)
        estimate = self._decoded(quantized.values, found.mask, batch)
        C = batch.signal.shape[1]
        there = found.mask.unflatten(1, (-1, C)).transpose(1, 2).repeat_interleave(self.patch_samples, -1)
        square = (estimate - self.normalised(batch)).square().masked_fill(~there, 0.0)
        return {"mse": square.sum() / there.sum().clamp(min=1), "commitment": quantized.loss}, quantized.metrics
