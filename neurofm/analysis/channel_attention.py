"""Who looks at whom: attention between channels of an MVPFormer, and influence of a channel's past on another's future.

Attention says where a layer reads from, influence what the whole trained model makes of it. Neither is a connection in
the brain: both describe the model. On networks with known links scripts/links.py says what they are worth.

Shape legend: B window, T segment, C channel, L layer, H head, P samples of a segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from neurofm.models.base import Backbone, offers
from neurofm.models.mvpformer import MVPFormer
from neurofm.nn.mvpa_weights import segment_weights
from neurofm.objectives.base import Objective
from neurofm.objectives.grid import patch_samples_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError

NORMS = ("window", "lag")


@torch.no_grad()
def channel_attention(
    model: Backbone, batch: NeuralBatch, *, normalise: str = "window", lags: tuple[int, int | None] = (0, None)
) -> Tensor:
    """Return how much each channel attends to each other one, averaged over windows and time.

    The weights are those of the ``math`` road of `nn.mvpa`, computed one query segment at a time, so that they never
    exist all at once: memory O(B·H·T·C²) for one segment.

    Parameters
    ----------
    model : module
        An `mvpformer`, in evaluation mode.
    batch : NeuralBatch
        Windows of one set of channels; padded channels get 0.
    normalise : str
        ``window``: the model's own weights, summed over the lags asked for. ``lag``: the weights among the channels of
        each key segment, averaged over lags; they come from content and the channel term alone, for the time term is
        the same for all channels of a segment.
    lags : pair of int
        First and last lag, in segments from the query back, that count; None: to the start of the window. Only the
        past and the present count, in a bidirectional model too. Lag 0 is the segment itself, in which all channels
        see each other; it lies before what a next-state objective predicts.

    Returns
    -------
    Tensor, shape (L, H, C, C), float
        […, i, j]: from channel i, the one looked at, to channel j, the one that looks. Query segments that have no key
        at the first lag are left out.

    Raises
    ------
    ConfigError
        When the model has no such attention, is training, or no lag is left.
    """
    _check(model)
    if normalise not in NORMS:
        raise ConfigError(f"normalise='{normalise}' is unknown; choose 'window' or 'lag'")
    net: Any = model
    tables, distance = net.tables(), net.distance(batch)
    x = net.embed_input(batch)
    T = x.shape[1]
    first, last = lags[0], T - 1 if lags[1] is None else min(lags[1], T - 1)
    if not 0 <= first <= last:
        raise ConfigError(f"lags={list(lags)} leave nothing of a window of {T} segments; give 0 ≤ first ≤ last < {T}")
    valid = batch.channel_mask
    both = (valid[:, :, None] & valid[:, None, :]).to(x.dtype)
    maps = []
    for block in net.blocks:
        h = block.norm(x)
        attention = block.attention
        terms = attention.terms(h, *attention.checked_tables(h, *tables), valid, distance)
        total = x.new_zeros(len(x), attention.n_heads, x.shape[2], x.shape[2])
        for t in range(first, T):
            keys = slice(max(0, t - last), t - first + 1)
            weight = segment_weights(terms, attention.content_window, t, by_lag=normalise == "lag")
            weight = weight[:, :, :, keys].mean(3) if normalise == "lag" else weight[:, :, :, keys].sum(3)
            # rows are (query head of the group, channel); heads are counted group by group
            total += weight.unflatten(2, (-1, x.shape[2])).flatten(1, 2).mT
        maps.append((total / (T - first) * both[:, None]).sum(0) / both.sum(0).clamp(min=1))
        x = block(x, *tables, valid, distance)
    return torch.stack(maps)


def influence(model: Backbone, objective: Objective, batch: NeuralBatch) -> Tensor:
    """Return how much the predicted next segment of each channel changes with each channel's past.

    The root of the mean, over windows, of the summed squares of the Jacobian of the last segment's P predicted samples
    of channel j with respect to all samples of channel i before it: C·P backward passes.

    Parameters
    ----------
    model, objective : module
        In evaluation mode; the objective predicts samples (`next_state` with kind=regression).
    batch : NeuralBatch
        Windows of one set of channels.

    Returns
    -------
    Tensor, shape (C, C), float
        [i, j]: from channel i to channel j, in units of the signal per unit of the signal. 0 for padded channels.
    """
    _check(model, attention=False)
    if not offers(objective, Objective.rollout):
        raise ConfigError(
            f"influence needs an objective that predicts the next segment; {type(objective).__name__} does not"
        )
    signal = batch.signal.detach().clone().requires_grad_()
    P = patch_samples_of(model)
    with torch.enable_grad():
        n_whole = signal.shape[-1] // P * P
        said = objective.predict(model, batch.with_signal(signal))[..., n_whole - P : n_whole]
    both = (batch.channel_mask[:, :, None] & batch.channel_mask[:, None, :]).to(signal.dtype)
    square = signal.new_zeros(both.shape)
    for j in range(signal.shape[1]):
        for p in range(P):
            # also where the caller wants no gradient of its own
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(said[:, j, p].sum(), signal, retain_graph=True)
            square[:, :, j] += slope.square().sum(-1)
    return ((square * both).sum(0) / both.sum(0).clamp(min=1)).sqrt()


def average(maps: Iterable[tuple[Tensor, int]]) -> Tensor:
    """Average maps of several batches, each with its number of windows."""
    total, count = None, 0
    for each, n in maps:
        total = each * n if total is None else total + each * n
        count += n
    if total is None:
        raise ConfigError("no batch was given, so there is nothing to average")
    return total / count


def _check(model: Backbone, *, attention: bool = True) -> None:
    if model.training:
        raise ConfigError("call model.eval() first: dropout would be part of what is seen")
    if attention and not isinstance(model, MVPFormer):
        raise ConfigError(f"{type(model).__name__} has no multivariate parallel attention to look at; use an mvpformer")
