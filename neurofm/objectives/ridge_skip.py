"""A linear path solved in closed form: ridge weights of many people, drawn towards a new person's own data.

For target channel r, F the lagged channels (for reconstruction without r's own), G = FᵀF and c = Fᵀy:
    population    w₀ = (G + λI)⁻¹ c                                    over the pretraining people
    new subject   w  = w₀ + (G + diag(κ))⁻¹ (c − G w₀)                 over the calibration, κ per lag
The second is ridge regression on the residual of the first: the posterior mean under a Gaussian prior at w₀.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class RidgeSkip(nn.Module):
    """Ridge regression of every named channel on all of them, at a few lags.

    Parameters
    ----------
    facts : Facts
        Its `channels` are the vocabulary; unknown channels neither give nor receive.
    lags : sequence of int
        Samples, relative to the last one known.
    horizon : int
        What is estimated: 0 the sample itself, 1 the one after it.
    exclude_self : bool
        Whether a channel's own values are kept from its estimate (reconstruction of hidden channels).
    penalty : float
        λ of the population.
    penalty_own : sequence of float
        κ of a new subject, one per lag, around the population's weights.
    penalty_alone : float
        κ where there is no population, that is from scratch.
    """

    weight: Tensor

    def __init__(
        self,
        facts: Facts,
        /,
        *,
        lags: Sequence[int] = (-1, 0, 1),
        horizon: int = 0,
        exclude_self: bool = True,
        penalty: float = 2000.0,
        penalty_own: Sequence[float] = (2000.0, 700.0, 2000.0),
        penalty_alone: float = 300.0,
    ) -> None:
        super().__init__()
        if not facts.channels:
            raise ConfigError("skip 'ridge' needs named channels, but the data have no channel vocabulary")
        if len(penalty_own) != len(lags):
            raise ConfigError(f"skip 'ridge': penalty_own has {len(penalty_own)} numbers for {len(lags)} lags")
        if horizon < 0 or (horizon and max(lags) > 0):
            raise ConfigError(
                f"skip 'ridge': lags={list(lags)} look beyond the present, which horizon={horizon} forbids"
            )
        self.lags = tuple(int(lag) for lag in lags)
        self.horizon, self.exclude_self = horizon, exclude_self
        self.penalty, self.penalty_own, self.penalty_alone = penalty, tuple(penalty_own), penalty_alone
        n = len(facts.channels)
        # [to, from, lag]
        self.register_buffer("weight", torch.zeros(n, n, len(self.lags)))

    @torch.no_grad()
    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Solve for the weights.

        Parameters
        ----------
        stretches : iterable of NeuralBatch
            Unbroken stretches of signal, one per sample; those of a batch have equal length.
        new_subject : bool
            False: the population, from nothing. True: move the present weights towards these data.
        """
        n, n_lags = len(self.weight), len(self.lags)
        gram = torch.zeros(n * n_lags, n * n_lags, dtype=torch.float64)
        cross = torch.zeros(n * n_lags, n, dtype=torch.float64)
        for batch in stretches:
            for x in self._by_vocabulary(batch):
                features = torch.cat([_lagged(x, lag) for lag in self.lags])
                target = x[:, self.horizon :]
                features = features[:, : features.shape[1] - self.horizon]
                gram += features @ features.T
                cross += features @ target.T
        if not new_subject:
            self.weight.zero_()
        weight = self.weight.double().permute(2, 1, 0).reshape(n * n_lags, n)
        known_population = bool(weight.any())
        penalties = [self.penalty] * n_lags
        if new_subject:
            penalties = list(self.penalty_own) if known_population else [self.penalty_alone] * n_lags
        gram_penalised = gram + torch.diag(torch.tensor(penalties, dtype=torch.float64).repeat_interleave(n))
        rest = cross - gram @ weight
        if not self.exclude_self:
            weight = weight + torch.linalg.solve(gram_penalised, rest)
        else:
            for r in range(n):
                keep = torch.arange(n * n_lags) % n != r
                weight[keep, r] += torch.linalg.solve(gram_penalised[keep][:, keep], rest[keep, r])
        self.weight.copy_(weight.reshape(n_lags, n, n).permute(2, 1, 0))

    def forward(self, signal: Tensor, visible: Tensor, batch: NeuralBatch) -> Tensor:
        """Estimate every channel `horizon` samples ahead from the visible ones, (B, C, S)."""
        if batch.channel_ids is None:
            raise ConfigError("skip 'ridge' needs batch.channel_ids; load the data with a channel vocabulary")
        ids = batch.channel_ids
        known = ids > 0
        row = (ids - 1).clamp(min=0)
        weight = self.weight[row[:, :, None], row[:, None, :]]
        weight = weight * (known[:, :, None] & (known & visible)[:, None, :]).unsqueeze(-1)
        mixed = torch.zeros_like(signal)
        for i, lag in enumerate(self.lags):
            mixed = mixed + weight[..., i] @ _lagged(signal, lag)
        return mixed

    def _by_vocabulary(self, batch: NeuralBatch) -> Tensor:
        """Put the channels of a batch at their place in the vocabulary, (B, V, S) float64; absent ones are zero."""
        if batch.channel_ids is None:
            raise ConfigError("skip 'ridge' needs batch.channel_ids; load the data with a channel vocabulary")
        ids = batch.channel_ids.masked_fill(~batch.channel_mask, 0)
        full = torch.zeros(len(batch), len(self.weight) + 1, batch.signal.shape[-1], dtype=torch.float64)
        full.scatter_(1, ids[..., None].expand_as(batch.signal), batch.signal.double())
        return full[:, 1:]


def _lagged(signal: Tensor, lag: int) -> Tensor:
    """Return y with y[t] = signal[t + lag]; beyond the ends the first or last sample is repeated."""
    last = signal.shape[-1] - 1
    return signal[..., (torch.arange(last + 1, device=signal.device) + lag).clamp(0, last)]
