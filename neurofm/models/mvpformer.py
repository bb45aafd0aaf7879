"""MVPFormer: a transformer over a grid of segments and channels, for recordings with any channels.

Follows arXiv:2506.20354 and its released code; what goes beyond them is off by default and says so.

Shape legend: B batch, T segment, C channel, D width, N = T·C tokens, channel fastest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.models import streaming
from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import channel_tokens, mean_token
from neurofm.models.patch_choice import patch_length
from neurofm.models.streaming import StreamState
from neurofm.nn.channel_distance import check_bins, check_missing, distance_classes
from neurofm.nn.feedforward import SwiGLU
from neurofm.nn.mvpa import MultivariateParallelAttention
from neurofm.nn.patching import count_patches
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts
from neurofm.tokenizers import TOKENIZERS


class MVPFormerBlock(nn.Module):
    """Parallel residual block: x + feedforward(norm x) + attention(norm x), one norm for both.

    Parameters
    ----------
    attention : MultivariateParallelAttention
        The attention of this layer.
    dim, ffn_dim : int
        Width of the tokens and of the feed-forward layer.
    dropout : float
        Probability of dropping an element of the attention's output.
    """

    def __init__(
        self, attention: MultivariateParallelAttention, *, dim: int, ffn_dim: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self.attention = attention
        self.feedforward = SwiGLU(dim, inner_dim=ffn_dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        time_table: Tensor | None,
        channel_table: Tensor | None,
        channel_mask: Tensor,
        channel_distance: Tensor | None = None,
    ) -> Tensor:
        """Map tokens `x`, shape (B, T, C, D), to the same shape; other arguments as the attention's."""
        h = self.norm(x)
        attended = self.attention(h, time_table, channel_table, channel_mask, channel_distance)
        return x + self.feedforward(h) + self.dropout(attended)


