"""Decode behaviour (velocity, force …) at the times of its samples.

``query`` is POYO's readout (Azabou et al. 2023, arXiv:2310.16046): one query per output time, which is an embedding of
the session, attends to the model's tokens. ``pool`` is Neuroformer's (arXiv:2311.00136): a linear map of the mean token
gives the last sample of the window.

Shape legend: B batch, Q sample of the behaviour, L token, D width, Y number of behaviours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.unit_table import GrowingTable
from neurofm.nn.geglu import GEGLU
from neurofm.nn.rotary_time import LONGEST_S, SHORTEST_S, RotaryAttention, RotaryTime
from neurofm.objectives.base import Loss, Objective
from neurofm.objectives.keyed import keyed_uniform, sample_keys
from neurofm.schema.batch import NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts


class Behaviour(Objective):
    """Squared error of a stream at sampled output times.

    Parameters
    ----------
    model : Backbone
        Any.
    facts : Facts
        Sessions, for ``query``.
    stream : str
        Name in `batch.streams`.
    n_outputs : int
        Columns Y of the stream.
    readout : str
        ``query`` or ``pool``; see the module.
    n_heads, head_dim : int
        Of the query's attention.
    max_outputs : int, optional
        In training, so many output times are drawn per window; default all.
    scale : sequence of float
        What the stream is divided by, one number per column or one for all (published: a fixed number per data set).
    mean : sequence of float
        What is subtracted before.
    keep_units : sequence of three ints, optional
        In training, each window keeps k of its units, k from the triangle (low, mode, high) cut at the number of units
        (published: 30, 100, 300). None: all.
    dropout : float
        Inside the readout's feed-forward block.
    by_session : bool
        ``query``: whether each session has a query of its own (published: yes), else all share one. A session that was
        not met asks with the mean of those known.
    shortest_s, longest_s : float
        ``query``: periods of the rotary times; see `nn.rotary_time`.
    """

    needs = ("signal", "channel_mask", "streams")
    idle = ("mask_token",)  # nothing is hidden, so a model's token for it is not trained

    def __init__(
        self,
        model: Backbone,
        facts: Facts,
        /,
        *,
        stream: str,
        n_outputs: int = 2,
        readout: str = "query",
        n_heads: int = 2,
        head_dim: int = 32,
        max_outputs: int | None = None,
        scale: Sequence[float] = (1.0,),
        mean: Sequence[float] = (0.0,),
        keep_units: Sequence[int] | None = None,
        dropout: float = 0.0,
        by_session: bool = True,
        shortest_s: float = SHORTEST_S,
        longest_s: float = LONGEST_S,
    ) -> None:
        super().__init__()
        if readout not in ("query", "pool"):
            raise ConfigError(f"behaviour: unknown readout '{readout}'; {nearest(readout, ('query', 'pool'))}")
        for word, numbers in (("scale", scale), ("mean", mean)):
            if len(numbers) not in (1, n_outputs):
                raise ConfigError(f"behaviour: {word} has {len(numbers)} numbers for {n_outputs} outputs")
        if min(scale) <= 0:
            raise ConfigError(f"behaviour: scale={list(scale)} must be above 0")
        if keep_units is not None and not (
            len(keep_units) == 3 and 1 <= keep_units[0] <= keep_units[1] <= keep_units[2]
        ):
            raise ConfigError(f"behaviour: keep_units={list(keep_units)} must be 1 ≤ low ≤ mode ≤ high")
        self.stream, self.readout, self.max_outputs = stream, readout, max_outputs
        self.keep_units = None if keep_units is None else tuple(int(k) for k in keep_units)
        self.scale: Tensor
        self.mean: Tensor
        self.register_buffer("scale", torch.tensor(list(scale), dtype=torch.float32), persistent=False)
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32), persistent=False)
        self.session: GrowingTable | None = None
        if readout == "query":
            if by_session:
                self.session = GrowingTable(len(facts.sessions), model.dim)
            else:
                self.everybody = nn.Parameter(torch.empty(model.dim))
                nn.init.normal_(self.everybody, std=0.02)
            self.rotary = RotaryTime(head_dim, shortest_s=shortest_s, longest_s=longest_s)
            self.read = RotaryAttention(
                model.dim, context_dim=model.dim, n_heads=n_heads, head_dim=head_dim, turn_values=False
            )
            self.ffn = GEGLU(model.dim, dropout=dropout)
        self.head = nn.Linear(model.dim, n_outputs)

    def forward(self, model: Backbone, batch: NeuralBatch, generator: torch.Generator | None = None) -> Loss:
        """Return the squared error, in units of `scale`, over the samples that are there."""
        values, time_s, mask = self.wanted(batch)
        if self.training and (self.keep_units is not None or self.max_outputs is not None):
            keys = sample_keys(batch, generator)
            batch = self._thinned(batch, keys)
            if self.max_outputs is not None and self.readout == "query":
                chance = keyed_uniform(keys + 1, mask.shape[1]).masked_fill(~mask, 2.0)
                at = chance.argsort(dim=1)[:, : self.max_outputs].sort(dim=1).values
                time_s, mask = time_s.gather(1, at), mask.gather(1, at)
                values = values.gather(1, at[..., None].expand(-1, -1, values.shape[-1]))
        truth = (values - self.mean) / self.scale
        estimate = self._estimate(model, batch, time_s)
        error = (estimate - truth).square().mean(-1)
        total = (error * mask).sum() / mask.sum().clamp(min=1)
        return Loss(total, {"mse": total.detach()}, {"r2": _r_squared(estimate, truth, mask)})

    def predict(self, model: Backbone, batch: NeuralBatch) -> Tensor:
        """Return the stream at the times of its own samples, in its own unit, shape (B, Q, Y); Q = 1 for ``pool``."""
        _, time_s, _ = self.wanted(batch)
        return self._estimate(model, batch, time_s) * self.scale + self.mean

    @property
    def linear_head(self) -> nn.Linear | None:
        """The head, where it reads the pooled vector."""
        return self.head if self.readout == "pool" else None

    def regression_targets(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Return the last sample of every window in units of `scale`, (B, Y), and whether it is there, (B,)."""
        if self.linear_head is None:
            return super().regression_targets(batch)
        values, _, mask = self.wanted(batch)
        return ((values - self.mean) / self.scale)[:, 0], mask[:, 0]

    def wanted(self, batch: NeuralBatch) -> StreamValues:
        """Return values, times and mask of what is decoded; for ``pool`` the last sample that is there.

        Raises
        ------
        DataError
            When the batch does not hold the stream, or it has another number of columns.
        """
        if self.stream not in batch.streams:
            raise DataError(
                f"objective 'behaviour' decodes the stream '{self.stream}', which is not in the batch: "
                f"{nearest(self.stream, batch.streams)}; name it in data.streams"
            )
        found = batch.streams[self.stream]
        if found.values.shape[-1] != self.head.out_features:
            raise DataError(
                f"stream '{self.stream}' has {found.values.shape[-1]} columns, objective 'behaviour' was built for "
                f"{self.head.out_features}; set objective.n_outputs"
            )
        found = StreamValues(found.values.to(self.head.weight.dtype), found.time_s, found.mask)
        if self.readout == "query":
            return found
        place = torch.arange(found.mask.shape[1], device=found.mask.device)
        last = torch.where(found.mask, place, 0).amax(1, keepdim=True)
        return StreamValues(
            found.values.gather(1, last[..., None].expand(-1, -1, found.values.shape[-1])),
            found.time_s.gather(1, last),
            found.mask.gather(1, last),
        )

    def subject_parameters(self) -> list[str]:
        """Return the sessions' embeddings."""
        return [] if self.session is None else ["session.weight"]

    def grow(self, facts: Facts) -> None:
        """Take in sessions behind the present ones."""
        if self.session is not None:
            self.session.grow(len(facts.sessions))

    def _estimate(self, model: Backbone, batch: NeuralBatch, time_s: Tensor) -> Tensor:
        encoded = model(batch)
        if self.readout == "pool":
            return self.head(model.pool(encoded))[:, None]
        return self.read_at(encoded, time_s, batch.session)

    def read_at(self, encoded: Encoded, time_s: Tensor, session: Tensor | None) -> Tensor:
        """Return estimates, in units of `scale`, at any times from the window's start, shape (B, Q, Y)."""
        B, Q = time_s.shape
        dtype = encoded.tokens.dtype
        x = self._asking(session, B)[:, None].expand(-1, Q, -1)
        angles = self.rotary.angles(time_s, dtype)
        theirs = self.rotary.angles(encoded.time_s, dtype)
        x = x + self.read(x, angles, encoded.tokens, theirs, encoded.mask[:, None, None])
        return self.head(x + self.ffn(x))

    def _asking(self, session: Tensor | None, B: int) -> Tensor:
        """Vectors that ask, (B, D): of each window's session, the mean of the known where it is not among them."""
        if self.session is None:
            return self.everybody.expand(B, -1)
        known = self.session.weight[1:]
        mean = (known.mean(0) if len(known) else self.session.weight[0]).detach().expand(B, -1)
        if session is None:
            return mean
        return torch.where((session > 0)[:, None], self.session(session), mean)

    def _thinned(self, batch: NeuralBatch, keys: Tensor) -> NeuralBatch:
        """Keep a random number of random units of each window; the same whatever the padding."""
        if self.keep_units is None:
            return batch
        low, mode, high = self.keep_units
        mask = batch.channel_mask
        # keys of two further draws, so that number and choice are independent
        u = keyed_uniform(keys + 2, 1)
        share = (mode - low) / max(high - low, 1)
        rising = low + (u * (high - low) * (mode - low)).sqrt()
        falling = high - ((1 - u) * (high - low) * (high - mode)).sqrt()
        keep = torch.where(u < share, rising, falling).round().long()
        rank = keyed_uniform(keys + 3, mask.shape[1]).masked_fill(~mask, 2.0).argsort(1).argsort(1)
        return replace(batch, channel_mask=mask & (rank < keep))


@torch.no_grad()
def _r_squared(estimate: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Variance-weighted R² over the samples of the batch (total about each column's mean)."""
    e, y = estimate[mask].double(), truth[mask].double()
    if not len(y):
        return torch.tensor(float("nan"))
    return (1 - (e - y).square().sum() / (y - y.mean(0)).square().sum().clamp(min=1e-12)).float()
