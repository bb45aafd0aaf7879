"""A linear path solved in closed form: ridge weights of many people, drawn towards a new person's own data.

For target channel r, F the lagged channels (for reconstruction without r's own), G = FᵀF and c = Fᵀy:
    population    w₀ = α (ΣG + Λ)⁻¹ Σc + (1 − α) mean over people of (G + κI)⁻¹ c
    new subject   w  = w₀ + (G + Λ')⁻¹ (c − G w₀)
α mixes one ridge over all people with the mean of everybody's own. Λ and Λ' are diagonal and may differ by lag and
between a channel's own past and the others. With `adaptive_power` γ they are also multiplied, feature by feature, by
(|w₁| + ε)^−γ, scaled to a geometric mean of 1, where w₁ is a first pass: what matters in the population is shrunk less,
in the manner of the adaptive lasso (Zou 2006, J Am Stat Assoc 101) but with a square penalty. The last step is the
posterior mean under a Gaussian prior at w₀.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

# keeps the penalty of a weight of zero finite; in units of weights on standardized channels
EPSILON = 0.01


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
    penalty, penalty_self : sequence of float, one per lag
        Λ of the population, for the other channels and for the channel itself (default: the same).
    penalty_own, penalty_own_self : sequence of float, one per lag
        Λ' of a new subject, likewise.
    penalty_alone, penalty_alone_self : float
        κ: of one person's own ridge, in the mixture and where there is no population (from scratch).
    pooled_share : float
        α; 1 = one ridge over all people.
    adaptive_power : float
        γ; 0 = all weights of a lag are shrunk alike.
    penalty_first : float
        Of the pooled ridge in the first pass.
    """

    weight: Tensor
    shape: Tensor

    def __init__(
        self,
        facts: Facts,
        /,
        *,
        lags: Sequence[int] = (-1, 0, 1),
        horizon: int = 0,
        exclude_self: bool = True,
        penalty: Sequence[float] = (8000.0, 8000.0, 8000.0),
        penalty_self: Sequence[float] | None = None,
        penalty_own: Sequence[float] = (3000.0, 1050.0, 3000.0),
        penalty_own_self: Sequence[float] | None = None,
        penalty_alone: float = 300.0,
        penalty_alone_self: float | None = None,
        pooled_share: float = 0.4,
        adaptive_power: float = 1.5,
        penalty_first: float = 1000.0,
    ) -> None:
        super().__init__()
        if not facts.channels:
            raise ConfigError("skip 'ridge' needs named channels, but the data have no channel vocabulary")
        self.lags = tuple(int(lag) for lag in lags)
        self.penalty, self.penalty_own = _per_lag(penalty, lags), _per_lag(penalty_own, lags)
        self.penalty_self = _per_lag(penalty_self or penalty, lags)
        self.penalty_own_self = _per_lag(penalty_own_self or penalty_own, lags)
        if horizon < 0 or (horizon and max(lags) > 0):
            raise ConfigError(
                f"skip 'ridge': lags={list(lags)} look beyond the present, not possible with horizon={horizon}"
            )
        if not 0 <= pooled_share <= 1:
            raise ConfigError(f"skip 'ridge': pooled_share={pooled_share} must lie between 0 and 1")
        self.horizon, self.exclude_self = horizon, exclude_self
        self.penalty_alone = (float(penalty_alone),) * len(self.lags)
        self.penalty_alone_self = (float(penalty_alone_self or penalty_alone),) * len(self.lags)
        self.penalty_first = penalty_first
        self.pooled_share, self.adaptive_power = pooled_share, adaptive_power
        n = len(facts.channels)
        # [to, from, lag]
        self.register_buffer("weight", torch.zeros(n, n, len(self.lags)))
        self.register_buffer("shape", torch.ones(n, n, len(self.lags)))

    @torch.no_grad()
    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Solve for the weights.

        Parameters
        ----------
        stretches : iterable of NeuralBatch
            Unbroken stretches of signal, one or more per recording.
        new_subject : bool
            False: the population, from nothing. True: move the present weights towards these data; where there are
            none, a ridge of these data alone.
        """
        people = self._moments(stretches)
        if not people:
            return
        pooled = (
            torch.stack([g for g, _ in people.values()]).sum(0),
            torch.stack([c for _, c in people.values()]).sum(0),
        )
        alone = self._flat(self._diagonal(self.penalty_alone, self.penalty_alone_self))
        if new_subject:
            if not bool(self.weight.any()):
                self._keep(self._ridge(*pooled, alone))
                return
            start = self._flat(self.weight.double())
            rest = pooled[1] - pooled[0] @ start
            penalties = self._flat(self._diagonal(self.penalty_own, self.penalty_own_self) * self.shape.double())
            self._keep(start + self._ridge(pooled[0], rest, penalties))
            return
        solo = torch.zeros_like(pooled[1])
        if self.pooled_share < 1:
            solo = torch.stack([self._ridge(g, c, alone) for g, c in people.values()]).mean(0)

        def mixture(diagonal: Tensor) -> Tensor:
            ridge = self._ridge(*pooled, self._flat(diagonal))
            return self.pooled_share * ridge + (1 - self.pooled_share) * solo

        if self.adaptive_power:
            first = self._unflat(mixture(torch.full_like(self.weight, self.penalty_first, dtype=torch.float64)))
            log_shape = -self.adaptive_power * (first.abs() + EPSILON).log()
            kept = self._features()
            level = torch.where(kept, log_shape, 0.0).sum((1, 2)) / kept.sum((1, 2))
            self.shape.copy_((log_shape - level[:, None, None]).exp())
        self._keep(mixture(self._diagonal(self.penalty, self.penalty_self) * self.shape.double()))

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

    def _moments(self, stretches: Iterable[NeuralBatch]) -> dict[str, tuple[Tensor, Tensor]]:
        """Gram matrix [F, F] and cross moments [F, V] of each person, features lag-major."""
        people: dict[str, tuple[Tensor, Tensor]] = {}
        for batch in stretches:
            for name, x in zip(_people(batch), self._by_vocabulary(batch), strict=True):
                features = torch.cat([_lagged(x, lag) for lag in self.lags])
                features = features[:, : features.shape[1] - self.horizon]
                gram, cross = features @ features.T, features @ x[:, self.horizon :].T
                if name in people:
                    gram, cross = people[name][0] + gram, people[name][1] + cross
                people[name] = gram, cross
        return people

    def _ridge(self, gram: Tensor, cross: Tensor, penalties: Tensor) -> Tensor:
        """Solve (G + diag(penalties of r)) w = c for each target r, [F, V]."""
        n = len(self.weight)
        weight = torch.zeros_like(cross)
        kept = self._flat(self._features())
        for r in range(n):
            keep = kept[:, r].nonzero().flatten()
            matrix = gram[keep][:, keep]
            matrix.diagonal().add_(penalties[keep, r])
            weight[keep, r] = torch.cholesky_solve(cross[keep, r, None], torch.linalg.cholesky(matrix))[:, 0]
        return weight

    def _features(self) -> Tensor:
        """Which weights there are, bool [to, from, lag]."""
        there = torch.ones_like(self.weight, dtype=torch.bool)
        if self.exclude_self:
            there[torch.arange(len(there)), torch.arange(len(there))] = False
        return there

    def _diagonal(self, others: Sequence[float], own: Sequence[float]) -> Tensor:
        """Penalties by lag, [to, from, lag]."""
        diagonal = torch.tensor(others, dtype=torch.float64).expand(self.weight.shape).clone()
        index = torch.arange(len(diagonal))
        diagonal[index, index] = torch.tensor(own, dtype=torch.float64)
        return diagonal

    def _flat(self, x: Tensor) -> Tensor:
        """[to, from, lag] → [lag · from, to]."""
        return x.permute(2, 1, 0).reshape(-1, len(x))

    def _unflat(self, x: Tensor) -> Tensor:
        return x.reshape(len(self.lags), len(self.weight), len(self.weight)).permute(2, 1, 0)

    def _keep(self, weight: Tensor) -> None:
        self.weight.copy_(self._unflat(weight))

    def _by_vocabulary(self, batch: NeuralBatch) -> Tensor:
        """Put the channels of a batch at their place in the vocabulary, (B, V, S) float64; absent ones are zero."""
        if batch.channel_ids is None:
            raise ConfigError("skip 'ridge' needs batch.channel_ids; load the data with a channel vocabulary")
        ids = batch.channel_ids.masked_fill(~batch.channel_mask, 0)
        full = torch.zeros(len(batch), len(self.weight) + 1, batch.signal.shape[-1], dtype=torch.float64)
        full.scatter_(1, ids[..., None].expand_as(batch.signal), batch.signal.double())
        return full[:, 1:]


def _people(batch: NeuralBatch) -> list[str]:
    """Whose each stretch is; a person who is not in the vocabulary of subjects counts once per recording."""
    recordings = list(batch.recording_id or [""] * len(batch))
    subjects = [0] * len(batch) if batch.subject is None else batch.subject.tolist()
    return [f"subject {s}" if s else r for s, r in zip(subjects, recordings, strict=True)]


def _per_lag(penalty: Sequence[float], lags: Sequence[int]) -> tuple[float, ...]:
    if len(penalty) != len(lags):
        raise ConfigError(f"skip 'ridge': penalties {list(penalty)} for lags {list(lags)}; give one per lag")
    if min(penalty) <= 0:
        raise ConfigError(f"skip 'ridge': penalties {list(penalty)} must be above 0")
    return tuple(float(p) for p in penalty)


def _lagged(signal: Tensor, lag: int) -> Tensor:
    """Return y with y[t] = signal[t + lag]; beyond the ends the first or last sample is repeated."""
    last = signal.shape[-1] - 1
    return signal[..., (torch.arange(last + 1, device=signal.device) + lag).clamp(0, last)]
