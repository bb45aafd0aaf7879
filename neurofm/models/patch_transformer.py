"""What LaBraM and NeuroRVQ share: tokens of patches get their place in space and time and go through blocks.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, P samples per patch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.nn.vit_block import PreNormBlock
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

SPACES = ("name", "coordinates", "none")
# wavelengths at which coordinates are looked at: from a head's length to the distance of neighbouring electrodes
_WAVELENGTHS_M = (0.4, 0.2, 0.1, 0.05)


class Places(nn.Module):
    """Embedding of where and when a token is, and the token that stands for the whole window.

    Parameters
    ----------
    facts : Facts
        Vocabulary of channel names.
    dim : int
        D.
    n_positions : int
        Segments that the table of times has.
    space : str
        ``name``: a row per canonical name, row 0 for unknown ones; ``coordinates``: sines of the position, nothing where
        it is unknown; ``none``.
    n_names : int, optional
        Rows for names, to have the published size; default those of the data.
    right_aligned : bool
        A shorter window uses the last rows of the table of times (NeuroRVQ), not the first.
    """

    def __init__(
        self,
        facts: Facts,
        dim: int,
        *,
        n_positions: int,
        space: str = "name",
        n_names: int | None = None,
        right_aligned: bool = False,
    ) -> None:
        super().__init__()
        if space not in SPACES:
            raise ConfigError(f"space='{space}' is unknown: {nearest(space, SPACES)}")
        self.space, self.right_aligned = space, right_aligned
        n_names = len(facts.channels) if n_names is None else n_names
        if n_names < len(facts.channels):
            raise ConfigError(f"n_names={n_names} is less than the {len(facts.channels)} names of the data; give more")
        self.cls_token = nn.Parameter(torch.zeros(dim))
        self.time_table = nn.Embedding(n_positions, dim)
        tables: list[nn.Module] = [self.time_table]
        if space == "name":
            self.name_table = nn.Embedding(n_names + 1, dim)
            tables.append(self.name_table)
        elif space == "coordinates":
            self.coordinate_map = nn.Linear(6 * len(_WAVELENGTHS_M), dim, bias=False)
            tables.append(self.coordinate_map)
        for table in tables:
            nn.init.trunc_normal_(table.weight, std=0.02)  # type: ignore[arg-type]
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, batch: NeuralBatch, n_segments: int) -> Tensor:
        """Return what is added to the tokens, shape (B or 1, T, C or 1, D)."""
        n = self.time_table.num_embeddings
        if n_segments > n:
            raise ConfigError(f"the window has {n_segments} patches, the table of times {n}; raise n_positions")
        rows = slice(n - n_segments, n) if self.right_aligned else slice(0, n_segments)
        place = self.time_table.weight[rows][None, :, None]
        if self.space == "name":
            if batch.channel_ids is None:
                raise ConfigError("space=name needs batch.channel_ids, which these data do not have; use space=none")
            # names beyond the table are unknown ones
            ids = batch.channel_ids.masked_fill(batch.channel_ids >= self.name_table.num_embeddings, 0)
            place = place + self.name_table(ids)[:, None]
        elif self.space == "coordinates":
            if batch.positions is None:
                raise ConfigError(
                    "space=coordinates needs batch.positions, which these data do not have; use space=name"
                )
            place = place + self._of_coordinates(batch.positions.to(place.dtype))[:, None]
        return place

    def _of_coordinates(self, positions: Tensor) -> Tensor:
        known = positions.isfinite().all(-1, keepdim=True)
        wave = 2 * torch.pi / torch.tensor(_WAVELENGTHS_M, device=positions.device, dtype=positions.dtype)
        angle = (positions.nan_to_num(0.0)[..., None] * wave).flatten(-2)
        return self.coordinate_map(torch.cat([angle.sin(), angle.cos()], -1)) * known


class PatchTransformer(nn.Module):
    """Place embedding, blocks and a norm; tokens in, tokens out.

    Parameters
    ----------
    facts, n_positions, space, n_names, right_aligned
        As of `Places`.
    dim, n_layers, n_heads, mlp_dim : int
        Sizes; the MLP is four times D by default.
    layer_scale, dropout, drop_path
        As of `PreNormBlock`; `drop_path` rises linearly to this value in the last block.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        dim: int,
        n_layers: int,
        n_heads: int,
        n_positions: int,
        mlp_dim: int | None = None,
        space: str = "name",
        n_names: int | None = None,
        right_aligned: bool = False,
        layer_scale: float | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ConfigError(f"dim={dim} must be a multiple of n_heads={n_heads}")
        self.embed = Places(
            facts, dim, n_positions=n_positions, space=space, n_names=n_names, right_aligned=right_aligned
        )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            PreNormBlock(
                dim, n_heads=n_heads, mlp_dim=mlp_dim or 4 * dim, layer_scale=layer_scale, dropout=dropout,
                drop_path=drop_path * i / max(1, n_layers - 1), depth=i + 1,
            )
            for i in range(n_layers)
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, tokens: Tensor, batch: NeuralBatch, mask: Tensor) -> Tensor:
        """Map tokens (B, T, C, D), of which `mask` (B, N) are data, to (B, N, D)."""
        x = self.dropout((tokens + self.embed(batch, tokens.shape[1])).flatten(1, 2))
        x = torch.cat([self.embed.cls_token.expand(len(x), 1, -1), x], 1)
        seen = torch.cat([mask.new_ones(len(x), 1), mask], 1)
        for block in self.blocks:
            x = block(x, seen)
        return self.norm(x[:, 1:])