class MVPFormer(Backbone):
    """Tokenizer, blocks of multivariate parallel attention, final norm.

    Parameters
    ----------
    facts : Facts
        Facts of the data: rate, window, largest number of channels, vocabulary of channel names.
    tokenizer : str
        ``wavelet`` (published) or ``linear_patch``.
    tokenizer_choices : mapping, optional
        Further arguments of the tokenizer.
    patch_s, patch_samples : float or int
        Length of a patch in seconds or in samples; exactly one of the two.
    dim, n_layers, n_heads, n_kv_heads, ffn_dim : int
        Width D, number of blocks, query heads, key/value heads (default: `n_heads`), and width of the
        feed-forward layers (default: 8/3 · D, rounded up to a multiple of 16).
    content_window : int
        Segments on either side beyond which attention ignores content.
    causal : bool
        Whether a token sees only its own and earlier segments. Bidirectional is not in the paper.
    dropout : float
        Of embedded tokens, attention outputs, and keys (0.1 in the paper).
    n_positions, n_channels : int, optional
        Rows of the time and channel tables: the most segments and channels that the model can take.
        Default: what `facts` need.
    channel_distance : str
        ``index``: difference in the order of channels (published). ``coordinates``: from the positions of the
        electrodes, see `nn.channel_distance`; then the order of channels does not matter. Not in the paper.
    missing_positions : str
        For ``coordinates``: ``refuse`` a channel without position, or take it to be ``far`` from all others.
    distance_bins : str
        For ``coordinates``: how distances become classes, ``uniform`` or by ``rank`` (classes equally full).
    use_time, use_channel : bool
        False: without the time or the channel term of the attention, for ablations.
    channel_embedding : bool
        Whether a learned vector of the channel's canonical name is added to its tokens (row 0: unknown
        names). Not in the paper.
    mask_token : bool
        Whether there is a learned vector that stands for hidden tokens, for masked objectives. Not in the
        paper.
    pooling : str
        ``last``: mean over channels of the last segment (published), ``mean``: mean over all valid tokens,
        ``auto``: ``last`` if causal, else ``mean``.
    scale_by_layer : bool
        Whether layer i (from 0) divides its logits by i + 1 (off in every published configuration).
    backend : str
        Road of the attention: ``auto``, ``math``, ``sdpa`` or ``flex`` (CUDA).

    Attributes
    ----------
    n_segments : int
        Segments T of a window of the facts' length. Other lengths up to `n_positions` are accepted.

    Raises
    ------
    ConfigError
        When the choices do not fit together or do not fit the facts.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        tokenizer: str = "linear_patch",
        tokenizer_choices: Mapping[str, Any] | None = None,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        dim: int = 256,
        n_layers: int = 6,
        n_heads: int = 8,
        n_kv_heads: int | None = None,
        ffn_dim: int | None = None,
        content_window: int = 10,
        causal: bool = True,
        dropout: float = 0.1,
        n_positions: int | None = None,
        n_channels: int | None = None,
        channel_distance: str = "index",
        missing_positions: str = "refuse",
        distance_bins: str = "uniform",
        use_time: bool = True,
        use_channel: bool = True,
        channel_embedding: bool = False,
        mask_token: bool = False,
        pooling: str = "auto",
        scale_by_layer: bool = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        if pooling not in ("auto", "last", "mean"):
            raise ConfigError(f"unknown pooling '{pooling}': {nearest(pooling, ('auto', 'last', 'mean'))}")
        if channel_distance not in ("index", "coordinates"):
            known = nearest(channel_distance, ("index", "coordinates"))
            raise ConfigError(f"unknown channel_distance '{channel_distance}': {known}")
        check_missing(missing_positions)
        check_bins(distance_bins)
        self.channel_distance, self.missing_positions = channel_distance, missing_positions
        self.distance_bins = distance_bins
        self.dim, self.causal = dim, causal
        self.patch_samples = patch_length("mvpformer", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        self.n_segments = count_patches(facts.window_samples, self.patch_samples)
        n_positions = _table_rows("n_positions", n_positions, self.n_segments, "segments in a window")
        n_channels = _table_rows("n_channels", n_channels, facts.max_channels, "channels in a recording")
        self.pooling = ("last" if causal else "mean") if pooling == "auto" else pooling
        self.tokenizer = TOKENIZERS.build(tokenizer, dim, patch_samples=self.patch_samples, **(tokenizer_choices or {}))
        self.n_features = self.tokenizer.n_features
        self.dropout = nn.Dropout(dropout)
        self.n_positions, self.n_channels = n_positions, n_channels
        self.time_table = nn.Embedding(n_positions, dim) if use_time else None
        self.channel_table = nn.Embedding(n_channels, dim) if use_channel else None
        self.channel_embedding = nn.Embedding(len(facts.channels) + 1, dim) if channel_embedding else None
        self.mask_token = nn.Parameter(torch.empty(dim)) if mask_token else None
        self.hides_tokens = mask_token
        ffn_dim = -(-8 * dim // 48) * 16 if ffn_dim is None else ffn_dim
        self.blocks = nn.ModuleList(
            MVPFormerBlock(
                MultivariateParallelAttention(
                    dim,
                    n_heads=n_heads,
                    n_kv_heads=n_kv_heads,
                    content_window=content_window,
                    causal=causal,
                    scale_by_layer=layer if scale_by_layer else None,
                    use_time=use_time,
                    use_channel=use_channel,
                    dropout=dropout,
                    backend=backend,
                ),
                dim=dim,
                ffn_dim=ffn_dim,
                dropout=dropout,
            )
            for layer in range(n_layers)
        )
        self.norm = nn.RMSNorm(dim, eps=1e-5)
        self._initialise()

    def _initialise(self) -> None:
        """Draw maps, tables and attention biases from N(0, 0.02), as published; norms start at 1, biases at 0."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=0.02)

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return the tokenizer's tokens, shape (B, T, C, D): the targets of next-state contrast."""
        return self.tokenizer(batch.signal)

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return what the tokenizer embeds, shape (B, T, C, n_features)."""
        return self.tokenizer.patch_features(signal)

    def encode(self, batch: NeuralBatch, mask_tokens: Tensor | None = None, tokens: Tensor | None = None) -> Encoded:
        """Encode a batch, with some tokens hidden.

        Parameters
        ----------
        batch : NeuralBatch
            Windows without missing samples; padded over channels only.
        mask_tokens : Tensor, shape (B, T, C), bool, optional
            True where the embedded token is replaced by the mask token.
        tokens : Tensor, shape (B, T, C, D), optional
            What `embed_tokens` gave, where the caller has it already.

        Returns
        -------
        Encoded
            N = T·C tokens, segment-major, channel fastest.

        Raises
        ------
        DataError
            When samples are missing in time, or channel ids are missing though the model embeds them.
        ConfigError
            When tokens are to be hidden but the model has no mask token, or the window is too long.
        """
        x = self.embed_input(batch, mask_tokens, tokens)
        tables, distance = self.tables(), self.distance(batch)
        for block in self.blocks:
            x = block(x, *tables, batch.channel_mask, distance)
        return self.flatten(self.norm(x), batch)

    def embed_input(
        self, batch: NeuralBatch, mask_tokens: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """Return what the first block reads, shape (B, T, C, D)."""
        if not bool(batch.time_mask.all()):
            raise DataError("field time_mask: mvpformer takes no missing samples; cut windows inside valid intervals")
        x = self.embed_tokens(batch) if tokens is None else tokens
        if mask_tokens is not None:
            if self.mask_token is None:
                raise ConfigError("tokens cannot be hidden: build mvpformer with mask_token=true")
            x = torch.where(mask_tokens.unsqueeze(-1), self.mask_token.to(x.dtype), x)
        if self.channel_embedding is not None:
            if batch.channel_ids is None:
                raise DataError("field channel_ids: needed by channel_embedding=true; load data with channel names")
            x = x + self.channel_embedding(batch.channel_ids).unsqueeze(1)
        return self.dropout(x)

    def tables(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the time and the channel table, None for a term that is left out."""
        time, channel = self.time_table, self.channel_table
        return None if time is None else time.weight, None if channel is None else channel.weight

    def distance(self, batch: NeuralBatch) -> Tensor | None:
        """Return the distance of every pair of channels, shape (B, C, C), or None for their order."""
        if self.channel_distance == "index" or self.channel_table is None:
            return None
        if batch.positions is None:
            raise DataError(
                "field positions: needed by channel_distance=coordinates; load data with electrode positions, or "
                "choose channel_distance=index"
            )
        return distance_classes(
            batch.positions, batch.channel_mask, missing=self.missing_positions, bins=self.distance_bins
        )

    def begin_stream(self, *, n_segments: int | None = None, max_segments: int | None = None) -> StreamState:
        """Return the state of a stream before its first segment; the model must be causal.

        Parameters
        ----------
        n_segments : int, optional
            Length W of the window that lags are counted in: lag L uses row W − 1 − L of the time table. Default:
            the training window's.
        max_segments : int, optional
            Segments each layer looks back, the own included; bounds the memory. At most, and by default, W.

        Raises
        ------
        ConfigError
            When the model is not causal or a length does not fit its time table.
        """
        return streaming.begin_stream(self, n_segments=n_segments, max_segments=max_segments)

    @torch.no_grad()
    def step(self, batch: NeuralBatch, state: StreamState | None = None) -> tuple[Encoded, StreamState]:
        """Encode the next one or more segments of a stream, from the keys and values kept of those before.

        Parameters
        ----------
        batch : NeuralBatch
            The new samples only, a whole number of patches; the same channels at each step.
        state : StreamState, optional
            What the last step returned, or `begin_stream`; it is not changed. Default: a new stream.

        Returns
        -------
        encoded : Encoded
            Tokens of the new segments, their times counted from the start of the stream. The last of them is
            the last segment of a window that ends there. See `models.streaming` for what this means in the
            published model.
        state : StreamState
            For the next step.

        Raises
        ------
        DataError
            When the channels change, or as `encode`.
        ConfigError
            When the model is in training mode, or as `begin_stream`.
        """
        return streaming.step(self, batch, self.begin_stream() if state is None else state)

    def pool(self, encoded: Encoded) -> Tensor:
        """Return one vector per window, shape (B, D), by the rule of `pooling`."""
        return mean_token(encoded, last=self.pooling == "last")

    def subject_parameters(self) -> list[str]:
        """Name the channel embedding, if there is one: all else is shared by everyone."""
        return [] if self.channel_embedding is None else ["channel_embedding.weight"]

    def flatten(self, x: Tensor, batch: NeuralBatch, first_segment: int = 0) -> Encoded:
        """Return tokens (B, T, C, D) as `Encoded`; times count from the start of segment 0."""
        return channel_tokens(x.flatten(1, 2), batch, self.patch_samples, first_segment=first_segment)


def _table_rows(name: str, chosen: int | None, needed: int, what: str) -> int:
    if chosen is None:
        return needed
    if chosen < needed:
        raise ConfigError(f"{name}={chosen} is too few for {needed} {what}: give at least {needed}")
    return chosen
