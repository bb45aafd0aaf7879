"""Neuroformer: the next spike from the spikes so far, past spikes, stimulus and behaviour.

Source: Antoniades et al. 2024 (ICLR, arXiv:2311.00136). Spikes of the window's last `current_s` seconds are tokens
(unit, time step); they pass a causal encoder, attend to the spikes of the `history_s` seconds before, to encoded frames
of the stimulus and to each behaviour, and pass a causal decoder. Heads, losses and generation are the objective's
(`objectives.spike_sequence`).

Shape legend: B batch, S = 1 + current tokens (a start token first), K context tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import masked_mean
from neurofm.models.neuroformer_connectivity import Attended, connectivity
from neurofm.models.neuroformer_context import Frames, TimeMap, Trace
from neurofm.models.spike_tokens import SpikeTokens, spike_tokens
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.nn.seen_attention import SeenAttentionBlock
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class States(NamedTuple):
    """What `Neuroformer.run` returns.

    Attributes
    ----------
    tokens : Tensor, shape (B, S, D)
        State of the start token and of each spike; each is to say what comes next.
    current : SpikeTokens
        The spikes, without the start token.
    features : dict of str to Tensor, shape (B, D)
        Mean encoded token of every modality: ``spikes``, ``frames`` and behaviours by name, for aligning them.
    """

    tokens: Tensor
    current: SpikeTokens
    features: dict[str, Tensor]


class Neuroformer(Backbone):
    """Causal transformer over spikes with cross-attention to history, stimulus and behaviour.

    Parameters
    ----------
    facts : Facts
        Vocabulary of units, window.
    current_s, history_s, step_s : float
        The window ends with the current part; history is what lies right before it; a time step.
    dim, n_heads : int
        D, heads.
    encoder_layers, history_layers, frame_layers, frame_cross_layers, behaviour_layers, decoder_layers : int
        Causal self-attention of the spikes; attention to history; self-attention of the frames; attention to them; to
        each behaviour; causal self-attention at the end.
    dropout : float
        Everywhere.
    max_tokens, max_history : int
        Most spikes of the current part (its first are kept) and of history (its last are kept).
    stimulus : mapping, optional
        Arguments of `Frames`: ``stream``, ``columns``, ``size`` …
    behaviours : mapping of str to int, optional
        Streams that are inputs, and their number of columns.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        current_s: float = 0.05,
        history_s: float = 0.05,
        step_s: float = 0.01,
        dim: int = 64,
        n_heads: int = 4,
        encoder_layers: int = 1,
        history_layers: int = 2,
        frame_layers: int = 1,
        frame_cross_layers: int = 1,
        behaviour_layers: int = 1,
        decoder_layers: int = 1,
        dropout: float = 0.1,
        max_tokens: int = 100,
        max_history: int = 700,
        stimulus: Mapping[str, Any] | None = None,
        behaviours: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        if dim % n_heads:
            raise ConfigError(f"neuroformer: dim={dim} must be a multiple of n_heads={n_heads}")
        if min(current_s, step_s) <= 0 or history_s < 0 or current_s + history_s > facts.window_s * (1 + 1e-6):
            raise ConfigError(
                f"neuroformer: current_s={current_s:g} and history_s={history_s:g} must fit into window_s={facts.window_s:g}"
            )
        self.dim, self.step_s, self.current_s = dim, step_s, current_s
        self.n_steps, self.n_history = _steps(current_s, step_s, "current_s"), _steps(history_s, step_s, "history_s")
        self.max_tokens, self.max_history = max_tokens, max_history
        self.unit = GrowingTable(len(facts.channels), dim)
        self.start, self.past_start = nn.Parameter(torch.empty(dim)), nn.Parameter(torch.empty(dim))
        # positions start from zero, as published
        self.position = nn.Parameter(torch.zeros(1 + max_tokens, dim))
        self.past_position = nn.Parameter(torch.zeros(max_history, dim))
        self.time, self.past_time = TimeMap(dim, unit_s=current_s), TimeMap(dim, unit_s=max(history_s, step_s))
        self.dropout = nn.Dropout(dropout)

        def blocks(n: int, *, cross: bool = False) -> nn.ModuleList:
            return nn.ModuleList(SeenAttentionBlock(dim, n_heads, dropout, cross=cross) for _ in range(n))

        self.encoder, self.history = blocks(encoder_layers), blocks(history_layers, cross=True)
        self.frames: Frames | None = None
        if stimulus is not None:
            self.frames = Frames(dim, unit_s=facts.window_s, **stimulus)
            self.frame_start = nn.Parameter(torch.empty(dim))
            self.frame_encoder = blocks(frame_layers)
            self.frame_cross = blocks(frame_cross_layers, cross=True)
        self.traces = nn.ModuleDict(
            {n: Trace(dim, unit_s=facts.window_s, stream=n, columns=k) for n, k in (behaviours or {}).items()}
        )
        self.trace_start = nn.ParameterDict({n: torch.zeros(dim) for n in self.traces})
        self.trace_cross = nn.ModuleDict({n: blocks(behaviour_layers, cross=True) for n in self.traces})
        self.decoder = blocks(decoder_layers)
        self.norm = nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for vector in (self.start, self.past_start, *([self.frame_start] if self.frames is not None else [])):
            nn.init.normal_(vector, std=0.02)

    def current(self, batch: NeuralBatch) -> SpikeTokens:
        """Return the spikes that are modelled."""
        return spike_tokens(
            batch, start_s=self.start_s(batch), n_steps=self.n_steps, step_s=self.step_s, max_tokens=self.max_tokens
        )

    def past(self, batch: NeuralBatch) -> SpikeTokens:
        """Return the spikes that are seen as history."""
        return spike_tokens(
            batch, start_s=self.start_s(batch) - self.n_history * self.step_s, n_steps=self.n_history,
            step_s=self.step_s, max_tokens=self.max_history, keep="last",
        )  # fmt: skip

    def start_s(self, batch: NeuralBatch) -> float:
        """Where the current part begins, from the window's start."""
        return batch.signal.shape[-1] / batch.rate_hz - self.n_steps * self.step_s

    def run(
        self, batch: NeuralBatch, current: SpikeTokens | None = None, attended: Attended | None = None,
        unseen: Tensor | None = None,
    ) -> States:  # fmt: skip
        """Run the network.

        Parameters
        ----------
        batch : NeuralBatch
            With events, and the streams of stimulus and behaviours.
        current : SpikeTokens, optional
            Other spikes than the batch's own in the current part: those generated so far.
        attended : Attended, optional
            Gets the attention weights between spikes.
        unseen : Tensor, shape (B, K), bool, optional
            Spikes of `past` that nothing may attend to, as if they had not been.
        """
        ids = check_units(batch)
        current = self.current(batch) if current is None else current
        past = self.past(batch)
        x = self.unit(ids.gather(1, current.channel)) + self.time(self.step_s * current.step)
        x = torch.cat([self.start.expand(len(batch), 1, -1), x], dim=1)
        x = self.dropout(x + self.position[: x.shape[1]])
        mask = F.pad(current.mask, (1, 0), value=True)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        own = causal & mask[:, None, None, :]
        for block in self.encoder:
            x = block(x, own, weights=attended.own if attended else None)
        features = {"spikes": masked_mean(x, mask)}
        h = self.unit(ids.gather(1, past.channel)) + self.past_time(self.step_s * past.step)
        # counted back from the present, so that a cut or a longer row changes no position of the others
        back = past.mask.flip(1).cumsum(1).flip(1) - 1
        h = self.dropout(h + self.past_position[back.clamp(min=0)] * past.mask[..., None])
        h, there = _begun(self.past_start, h, past.mask if unseen is None else past.mask & ~unseen)
        for block in self.history:
            x = block(x, there[:, None, None], h, weights=attended.past if attended else None)
        if self.frames is not None:
            f, there = _begun(self.frame_start, *self.frames(batch))
            f = self.dropout(f)
            for block in self.frame_encoder:
                f = block(f, there[:, None, None])
            features["frames"] = masked_mean(f, there)
            for block in self.frame_cross:
                x = block(x, there[:, None, None], f)
        for name, trace in self.traces.items():
            b, there = _begun(self.trace_start[name], *trace(batch))
            features[name] = masked_mean(b, there)
            for block in self.trace_cross[name].children():
                x = block(x, there[:, None, None], b)
        for block in self.decoder:
            x = block(x, own, weights=attended.own_late if attended else None)
        if attended is not None:
            attended.current, attended.history = (ids.gather(1, t.channel) * t.mask for t in (current, past))
        return States(self.norm(x), current, features)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: a start token and one token per spike of the current part."""
        states = self.run(batch)
        begin, current = self.start_s(batch), states.current
        time_s = begin + (F.pad(current.step, (1, 0)) + 0.5) * self.step_s
        return Encoded(
            tokens=states.tokens,
            mask=F.pad(current.mask, (1, 0), value=True),
            channel=F.pad(current.channel.masked_fill(~current.mask, -1), (1, 0), value=-1),
            time_s=time_s,
        )

    def connectivity(self, batches: Iterable[NeuralBatch], *, current: bool = True) -> Tensor:
        """Read directed connectivity from attention, shape (unit, unit); see `neuroformer_connectivity.connectivity`."""
        return connectivity(self, batches, n_units=self.unit.num_embeddings - 1, current=current)

    def subject_parameters(self) -> list[str]:
        """Return the units' embeddings."""
        return ["unit.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in a vocabulary that begins with the present one."""
        self.unit.grow(len(facts.channels))


def _begun(start: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put a start token first, so that there is always something to attend to."""
    tokens = torch.cat([start.expand(len(tokens), 1, -1), tokens], dim=1)
    return tokens, F.pad(mask, (1, 0), value=True)


def _steps(length_s: float, step_s: float, name: str) -> int:
    n = round(length_s / step_s)
    if abs(n * step_s - length_s) > 1e-6 * step_s * max(n, 1) + 1e-9:
        raise ConfigError(f"neuroformer: {name}={length_s:g} must be a multiple of step_s={step_s:g}")
    return n
