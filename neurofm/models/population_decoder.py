"""Events of any units → a few latent vectors: the encoder of a session-agnostic population decoder.

Source: POYO (Azabou et al. 2023, arXiv:2310.16046): one token per spike (an embedding of its unit and its time), one
token each for the start and the end of every unit so that silence is seen, latent queries on a grid of times that
attend to the tokens and then to each other. The readout at sampled output times is the objective's
(`objectives.behaviour`). Cost and memory of the first attention are linear in the number of spikes.

Shape legend: B batch, N spike tokens, L latents, C channel (unit), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.unit_table import GrowingTable, check_units
from neurofm.nn.geglu import GEGLU
from neurofm.nn.ragged import pad_rows, row_of
from neurofm.nn.rotary_time import RotaryAttention, RotaryTime
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

SPIKE, START, END = range(3)


class _Block(nn.Module):
    """x + attention, then x + feed-forward, of the latents."""

    def __init__(self, attention: RotaryAttention, ffn: GEGLU, dropout: float) -> None:
        super().__init__()
        self.attention, self.ffn, self.dropout = attention, ffn, nn.Dropout(dropout)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Map latents (B, L, D)."""
        x = x + self.dropout(self.attention(x, angles))
        return x + self.dropout(self.ffn(x))


class PopulationDecoder(Backbone):
    """Latents over events.

    Parameters
    ----------
    facts : Facts
        Vocabulary of units, window.
    dim : int
        Width D.
    depth : int
        Self-attention layers of the latents.
    head_dim, cross_heads, self_heads : int
        Numbers per head, and heads of the two kinds of attention.
    latent_step_s, latents_per_step : float, int
        The latents: so many at the centre of each step of the window; those of the same number share a vector.
    dropout, ffn_dropout, attention_dropout : float
        On what each layer adds, inside feed-forward blocks, on attention weights.
    delimiters : bool
        Whether every unit gets its start and end tokens (published: yes).
    shortest_s, longest_s : float
        Periods of the rotary times.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        dim: int = 64,
        depth: int = 2,
        head_dim: int = 32,
        cross_heads: int = 2,
        self_heads: int = 4,
        latent_step_s: float = 0.125,
        latents_per_step: int = 4,
        dropout: float = 0.1,
        ffn_dropout: float = 0.1,
        attention_dropout: float = 0.0,
        delimiters: bool = True,
        shortest_s: float = 1e-4,
        longest_s: float = 2.0627,
    ) -> None:
        super().__init__()
        if latent_step_s <= 0 or latents_per_step < 1:
            raise ConfigError(
                f"population_decoder: latent_step_s={latent_step_s} must be above 0 and "
                f"latents_per_step={latents_per_step} at least 1"
            )
        self.dim, self.latent_step_s, self.delimiters = dim, latent_step_s, delimiters
        self.window_s = facts.window_s
        self.unit = GrowingTable(len(facts.channels), dim)
        self.kind = nn.Embedding(3 if delimiters else 1, dim)
        self.latent = nn.Parameter(torch.empty(latents_per_step, dim))
        self.rotary = RotaryTime(head_dim, shortest_s=shortest_s, longest_s=longest_s)
        self.read = RotaryAttention(
            dim, context_dim=dim, n_heads=cross_heads, head_dim=head_dim, dropout=attention_dropout
        )
        self.read_ffn = GEGLU(dim, dropout=ffn_dropout)
        self.blocks = nn.ModuleList(
            _Block(
                RotaryAttention(dim, n_heads=self_heads, head_dim=head_dim, dropout=attention_dropout),
                GEGLU(dim, dropout=ffn_dropout),
                dropout,
            )
            for _ in range(depth)
        )
        self.dropout = nn.Dropout(dropout)
        for table in (self.kind.weight, self.latent):
            nn.init.normal_(table, std=0.02)

    def spike_tokens(self, batch: NeuralBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens (B, N, D), their times (B, N) from the window's start and mask (B, N).

        Events of channels that are masked are left out, so dropping a unit is masking its channel.
        """
        ids = check_units(batch)
        if batch.events is None:
            raise DataError("batch.events is missing; population_decoder reads spikes as events")
        unit, time_s, offsets = batch.events
        row = row_of(offsets)
        kept = batch.channel_mask[row, unit]
        row, word = row[kept], ids[row[kept], unit[kept]]
        time_s = time_s[kept]
        kind = torch.full_like(word, SPIKE)
        if self.delimiters:
            at, channel = batch.channel_mask.nonzero(as_tuple=True)
            extra = ids[at, channel]
            row, order = torch.cat([row, at, at]).sort(stable=True)
            word = torch.cat([word, extra, extra])[order]
            ends = torch.full(extra.shape, self.length_s(batch), dtype=time_s.dtype, device=time_s.device)
            time_s = torch.cat([time_s, torch.zeros_like(ends), ends])[order]
            kind = torch.cat([kind, torch.full_like(extra, START), torch.full_like(extra, END)])[order]
        words, mask = pad_rows(torch.stack([word, kind], dim=1), row, len(batch))
        times, _ = pad_rows(time_s, row, len(batch))
        # the padding word is the units' row 0, which has no gradient; the kind is masked by attention
        return self.unit(words[..., 0]) + self.kind(words[..., 1]), times, mask

    def length_s(self, batch: NeuralBatch) -> float:
        """Length of the batch's windows."""
        return batch.signal.shape[-1] / batch.rate_hz

    def latent_times(self, batch: NeuralBatch) -> Tensor:
        """Return the time of each latent, shape (L,): centres of steps, several latents on each."""
        n = max(1, round(self.length_s(batch) / self.latent_step_s))
        centre = (torch.arange(n, device=batch.signal.device, dtype=torch.float64) + 0.5) * (self.length_s(batch) / n)
        return centre.repeat_interleave(len(self.latent))

    def encode(self, batch: NeuralBatch, bias: Tensor | None = None) -> Encoded:
        """Encode a batch: L tokens that belong to no unit.

        Parameters
        ----------
        batch : NeuralBatch
            With events.
        bias : Tensor, shape (B, N), optional
            Added to the logits of the spike tokens; ln k makes a token count as k spikes.
        """
        tokens, token_s, mask = self.spike_tokens(batch)
        return self.encode_tokens(batch, tokens, token_s, mask, bias)

    def encode_tokens(
        self, batch: NeuralBatch, tokens: Tensor, token_s: Tensor, mask: Tensor, bias: Tensor | None = None
    ) -> Encoded:
        """Encode given tokens; see `spike_tokens` and `encode`."""
        B, time_s = len(batch), self.latent_times(batch)
        L = len(time_s)
        x = self.latent.repeat(L // len(self.latent), 1).expand(B, -1, -1)
        own = self.rotary.angles(time_s.expand(B, -1), x.dtype)
        theirs = self.rotary.angles(token_s, x.dtype)
        # a window without a token attends to one that says nothing, rather than to nothing
        empty = ~mask.any(1, keepdim=True)
        tokens = tokens.masked_fill(empty[..., None], 0)
        seen = mask | empty
        if bias is not None:
            seen = torch.where(mask, bias.to(x.dtype), -torch.inf).masked_fill(empty, 0)
        x = x + self.dropout(self.read(x, own, tokens, theirs, seen[:, None, None]))
        x = x + self.dropout(self.read_ffn(x))
        for block in self.blocks:
            x = block(x, own)
        return Encoded(
            tokens=x,
            mask=torch.ones(B, L, dtype=torch.bool, device=x.device),
            channel=torch.full((B, L), -1, device=x.device),
            time_s=time_s.to(x.dtype).expand(B, -1),
        )

    def subject_parameters(self) -> list[str]:
        """Return the units' embeddings: all that a new session must learn."""
        return ["unit.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in a vocabulary that begins with the present one."""
        self.unit.grow(len(facts.channels))
