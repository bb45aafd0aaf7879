"""Multivariate parallel attention: content, time-relative and channel-relative logits added before one softmax.

Follows "Multi-variate parallel transformer" (arXiv:2506.20354) and the index conventions of its released code.

Shape legend: B batch, T segment of the query, S segment of the key, C channel, D width, H query heads,
K key/value heads, G = H / K query heads per key/value head, R = G·C query rows of one segment, d = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neurofm.nn.mvpa_roads import ROADS, Terms, masked_logit, pick_road
from neurofm.schema.errors import ConfigError, nearest


class MultivariateParallelAttention(nn.Module):
    """Attention over a grid of segments and channels, for recordings with any number of channels.

    For a query (t, c), a key (t', c') and head h of key/value group g (paper, section 3)::

        content = (q[t,c,h] + u_g) · k[t',c',g]          0 where |t − t'| > content_window, unless t = T − 1
        time    = (q[t,c,h] + v_g) · et[T − 1 − |t − t'|, g]
        channel = (q[t,c,h] + w_g) · ec[C_b − 1 − n(c, c'), g]
        logit   = (content + time + channel) / √d

    n(c, c') is the distance of the two channels in the order of the sample's C_b valid channels, or what
    `channel_distance` says. Causal means t' ≤ t; all channels of one segment see each other.

    Parameters
    ----------
    dim : int
        Width D of the tokens and of both tables.
    n_heads : int
        Query heads H; must divide `dim`.
    n_kv_heads : int, optional
        Key/value heads K; must divide `n_heads`. Default: `n_heads`.
    content_window : int
        Segments on either side of a query beyond which content does not count (10 in the paper).
    causal : bool
        Whether a query sees only its own and earlier segments.
    scale_by_layer : int, optional
        Index of the layer; logits are further divided by index + 1. Off by default, as in the paper.
    use_time, use_channel : bool
        Whether the logit has its time term and its channel term; without them, for ablations, keys of the past
        or of a sample's channels differ by content alone, and the table is not needed. Not in the paper.
    dropout : float
        Structured dropout of keys in training: whole segments and whole channels are dropped, each with
        probability 1 − √(1 − dropout), the same for all samples and heads of the batch, and the surviving
        keys' weights are scaled by 1 / (1 − dropout). The paper's fast kernel does the same.
    backend : str
        ``math`` (plain), ``sdpa`` (fused and factorised, any device), ``flex`` (CUDA) or ``auto`` (by measured rule).

    Raises
    ------
    ConfigError
        When the numbers of heads do not divide, or the backend is unknown.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_heads: int,
        n_kv_heads: int | None = None,
        content_window: int = 10,
        causal: bool = True,
        scale_by_layer: int | None = None,
        use_time: bool = True,
        use_channel: bool = True,
        dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        _check_choices(dim, n_heads, n_kv_heads, content_window, dropout, backend)
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.head_dim = dim // n_heads
        self.content_window, self.causal, self.dropout, self.backend = content_window, causal, dropout, backend
        self.scale = 1 / math.sqrt(self.head_dim) / (1 if scale_by_layer is None else scale_by_layer + 1)
        kv_dim = n_kv_heads * self.head_dim
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * kv_dim, bias=False)
        self.time_key = nn.Linear(dim, kv_dim, bias=False) if use_time else _NoTerm(kv_dim)
        self.channel_key = nn.Linear(dim, kv_dim, bias=False) if use_channel else _NoTerm(kv_dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.bias = nn.Parameter(torch.empty(3, n_kv_heads, self.head_dim))
        nn.init.normal_(self.bias, std=0.02)

    def forward(
        self,
        tokens: Tensor,
        time_table: Tensor | None,
        channel_table: Tensor | None,
        channel_mask: Tensor | None = None,
        channel_distance: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Parameters
        ----------
        tokens : Tensor, shape (B, T, C, D), float
            Tokens; never padded over segments.
        time_table : Tensor, shape (≥ T, D), float
            Row T − 1 − L describes a lag of L segments; rows 0 … T − 1 are used. None with use_time=False.
        channel_table : Tensor, shape (≥ C, D), float
            Row C_b − 1 − n describes a distance of n channels; rows 0 … C − 1 are used. None with
            use_channel=False.
        channel_mask : Tensor, shape (B, C), bool, optional
            True where the channel exists. Other channels change no valid output and no gradient; their own
            outputs are finite and without meaning.
        channel_distance : Tensor, shape (C, C) or (B, C, C), long, optional
            Distance n of every pair of channels, from 0 to C_b − 1, in place of the difference in order.

        Returns
        -------
        Tensor, shape (B, T, C, D)

        Raises
        ------
        ConfigError
            When a table has too few rows, a distance is out of range, or ``flex`` finds no CUDA device.
        """
        B, T, C, _ = tokens.shape
        time_table, channel_table = self.checked_tables(tokens, time_table, channel_table)
        alike = self.training and self.dropout > 0  # dropped keys are the same for all samples of the batch
        if torch.is_grad_enabled() or alike or tokens.device.type != "cpu":
            return self._attend(tokens, time_table, channel_table, channel_mask, channel_distance)
        # Nothing is kept for a backward pass, so a few samples at a time will do: 8 MB for the channel term stay in
        # memory that is used again (1.1 to 1.4 times faster than all at once, 50 × 94 channels × 4 segments)
        step = max(1, 2**21 // (2 * self.n_heads * T * C * C))
        out = [
            self._attend(tokens[some], time_table, channel_table, _of(channel_mask, some), _of(channel_distance, some))
            for some in (slice(lo, lo + step) for lo in range(0, max(B, 1), step))
        ]
        return out[0] if len(out) == 1 else torch.cat(out)

    def checked_tables(
        self, tokens: Tensor, time_table: Tensor | None, channel_table: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return tables with rows enough for `tokens` (B, T, C, D), zeros for a term that is left out."""
        _, T, C, D = tokens.shape
        if isinstance(self.time_key, _NoTerm):
            time_table = tokens.new_zeros(T, D)
        if isinstance(self.channel_key, _NoTerm):
            channel_table = tokens.new_zeros(C, D)
        return (
            _check_rows("time", time_table, T, "segments", "n_positions"),
            _check_rows("channel", channel_table, C, "channels", "n_channels"),
        )

    def terms(
        self,
        tokens: Tensor,
        time_table: Tensor,
        channel_table: Tensor,
        channel_mask: Tensor | None = None,
        channel_distance: Tensor | None = None,
    ) -> Terms:
        """Return what every road starts from; arguments as `forward`, tables of the terms that there are."""
        B, T, C, _ = tokens.shape
        K, d = self.n_kv_heads, self.head_dim
        query = self.query(tokens).view(B, T, C, K, -1, d).permute(0, 3, 1, 4, 2, 5)  # B K T G C d
        query = query.reshape(B, K, T, -1, d) * self.scale
        key, value = self.key_value(tokens).view(B, T, C, 2, K, d).permute(3, 0, 4, 1, 2, 5)  # each B K T C d
        content_bias, time_bias, channel_bias = (self.bias * self.scale)[:, :, None, None]
        return Terms(
            query=query + content_bias,
            key=key,
            value=self._drop_keys(value),
            time=self._time_term(query + time_bias, time_table[:T]),
            channel=self._channel_term(query + channel_bias, channel_table[:C], channel_mask, channel_distance),
        )

    def _attend(
        self, tokens: Tensor, time_table: Tensor, channel_table: Tensor, mask: Tensor | None, distance: Tensor | None
    ) -> Tensor:
        B, T, C, D = tokens.shape
        K, d = self.n_kv_heads, self.head_dim
        terms = self.terms(tokens, time_table, channel_table, mask, distance)
        backend = self.backend
        if backend == "auto":
            gradient = terms.query.requires_grad
            sizes = dict(n_batch=B, n_heads=self.n_heads, n_segments=T, n_channels=C)
            backend = pick_road(device=tokens.device, gradient=gradient, **sizes)
        out = ROADS[backend](terms, self.content_window, self.causal)  # B K T R d
        return self.out(out.view(B, K, T, -1, C, d).permute(0, 2, 4, 1, 3, 5).reshape(B, T, C, D))

    def _time_term(self, query: Tensor, table: Tensor) -> Tensor:
        """Logits (B, K, T, R, S) of `query` (B, K, T, R, d) against the rows of the lags."""
        T = len(table)
        segment = torch.arange(T, device=table.device)
        lag = segment[:, None] - segment[None, :]
        row = self.time_key(table).view(T, self.n_kv_heads, self.head_dim)[T - 1 - lag.abs()]  # T S K d
        time = torch.einsum("bktrd,tskd->bktrs", query, row)
        if self.causal:
            time = time.masked_fill(lag[:, None, :] < 0, masked_logit(time.dtype))
        return time

    def _channel_term(self, query: Tensor, table: Tensor, mask: Tensor | None, distance: Tensor | None) -> Tensor:
        """Logits (B, K, T, R, C) of `query` (B, K, T, R, d) against the rows of the channel distances."""
        B, K, T, R, d = query.shape
        C = len(table)
        complete = mask is None or _is_known(mask.all)
        if mask is None or complete:
            mask = torch.ones(1, C, dtype=torch.bool, device=table.device)
        n_valid = mask.sum(1, keepdim=True)  # b 1, where b is B, or 1 if all samples are alike
        in_order = distance is None and (complete or _is_known(lambda: (mask[:, 1:] <= mask[:, :-1]).all()))
        # what is laid out per sample is the small table: first the row of every distance, or, where distances are
        # differences in order, of every difference from −(C − 1) to C − 1
        wanted = torch.arange(1 - C if in_order else 0, C, device=table.device).abs()
        row = self.channel_key(table).view(C, K, d)[(n_valid - 1 - wanted).clamp(min=0)]  # b n K d
        by_distance = (query.flatten(2, 3) @ row.permute(0, 2, 3, 1)).view(B, K, T, R, len(wanted))
        if in_order:
            channel = _shift_rows(by_distance.unflatten(3, (-1, C))).flatten(3, 4)
        else:
            if distance is None:
                order = mask.cumsum(1)
                distance = (order[:, :, None] - order[:, None, :]).abs()
            else:
                distance = distance.view(-1, C, C)
                _check_distance(distance, mask, n_valid)
            index = distance.clamp(0, C - 1).repeat(1, R // C, 1)[:, None, None].expand(B, K, T, R, C)
            channel = by_distance.gather(-1, index)
        return channel if complete else channel.masked_fill(~mask[:, None, None, None, :], masked_logit(channel.dtype))

    def _drop_keys(self, value: Tensor) -> Tensor:
        if not self.training or self.dropout == 0:
            return value
        _, _, T, C, _ = value.shape
        keep = math.sqrt(1 - self.dropout)
        segment = torch.empty(T, 1, 1, device=value.device, dtype=value.dtype).bernoulli_(keep)
        channel = torch.empty(1, C, 1, device=value.device, dtype=value.dtype).bernoulli_(keep)
        return value * (segment * channel / (1 - self.dropout))


def _of(x: Tensor | None, samples: slice) -> Tensor | None:
    """Return the part of a mask (B, C) or of distances that belongs to some samples; distances (C, C) are for all."""
    return x if x is None or len(x) == 1 or (x.ndim == 2 and x.dtype != torch.bool) else x[samples]


def _is_known(question: Callable[[], Tensor]) -> bool:
    """Return the answer, bool, where it is free; on a device that works in a queue, asking would stop it."""
    answer = question()
    return answer.device.type == "cpu" and bool(answer)


def _shift_rows(x: Tensor) -> Tensor:
    """Return, from x (…, C, 2C − 1), entry (c, c') = x[c, c' − c + C − 1]: a view, where a gather would copy slowly.

    Read without its first C − 1 entries, and in rows shorter by one, each row starts one entry earlier than the last.
    """
    C = x.shape[-2]
    if C == 1:
        return x
    flat = x.flatten(-2)[..., C - 1 : C - 1 + C * (2 * C - 2)]
    return flat.unflatten(-1, (C, 2 * C - 2))[..., :C]


def _check_choices(dim: int, n_heads: int, n_kv_heads: int, content_window: int, dropout: float, backend: str) -> None:
    if n_heads < 1 or dim % n_heads:
        raise ConfigError(f"n_heads={n_heads} does not divide dim={dim}: choose a divisor of {dim}")
    if n_kv_heads < 1 or n_heads % n_kv_heads:
        raise ConfigError(f"n_kv_heads={n_kv_heads} does not divide n_heads={n_heads}: choose a divisor of {n_heads}")
    if content_window < 0:
        raise ConfigError(f"content_window={content_window} is negative: give a number of segments, 0 or more")
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout={dropout} is not a probability below 1: give a number from 0 to 0.99")
    if backend != "auto" and backend not in ROADS:
        raise ConfigError(f"unknown attention backend '{backend}': {nearest(backend, ['auto', *ROADS])}")


class _NoTerm(nn.Module):
    """A map to zero, in place of that of a term which is left out."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, table: Tensor) -> Tensor:
        return table.new_zeros(len(table), self.dim)


def _check_rows(name: str, table: Tensor | None, needed: int, what: str, choice: str) -> Tensor:
    if table is None:
        raise ConfigError(f"the {name} table is missing: pass it, or build the attention with use_{name}=False")
    if len(table) < needed:
        raise ConfigError(
            f"the {name} table has {len(table)} rows but the input has {needed} {what}: "
            f"build the model with {choice} of at least {needed}, or pass fewer {what}"
        )
    return table


def _check_distance(distance: Tensor, mask: Tensor, n_valid: Tensor) -> None:
    pair = mask[:, :, None] & mask[:, None, :]
    wrong = pair & ((distance < 0) | (distance >= n_valid[:, :, None]))
    if bool(wrong.any()):
        raise ConfigError(
            "channel_distance of a pair of valid channels must lie between 0 and the sample's number of valid "
            "channels − 1: rank or bin the distances first"
        )
