"""MVPFormer segment by segment, with keys and values kept: what it computes, and how it equals the whole window.

A window of T segments and a stream of segments are not the same function in the published model: lag L uses row
T − 1 − L of the time table, so the rows depend on T; and the last segment of a window sees the content of all of it,
the others only of ten segments back. The definition here, of which the published window is a case:

- the length W of the table (`n_segments`, by default that of the training window) is fixed for the whole stream;
- the newest segment of each step is the last segment of a window that ends there: exempt from the content window.
  When a later segment comes it is no longer the last, so what is kept of it for later was computed without the
  exemption. Beyond the content window the newest segment is therefore computed twice, once each way;
- every layer sees the last M segments (`max_segments` ≤ W), the own included; older ones are forgotten.

So, as long as no more than M segments were fed, a step gives the tokens of its segments as the whole window so far
gives them with rows W − T … W − 1 of the time table; with T = W this is the published model to the letter. After that
each token still rests on more than M segments through the layers below, as in any attention with a sliding window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurofm.models.base import Encoded
from neurofm.nn.channel_distance import order_distance
from neurofm.nn.mvpa_stream import attend_to_kept, keys_and_values
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError

if TYPE_CHECKING:
    from neurofm.models.mvpformer import MVPFormer, MVPFormerBlock


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """What a stream needs of its past; never more than M − 1 segments of it.

    Attributes
    ----------
    n_segments, max_segments : int
        W and M.
    n_seen : int
        Segments fed so far.
    kept : tuple of pairs of Tensor, shape (B, K, ≤ M − 1, C, d)
        Keys and values of each layer.
    channel_mask, channel_distance : Tensor, shapes (B, C) and (B, C, C)
        Of the channels, which stay the same.
    """

    n_segments: int
    max_segments: int
    n_seen: int = 0
    kept: tuple[tuple[Tensor, Tensor], ...] = ()
    channel_mask: Tensor | None = None
    channel_distance: Tensor | None = None


def begin_stream(model: MVPFormer, *, n_segments: int | None = None, max_segments: int | None = None) -> StreamState:
    """Return the state before the first segment; see `MVPFormer.begin_stream`."""
    if not model.causal:
        raise ConfigError("a stream needs a causal model, this one reads whole windows: build it with causal=true")
    n_segments = model.n_segments if n_segments is None else n_segments
    max_segments = n_segments if max_segments is None else max_segments
    if not 1 <= n_segments <= model.n_positions:
        raise ConfigError(
            f"n_segments={n_segments} does not fit the time table of {model.n_positions} rows: "
            f"give 1 to {model.n_positions}"
        )
    if not 1 <= max_segments <= n_segments:
        raise ConfigError(
            f"max_segments={max_segments} does not fit n_segments={n_segments}: give 1 to {n_segments}, "
            "the longest lag that the time table describes"
        )
    return StreamState(n_segments=n_segments, max_segments=max_segments)


def step(model: MVPFormer, batch: NeuralBatch, state: StreamState) -> tuple[Encoded, StreamState]:
    """Encode the next segments of a stream; see `MVPFormer.step`."""
    if model.training:
        raise ConfigError("a stream has no dropout: call model.eval() before model.step")
    state = _channels(model, batch, state)
    x = model.embed_input(batch)
    n_fed = x.shape[1]
    blocks: list[MVPFormerBlock] = list(model.blocks)  # type: ignore[arg-type]
    content_window = blocks[0].attention.content_window if blocks else 0
    # within the content window the exemption changes nothing
    twice = min(state.n_seen + n_fed, state.max_segments) > content_window + 1
    newest = x[:, -1:] if twice else None
    assert state.channel_mask is not None
    assert state.channel_distance is not None
    given: dict[str, Any] = dict(
        tables=model.tables(),
        channel_mask=state.channel_mask,
        channel_distance=state.channel_distance,
        n_segments=state.n_segments,
        max_segments=state.max_segments,
    )
    kept = []
    for layer, block in enumerate(blocks):
        h = block.norm(x)
        key, value = keys_and_values(block.attention, h)
        if state.kept:
            key, value = (torch.cat(pair, dim=2) for pair in zip(state.kept[layer], (key, value), strict=True))
        if newest is not None:
            newest = _exempt(block, newest, key[:, :, :-1], value[:, :, :-1], given)
        x = x + block.feedforward(h) + attend_to_kept(block.attention, h, key, value, exempt=False, **given)
        forget = max(0, key.shape[2] - (state.max_segments - 1))
        kept.append((key[:, :, forget:].contiguous(), value[:, :, forget:].contiguous()))
    if newest is not None:
        x = torch.cat([x[:, :-1], newest], dim=1)
    encoded = model.flatten(model.norm(x), batch, first_segment=state.n_seen)
    return encoded, replace(state, n_seen=state.n_seen + n_fed, kept=tuple(kept))


def _exempt(block: MVPFormerBlock, newest: Tensor, key: Tensor, value: Tensor, given: dict[str, Any]) -> Tensor:
    """One block on the newest segment as the last of its window: content counts at every lag."""
    h = block.norm(newest)
    own_key, own_value = keys_and_values(block.attention, h)
    key, value = torch.cat([key, own_key], dim=2), torch.cat([value, own_value], dim=2)
    return newest + block.feedforward(h) + attend_to_kept(block.attention, h, key, value, exempt=True, **given)


def _channels(model: MVPFormer, batch: NeuralBatch, state: StreamState) -> StreamState:
    """Keep the channels of the first segment, and refuse others later."""
    if state.channel_mask is None:
        distance = model.distance(batch)
        distance = order_distance(batch.channel_mask) if distance is None else distance
        return replace(state, channel_mask=batch.channel_mask, channel_distance=distance)
    if state.channel_mask.shape != batch.channel_mask.shape or not torch.equal(state.channel_mask, batch.channel_mask):
        raise DataError(
            "field channel_mask: the channels of a stream must stay those of its first segment; "
            "begin a new stream with model.begin_stream()"
        )
    return state
